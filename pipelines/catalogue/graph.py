"""Graph expansion and semantic compression as operators: from an index and options."""

from collections.abc import Mapping
from typing import Any, Literal

from pipelines.catalogue.bounded import Count, Share, Some, Weight
from pipelines.open_index import OpenIndex
from retrievers.compression.compress import GroupBy, SemanticCompression, Weighting
from retrievers.compression.objective import Kind
from retrievers.compression.selection import GreedyChoice
from retrievers.graph.expansion import GraphExpansion, Method
from retrievers.graph.settings import EdgeWeights

_EDGES = EdgeWeights()


def expand(
    index: OpenIndex,
    *,
    top_k: Count = 3,
    method: Method = "pagerank",
    damping: Share = GraphExpansion.damping,
    seeds: Some = GraphExpansion.seeds,
    unnamed_seeds: Some = GraphExpansion.unnamed_seeds,
    named: bool = True,
    graph_weight: Share = GraphExpansion.graph_weight,
    unnamed_weight: Share = GraphExpansion.unnamed_weight,
    reached: Some = GraphExpansion.reached,
    mention: Weight = _EDGES.mention,
    phrase: Weight = _EDGES.phrase,
    reference: Weight = _EDGES.reference,
    triple: Weight = _EDGES.triple,
    metadata: Weight = _EDGES.metadata,
    seq: Weight = _EDGES.seq,
    parent: Weight = _EDGES.parent,
    knn: Weight = _EDGES.knn,
    knn_symmetry: Literal["mutual", "union"] = "mutual",
    degree_cap: Count = _EDGES.degree_cap,
    filter: Mapping[str, Any] | None = None,  # noqa: A002
) -> GraphExpansion:
    """Passages that the best ones, and those the question names, lead to in the corpus graph.

    Sources: Haveliwala 2002, doi:10.1145/511446.511513; Raja and Vats 2025, arXiv:2507.19715.

    Args:
        index: made with `dovetail index --graph`.
        top_k: passages to return, at least 1.
        method: of the walk: `pagerank`, `push` for large graphs, or `hops` of two edges.
        damping: chance to go on at each step, below 1.
        seeds: best passages to start from, for a question that names one or two passages.
        unnamed_seeds: the same for another question.
        named: start from passages that the question names, too.
        graph_weight: share of the graph in the score for a question that names one passage.
        unnamed_weight: its share for a question that names none.
        reached: passages that the walk may add.
        mention: weight of edges to passages whose title, heading, alias or term is mentioned.
        phrase: weight of edges between passages that share a capitalised phrase.
        reference: weight of links to documents.
        triple: weight of edges from the user's own file.
        metadata: weight of edges between passages that share a metadata value.
        seq: weight of edges to the next passage.
        parent: weight of edges within a section.
        knn: weight of edges to the nearest vectors.
        knn_symmetry: keep such an edge if both ends have it, or if either has.
        degree_cap: edges that leave a passage, the heaviest.
        filter: a condition on metadata, such as `{year: {gte: 2020}}`; nothing else is reached.
    """
    weights = EdgeWeights(
        mention, phrase, reference, triple, metadata, seq, parent, knn, knn_symmetry, degree_cap
    )
    return GraphExpansion(
        index.graph,
        index.passages,
        top_k=top_k,
        weights=weights,
        method=method,
        damping=damping,
        seeds=seeds,
        unnamed_seeds=unnamed_seeds,
        named=named,
        graph_weight=graph_weight,
        unnamed_weight=unnamed_weight,
        reached=reached,
        within=index.existing(filter),
    )


def compress(
    index: OpenIndex,
    *,
    top_k: Count = 3,
    budget_tokens: Count | None = None,
    relevance: Weight = 1.0,
    coverage: Weight = 0.1,
    diversity: Weight = 0.3,
    kind: Kind = "logdet",
    weighting: Weighting = "minmax",
    groups: GroupBy = "document",
    greedy: GreedyChoice = "auto",
    pool: Count = 1000,
    seed: int = 0,
) -> SemanticCompression:
    """A compact set of passages that are relevant, stand for the others, and differ.

    Which bound on the best set holds for which choice: `docs/graph.md`. Source: Lin and Bilmes
    2011, aclanthology.org/P11-1052; Raja and Vats 2025, arXiv:2507.19715.

    Args:
        index: gives the passages' vectors.
        top_k: most passages to keep, at least 1.
        budget_tokens: most tokens that they may have together, by about 4/3 tokens a word.
        relevance: weight of the passages' scores.
        coverage: weight of how well they stand for the candidates.
        diversity: weight of how they differ; 0 for the kind `none`.
        kind: what diversity means; dispersion and redundancy have weaker bounds or none.
        weighting: how much it counts that a candidate is covered.
        groups: what passages of one group share, for the kind `groups`.
        greedy: how passages are chosen; `auto` goes by their number.
        pool: most candidates that are looked at.
        seed: of the stochastic greedy.
    """
    return SemanticCompression(
        index.dense,
        index.encoder,
        top_k=top_k,
        budget_tokens=budget_tokens,
        relevance=relevance,
        coverage=coverage,
        diversity=diversity,
        kind=kind,
        weighting=weighting,
        groups=groups,
        greedy=greedy,
        pool=pool,
        seed=seed,
    )
