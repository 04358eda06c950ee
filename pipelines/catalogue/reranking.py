"""Rerankers as operators: from a model or an index and options to their fields."""

from pipelines.catalogue.bounded import Count, Share
from pipelines.open_index import OpenIndex
from retrievers.rerank.cross_encoder import CrossEncoderReranker
from retrievers.rerank.late_interaction import LateInteraction
from retrievers.rerank.mmr import MMR


def cross_encoder(
    *,
    model: str,
    top_k: Count | None = None,
    batch_size: Count = 32,
    download: bool = False,
) -> CrossEncoderReranker:
    """Passages in the order of a cross-encoder, which reads query and passage together.

    Source: Nogueira and Cho 2019, arXiv:1901.04085.

    Args:
        model: folder or hub id of a cross-encoder of sentence-transformers.
        top_k: passages to keep; all by default.
        batch_size: pairs that are read at a time.
        download: let it be fetched from the hub.
    """
    from rag.models.cross_encoder import load_cross_encoder

    return CrossEncoderReranker(load_cross_encoder(model, download=download), top_k, batch_size)


def late_interaction(
    *, model: str, top_k: Count | None = None, download: bool = False
) -> LateInteraction:
    """Passages by the best match of each query token, as ColBERT ranks them.

    Source: Khattab and Zaharia 2020, arXiv:2004.12832.

    Args:
        model: folder or hub id of a multi-vector encoder, or any encoder's folder or short name.
        top_k: passages to keep; all by default.
        download: let it be fetched from the hub.
    """
    from rag.models.multi_vector_encoder import load_multi_vector_encoder

    return LateInteraction(load_multi_vector_encoder(model, download=download), top_k)


def mmr(index: OpenIndex, *, top_k: Count = 3, relevance_weight: Share = 0.5) -> MMR:
    """Passages that are relevant and say different things.

    Source: Carbonell and Goldstein 1998, doi:10.1145/290941.291025.

    Args:
        index: holds the vectors.
        top_k: passages to keep, at least 1.
        relevance_weight: 1 ranks by similarity to the query alone.
    """
    return MMR(index.dense, index.encoder, top_k=top_k, relevance_weight=relevance_weight)
