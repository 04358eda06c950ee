"""Pruners: which sentences of a passage a query needs."""

from rag.lazy import lazy_names

_HOMES = {
    "BM25Sentences": "pruners.bm25",
    "CosineSentences": "pruners.cosine",
    "FeatureHead": "pruners.features.head",
    "FeatureScorer": "pruners.features.scorer",
    "KeepAll": "pruners.controls",
    "LLMExtract": "pruners.llm_extract",
    "LeadSentences": "pruners.controls",
    "ProvenceScorer": "pruners.provence.scorer",
    "RandomSentences": "pruners.controls",
    "RelevantPassages": "pruners.relevant",
    "SelfInformation": "pruners.self_information",
    "SentenceMix": "pruners.sentences",
    "SentencePruner": "pruners.sentences",
    "ThresholdPruner": "pruners.threshold",
    "WordScorer": "pruners.words",
    "estimated_tokens": "pruners.budgets",
    "load_provence": "pruners.provence.load",
    "sentence_texts": "pruners.scored_texts",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)
