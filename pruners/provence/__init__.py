"""The Provence architecture: one pass scores the sentences of a passage and the passage."""

from rag.lazy import lazy_names

_HOMES = {
    "AdapterConfig": "pruners.provence.adapter",
    "Block": "pruners.provence.pair_tokens",
    "LoRA": "rag.training.lora",
    "PairBatch": "pruners.provence.batches",
    "ProvenceModel": "pruners.provence.model",
    "ProvenceScorer": "pruners.provence.scorer",
    "RerankHead": "pruners.provence.heads",
    "TopLayers": "pruners.provence.top_layers",
    "collate": "pruners.provence.batches",
    "load_adapter": "pruners.provence.adapter",
    "load_provence": "pruners.provence.load",
    "load_trunk": "pruners.provence.trunk",
    "merge_lora": "rag.training.lora",
    "new_model": "pruners.provence.adapter",
    "pair_blocks": "pruners.provence.pair_tokens",
    "prior_logits": "pruners.provence.scorer",
    "save_adapter": "pruners.provence.adapter",
    "sentence_score": "pruners.provence.rounding",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)
