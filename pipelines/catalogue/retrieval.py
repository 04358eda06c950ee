"""Retrievers as operators: from an index and options to their fields."""

from collections.abc import Mapping
from typing import Any, Literal

from pipelines.catalogue.bounded import Count, Share, Some, Weight
from pipelines.learned_index import learned_sparse
from pipelines.open_index import OpenIndex
from rag.protocols import SparseSearch
from retrievers.feedback.vector import VectorFeedback
from retrievers.fusion.fuse import Method, Missing
from retrievers.hybrid import Hybrid, Interpolation
from retrievers.single import Dense, Sparse
from retrievers.sparse.rm3 import RM3
from retrievers.sparse.rocchio import SparseRocchio
from retrievers.sparse.weighting import BM25, Variant

Expansion = Literal["none", "rm3", "rocchio"]
SparseLeg = Literal["bm25", "rm3", "rocchio", "learned"]


def sparse(
    index: OpenIndex,
    *,
    top_k: Count = 3,
    variant: Variant = "lucene",
    k1: Weight = 0.9,
    b: Share = 0.4,
    expansion: Expansion = "none",
    expansion_passages: Count = 10,
    expansion_terms: Count = 10,
    original_weight: Share = 0.5,
    filter: Mapping[str, Any] | None = None,  # noqa: A002
) -> Sparse:
    """Passages by BM25 over terms, the query expanded by feedback if wanted.

    Source: Robertson and Zaragoza 2009, doi:10.1561/1500000019; RM3: Abdul-Jaleel et al. 2004,
    with Anserini's conventions.

    Args:
        index: what to search.
        top_k: passages to return, at least 1.
        variant: which formula.
        k1: how slowly repetition saturates.
        b: how far length counts.
        expansion: `rm3` or `rocchio` add terms of the first ranking's passages.
        expansion_passages: how many of them.
        expansion_terms: terms that are added.
        original_weight: share of the query's own terms in `rm3`.
        filter: a condition on metadata, such as `{year: {gte: 2020}}`.
    """
    found = index.term_index.with_weighting(BM25(variant=variant, k1=k1, b=b))
    search: SparseSearch = found
    if expansion == "rm3":
        search = RM3(
            found,
            feedback_passages=expansion_passages,
            feedback_terms=expansion_terms,
            original_weight=original_weight,
        )
    elif expansion == "rocchio":
        search = SparseRocchio(found, passages=expansion_passages, terms=expansion_terms)
    return Sparse(
        index.scoped_terms(search), index.passages, top_k=top_k, within=index.select(filter)
    )


def learned(
    index: OpenIndex,
    *,
    model: str = "",
    top_k: Count = 3,
    max_terms: Count = 256,
    download: bool = False,
    filter: Mapping[str, Any] | None = None,  # noqa: A002
) -> Sparse:
    """Passages by learned term weights, of SPLADE or another sparse encoder.

    The passages are encoded when an index is first asked with a model, which takes a while; their
    weights are kept in the user's cache. Source: Formal et al. 2021, arXiv:2109.10086.

    Args:
        index: what to search.
        model: folder or hub id of a sparse encoder of sentence-transformers.
        top_k: passages to return, at least 1.
        max_terms: terms that are kept of a text, the heaviest.
        download: let it be fetched from the hub.
        filter: a condition on metadata, such as `{year: {gte: 2020}}`.
    """
    search = learned_sparse(index, model, max_terms=max_terms, download=download)
    return Sparse(
        index.scoped_terms(search), index.passages, top_k=top_k, within=index.select(filter)
    )


def dense(
    index: OpenIndex,
    *,
    top_k: Count = 3,
    filter: Mapping[str, Any] | None = None,  # noqa: A002
) -> Dense:
    """Passages by the cosine of query and passage vectors.

    Args:
        index: what to search.
        top_k: passages to return, at least 1.
        filter: a condition on metadata, such as `{year: {gte: 2020}}`.
    """
    within = index.select(filter)
    return Dense(index.dense, index.encoder, index.passages, top_k=top_k, within=within)


def hybrid(
    index: OpenIndex,
    *,
    top_k: Count = 3,
    interpolation: Interpolation = "none",
    sparse_weight: Share = 0.5,
    feedback_weight: Share | None = None,
    feedback: Literal["rocchio", "average"] = "rocchio",
    k: Some = 3,
    alpha: Weight = 0.7,
    beta: Weight = 0.3,
    gamma: Weight = 0.0,
    bottom_k: Some = 0,
    fusion: Method = "minmax",
    missing: Missing = "zero",
    depth: Count = 1000,
    sparse: SparseLeg = "bm25",
    sparse_model: str | None = None,
    k1: Weight = 0.9,
    b: Share = 0.4,
    filter: Mapping[str, Any] | None = None,  # noqa: A002
) -> Hybrid:
    """Passages by terms and vectors together, fused before, after or around vector feedback.

    Source: Li et al. 2022, arXiv:2205.00235.

    Args:
        index: what to search.
        top_k: passages to return, at least 1.
        interpolation: `none` fuses without feedback; with feedback on the query's vector, `dense`
            never fuses, `pre` fuses the ranking that gives feedback, `post` the final one, `both`
            both.
        sparse_weight: weight of the sparse leg, in [0, 1]; `dovetail tune` finds it.
        feedback_weight: its weight in the ranking that gives feedback, if another.
        feedback: `rocchio` weighs query and passages by alpha and beta, `average` weighs all alike.
        k: feedback passages; 0 is no feedback.
        alpha: weight of the query's vector.
        beta: weight of the feedback passages' mean.
        gamma: weight of the mean of the worst passages, which is subtracted.
        bottom_k: how many of the worst.
        fusion: how the legs are fused.
        missing: what a passage counts in a leg that lacks it.
        depth: hits taken from each leg, at least `top_k`.
        sparse: the sparse leg.
        sparse_model: sparse encoder of the leg `learned`.
        k1: of BM25, how slowly repetition saturates.
        b: of BM25, how far length counts.
        filter: a condition on metadata, such as `{year: {gte: 2020}}`.
    """
    if (sparse == "learned") != (sparse_model is not None):
        raise ValueError(
            "sparse_model must name a sparse encoder for sparse: learned, and only for it, "
            f"got {sparse_model!r} for {sparse}"
        )
    return Hybrid(
        index.scoped_terms(_leg(index, sparse, sparse_model, BM25(k1=k1, b=b))),
        index.dense,
        index.encoder,
        index.passages,
        top_k=top_k,
        interpolation=interpolation,
        sparse_weight=sparse_weight,
        feedback_weight=feedback_weight,
        feedback=VectorFeedback(feedback, alpha, beta, gamma, k, bottom_k),
        fusion=fusion,
        missing=missing,
        depth=depth,
        within=index.select(filter),
    )


def _leg(index: OpenIndex, name: SparseLeg, model: str | None, weighting: BM25) -> SparseSearch:
    if model is not None:
        return learned_sparse(index, model)
    found = index.term_index.with_weighting(weighting)
    if name == "rm3":
        return RM3(found)
    return SparseRocchio(found) if name == "rocchio" else found
