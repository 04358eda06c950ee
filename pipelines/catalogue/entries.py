"""Short names in the vocabulary of Modular RAG (arXiv:2407.21059), and what makes each operator."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """An operator's place in the catalogue.

    Attributes:
        target: `module:attribute` of its class or factory.
        submodule: the paper's sub-module.
        extra: the extra that it needs, or empty.
    """

    target: str
    submodule: str
    extra: str = ""


@dataclass(frozen=True)
class ResourceEntry:
    """A resource's place in the catalogue.

    Attributes:
        target: `module:attribute` of what opens it.
        kind: of resource.
        extra: the extra that it needs, or empty.
    """

    target: str
    kind: str
    extra: str = ""


MODULES = {
    "query": "pre-retrieval",
    "route": "orchestration",
    "retrieve": "retrieval",
    "rerank": "post-retrieval",
    "expand": "retrieval",
    "compress": "post-retrieval",
    "fuse": "orchestration",
    "select": "post-retrieval",
    "prune": "post-retrieval",
    "generate": "generation",
    "judge": "orchestration",
}
"""The paper's module of each first half of a short name, in the order of a flow."""

_MADE = "pipelines.catalogue.factories"
_FOUND = "pipelines.catalogue.retrieval"
_ORDERED = "pipelines.catalogue.reranking"
_PRUNED = "pipelines.catalogue.pruning"
_GRAPH = "pipelines.catalogue.graph"
_ROUTED = "pipelines.catalogue.routing"
_CORPORA = "pipelines.catalogue.corpora"

OPERATORS = {
    "query.rewrite": Entry("rag.query.rewrite:Rewrite", "query transformation"),
    "query.step_back": Entry("rag.query.step_back:StepBack", "query transformation"),
    "query.hyde": Entry("rag.query.hyde:HyDE", "query transformation"),
    "query.condense": Entry("rag.query.condense:Condense", "query transformation"),
    "query.append_answer": Entry("rag.query.append_answer:AppendAnswer", "query transformation"),
    "query.from_completion": Entry(
        "rag.query.from_completion:QueryFromCompletion", "query transformation"
    ),
    "query.multi": Entry("rag.query.multi_query:MultiQuery", "query expansion"),
    "query.decompose": Entry("rag.query.decompose:Decompose", "query expansion"),
    "query.clarify": Entry("rag.query.clarify:Clarify", "query expansion"),
    "route.rules": Entry("rag.routing.rules:RuleRouter", "routing"),
    "route.complexity": Entry("rag.routing.complexity:ComplexityRouter", "routing"),
    "route.descriptions": Entry("rag.routing.descriptions:DescriptionRouter", "routing"),
    "route.examples": Entry("rag.routing.examples:ExampleRouter", "routing"),
    "route.classifier": Entry(f"{_ROUTED}:classifier", "routing"),
    "route.lm": Entry("rag.routing.lm:LMRouter", "routing"),
    "route.ensemble": Entry(f"{_ROUTED}:ensemble", "routing"),
    "route.evidence": Entry(f"{_CORPORA}:evidence", "routing"),
    "route.corpora": Entry(f"{_CORPORA}:route", "routing"),
    "retrieve.sparse": Entry(f"{_FOUND}:sparse", "retriever selection"),
    "retrieve.learned": Entry(f"{_FOUND}:learned", "retriever selection"),
    "retrieve.dense": Entry(f"{_FOUND}:dense", "retriever selection"),
    "retrieve.hybrid": Entry(f"{_FOUND}:hybrid", "retriever selection"),
    "retrieve.corpora": Entry(f"{_CORPORA}:retrieve", "retriever selection"),
    "expand.graph": Entry(f"{_GRAPH}:expand", "graph expansion"),
    "compress.semantic": Entry(f"{_GRAPH}:compress", "compression"),
    "rerank.cross_encoder": Entry(f"{_ORDERED}:cross_encoder", "reranking"),
    "rerank.late_interaction": Entry(f"{_ORDERED}:late_interaction", "reranking"),
    "rerank.mmr": Entry(f"{_ORDERED}:mmr", "reranking"),
    "fuse.rrf": Entry("retrievers.fusion.rrf:RRF", "fusion"),
    "fuse.interleave": Entry("retrievers.fusion.interleave:Interleave", "fusion"),
    "fuse.minmax": Entry("retrievers.fusion.minmax:MinMax", "fusion"),
    "fuse.zscore": Entry("retrievers.fusion.zscore:ZScore", "fusion"),
    "fuse.dbsf": Entry("retrievers.fusion.dbsf:DBSF", "fusion"),
    "fuse.tm2c2": Entry("retrievers.fusion.tm2c2:TM2C2", "fusion"),
    "fuse.borda": Entry("retrievers.fusion.borda:Borda", "fusion"),
    "fuse.union": Entry("retrievers.fusion.union:Union", "fusion"),
    "fuse.vote": Entry("rag.generation.vote:Vote", "fusion"),
    "fuse.best": Entry("rag.generation.best_supported:BestSupported", "fusion"),
    "fuse.answers": Entry("rag.generation.merge_answers:MergeAnswers", "fusion"),
    "select.single": Entry("rag.generation.single:SinglePassage", "selection"),
    "select.relevant": Entry("pruners.relevant:RelevantPassages", "selection"),
    "prune.all": Entry(f"{_PRUNED}:keep_all", "selection"),
    "prune.random": Entry(f"{_PRUNED}:random", "selection"),
    "prune.lead": Entry(f"{_PRUNED}:lead", "selection"),
    "prune.bm25": Entry(f"{_PRUNED}:bm25", "selection"),
    "prune.cosine": Entry(f"{_PRUNED}:cosine", "selection"),
    "prune.sentences": Entry(f"{_PRUNED}:sentences", "selection"),
    "prune.features": Entry(f"{_PRUNED}:features", "selection"),
    "prune.provence": Entry(f"{_PRUNED}:provence", "selection"),
    "prune.words": Entry(f"{_PRUNED}:words", "selection"),
    "prune.self_information": Entry(f"{_PRUNED}:self_information", "selection"),
    "prune.llm_extract": Entry(f"{_PRUNED}:llm_extract", "selection"),
    "generate.cached": Entry("pipelines.catalogue.generation:cached", "generation"),
    "generate.sentence": Entry("rag.generation.sentence:GenerateSentence", "generation"),
    "generate.append": Entry("rag.generation.append:AppendSentence", "generation"),
    "generate.ensemble": Entry("rag.generation.ensemble:GenerateEnsemble", "generation"),
    "generate.assemble": Entry("rag.generation.assemble:AssembleAnswer", "generation"),
    "judge.confidence": Entry("rag.judging.confidence:Confidence", "scheduling"),
    "judge.answer_stable": Entry("rag.judging.stability:AnswerStable", "scheduling"),
    "judge.needs_retrieval": Entry("rag.judging.needs_retrieval:NeedsRetrieval", "scheduling"),
    "judge.relevance": Entry("rag.judging.relevance:Relevance", "scheduling"),
    "judge.support": Entry("rag.judging.support:Support", "verification"),
    "judge.lm": Entry("rag.judging.critique:LMJudge", "scheduling"),
}

RESOURCES = {
    "index.folder": ResourceEntry(f"{_MADE}:index_folder", "index"),
    "index.corpora": ResourceEntry(f"{_MADE}:index_corpora", "index"),
    "lm.transformers": ResourceEntry(f"{_MADE}:local_model", "lm"),
    "lm.openai_compatible": ResourceEntry(f"{_MADE}:openai_compatible", "lm"),
    "kv.disk": ResourceEntry(f"{_MADE}:disk_store", "kv"),
}
