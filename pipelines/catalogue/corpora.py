"""Routes to corpora, and retrieval from those of a route: from open corpora and options."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipelines.catalogue.bounded import Count, Share, Some, Weight
from pipelines.catalogue.retrieval import hybrid
from pipelines.corpora.open_corpora import OpenCorpora
from pipelines.open_index import OpenIndex
from pruners.budgets import estimated_tokens
from rag.generation.templates import sentence_piece
from rag.protocols import Retriever, TextModel
from rag.routing.corpora import CorpusRouter
from rag.routing.evidence import CorpusSearch, EvidenceRouter
from rag.routing.policies import Policy
from retrievers.corpora.routed import RoutedRetriever
from retrievers.filters import Filter, MetadataIndex
from retrievers.fusion.fuse import Method
from retrievers.hybrid import Interpolation
from retrievers.images.image_retriever import ImageRetriever, Scale
from retrievers.images.vision_index import VisionIndex


def route(
    index: OpenIndex | OpenCorpora,
    *,
    policy: Policy = "top_p",
    threshold: Share = 0.9,
    most: Count = 2,
) -> CorpusRouter:
    """Turns a route into the corpora that are asked, all of which have passages.

    A label without passages gives way to the most probable corpus of its modality, or of any where
    none is left; the route then says why, and that it is a fallback. `none` goes alone.

    Args:
        index: corpora, or a single index, which counts as a corpus of paragraphs.
        policy: `single` the first label; `unsure` the first if its probability reaches the
            threshold, else the `most` best; `threshold` every label that reaches it; `top_p` the
            most probable until they add up to it; `all` all labels of the route.
        threshold: of the policy.
        most: of `unsure`: labels where the router is not sure.
    """
    corpora = _corpora(index)
    return CorpusRouter(
        tuple(corpora.corpora),
        tuple(corpora.empty),
        dict(corpora.modalities),
        policy=policy,
        threshold=threshold,
        most=most,
        place=str(corpora.where),
    )


def evidence(
    index: OpenIndex | OpenCorpora,
    *,
    cosine_weight: Weight = 14.0,
    term_weight: Weight = 1.0,
    prior_weight: Weight = 0.4,
) -> EvidenceRouter:
    """Corrects the probabilities of a route by the best passage that each corpus has.

    Each corpus is searched once, for one passage. Labels without a corpus keep their probability.
    Source: Si and Callan 2003, doi:10.1145/860435.860490, for what is asked of the corpora.

    Args:
        index: corpora, or a single index, which counts as a corpus of paragraphs.
        cosine_weight: of the cosine of the best passage.
        term_weight: of the BM25 score of the best passage for each term of the question.
        prior_weight: of the router's log-probability; 0 leaves it to the corpora.
    """
    corpora = _corpora(index)
    return EvidenceRouter(
        {label: corpus_search(found) for label, found in corpora.corpora.items()},
        corpora.encoder,
        cosine_weight=cosine_weight,
        term_weight=term_weight,
        prior_weight=prior_weight,
        modalities=dict(corpora.modalities),
    )


def corpus_search(index: OpenIndex) -> CorpusSearch:
    """Return how an index is asked for evidence."""
    terms = index.term_index.analyser.query_terms
    return CorpusSearch(index.sparse, index.dense, lambda text: len(terms(text)))


def retrieve(
    index: OpenIndex | OpenCorpora,
    lm: TextModel | None = None,
    *,
    top_k: Count = 5,
    tokens: Count | None = 1024,
    interpolation: Interpolation = "none",
    sparse_weight: Share = 0.5,
    k: Some = 3,
    fusion: Method = "minmax",
    depth: Count = 1000,
    k1: Weight = 0.9,
    b: Share = 0.4,
    rrf_k: Some = 60,
    image_weight: Share = 0.8,
    image_scale: Scale = "raw",
    filter: Mapping[str, Any] | None = None,  # noqa: A002
) -> RoutedRetriever:
    """Passages of the corpora that a route names, by terms and vectors, within a token budget.

    Corpora of one modality are fused by ranks, and of passages that stand inside each other the
    better stays. Modalities follow each other, the most probable first. Where pictures or frames
    have vectors (`dovetail index --corpora --image-encoder`), their corpora are searched by what
    is seen and by what is said of it together.

    Args:
        index: corpora, or a single index, which counts as a corpus of paragraphs.
        lm: the language model; its tokenizer counts `tokens`, where it runs here.
        top_k: passages in all, at least 1, whose places the modalities share as they share tokens.
        tokens: the most to return, titles included, shared by the modalities' probabilities; the
            best passage of the most probable one is returned even if it is longer. None keeps all.
        interpolation: as of `retrieve.hybrid`.
        sparse_weight: weight of the sparse leg, in [0, 1].
        k: feedback passages; 0 is no feedback.
        fusion: how the legs are fused.
        depth: hits taken from each leg, at least `top_k`.
        k1: of BM25, how slowly repetition saturates.
        b: of BM25, how far length counts.
        rrf_k: how slowly the weight of a rank falls where corpora of one modality are fused.
        image_weight: weight of what is seen, against the text of a picture, where it has a vector.
        image_scale: how the two are made comparable; `minmax` scales each over its candidates.
        filter: a condition on metadata, such as `{year: {gte: 2020}}`; some passage of any corpus
            must have the field.
    """
    corpora = _corpora(index)
    within = _selected(corpora, filter)

    def searched(found: OpenIndex) -> Retriever:
        if corpora.vision is not None and any(id_ in found.passages for id_ in corpora.vision.ids):
            return _seen(found, corpora.vision, top_k, image_weight, image_scale, depth, within)
        made = hybrid(
            found,
            top_k=top_k,
            interpolation=interpolation,
            sparse_weight=sparse_weight,
            k=k,
            fusion=fusion,
            depth=depth,
            k1=k1,
            b=b,
        )
        return replace(made, within=within)

    retrievers = {label: searched(found) for label, found in corpora.corpora.items()}
    return RoutedRetriever(
        retrievers,
        _counter(lm),
        dict(corpora.modalities),
        tokens=tokens,
        rrf_k=rrf_k,
        top_k=top_k,
    )


def _seen(
    index: OpenIndex,
    vision: VisionIndex,
    top_k: int,
    image_weight: float,
    scale: Scale,
    depth: int,
    within: frozenset[str] | None,
) -> ImageRetriever:
    """Return what searches a corpus by its pictures too; other corpora's pictures do not count."""
    own = frozenset(index.passages)
    encoder = vision.encoder
    assert encoder is not None  # `open_vision` promises one
    return ImageRetriever(
        index.dense,
        vision,
        index.encoder,
        encoder,
        index.passages,
        top_k=top_k,
        image_weight=image_weight,
        scale=scale,
        depth=depth,
        within=own if within is None else own & within,
    )


def _corpora(index: OpenIndex | OpenCorpora) -> OpenCorpora:
    """Return the corpora of a resource; a single index says that it is taken for paragraphs."""
    if isinstance(index, OpenCorpora):
        return index
    note = (
        "the index is a single one, so it is the corpus `paragraph` and every question that needs "
        "passages goes there; `dovetail index PATH -o DIR --corpora` makes one a modality"
    )
    if note not in index.notes:
        index.notes.append(note)
    return OpenCorpora.of(index)


def _selected(corpora: OpenCorpora, wanted: Mapping[str, Any] | None) -> frozenset[str] | None:
    """Return the ids that a filter lets through; None for no filter, which lets through all.

    Raises:
        ValueError: if it is no filter, or names a field that no passage of any corpus has.
    """
    if wanted is None:
        return None
    metadata = ((id_, passage.metadata) for id_, passage in corpora.passages.items())
    return MetadataIndex(metadata).select(Filter.parse(wanted))


def _counter(lm: TextModel | None) -> Callable[[str], int]:
    """Return what counts a text's tokens, as pruners do for their budget."""
    prompt = getattr(lm, "prompt", None)
    if prompt is None:
        return estimated_tokens
    return lambda text: len(prompt.ids(sentence_piece(text)))
