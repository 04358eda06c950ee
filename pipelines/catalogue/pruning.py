"""Pruners as operators: a factory a scorer, and one place that gives each the shell's options."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pipelines.catalogue.bounded import Count, Share, Some, Weight
from pipelines.open_index import OpenIndex
from pruners.bm25 import BM25Sentences
from pruners.budgets import estimated_tokens
from pruners.controls import KeepAll, LeadSentences, RandomSentences
from pruners.cosine import CosineSentences
from pruners.features.head import FeatureHead
from pruners.features.scorer import FeatureScorer
from pruners.provence.load import Precision, load_provence
from pruners.provence.rounding import Rounding
from pruners.provence.scorer import Rerank
from pruners.sentences import SentenceMix
from pruners.threshold import ThresholdPruner
from rag.bounds import Bounds
from rag.generation.templates import sentence_piece
from rag.protocols import SentenceScorer, TextModel
from rag.records import Budget

_THRESHOLD = 0.1
"""Of a scorer that does not say: what Provence's authors call conservative."""


def _shell(
    scorer: SentenceScorer,
    lm: TextModel | None = None,
    *,
    threshold: Weight | None = None,
    always_select_title: bool = False,
    protect: list[str] | None = None,
    min_keep: Some = 1,
    skip_below_chars: Some = 0,
    timeout_s: Annotated[float, Bounds(low=0, open_low=True)] | None = None,
    on_error: Literal["keep", "raise"] = "keep",
    max_tokens: Some | None = None,
    budget_scope: Literal["query", "passage"] = "query",
    per_passage_min: Some = 0,
    reorder: bool = False,
    top_k: Count | None = None,
) -> ThresholdPruner:
    """A pruner over a scorer.

    Args:
        scorer: gives each sentence a score.
        lm: the language model; its tokenizer counts `max_tokens`, where it runs here.
        threshold: the score that a sentence must exceed; 0 keeps all.
        always_select_title: keep a passage's first sentence too where any of its sentences stays.
        protect: regular expressions; every sentence that a match touches stays.
        min_keep: best sentences that stay whatever their score.
        skip_below_chars: a passage of fewer characters stays whole.
        timeout_s: the longest that scoring a query's passages may take; late ones stay whole.
        on_error: when scoring fails, `keep` keeps everything with a warning, `raise` fails.
        max_tokens: the most to keep, best sentences first, until one does not fit; titles and what
            the prompt puts around passages do not count. All by default.
        budget_scope: whether `max_tokens` holds for all passages together or for each.
        per_passage_min: with `max_tokens`, sentences of each passage that go before all others.
        reorder: give passages back by the scorer's own score of each, best first.
        top_k: passages to give back; all by default.
    """
    if threshold is None:
        threshold = getattr(scorer, "threshold", None)
    budget = None if max_tokens is None else Budget(max_tokens, per_passage_min, budget_scope)
    return ThresholdPruner(
        scorer,
        threshold=_THRESHOLD if threshold is None else threshold,
        always_select_title=always_select_title,
        protect=tuple(protect or ()),
        min_keep=min_keep,
        skip_below_chars=skip_below_chars,
        timeout_s=timeout_s,
        on_error=on_error,
        budget=budget,
        count=_counter(lm),
        reorder=reorder,
        top_k=top_k,
    )


def _operator(
    make: Callable[..., SentenceScorer], *, reranks: bool = False, **defaults: Any
) -> Callable[..., ThresholdPruner]:
    """Return a factory with the options and docs of a scorer's factory and of the shell.

    Args:
        make: makes the scorer; its docstring may end with `Args:`.
        reranks: whether its scores rank passages too; else it has no `reorder` and `top_k`.
        defaults: of the shell's options, where this operator has others. Without a `threshold`
            the scorer says which, by an attribute of that name.
    """
    left_out = {"scorer"} if reranks else {"scorer", "reorder", "top_k"}
    shell = {
        name: parameter.replace(default=defaults.get(name, parameter.default))
        for name, parameter in signature(_shell).parameters.items()
        if name not in left_out
    }
    own = signature(make).parameters

    def factory(**options: Any) -> ThresholdPruner:
        asked = {name: options[name] for name in own if name in options}
        decided = {name: options[name] for name in shell if name in options}
        return _shell(make(**asked), **{**defaults, **decided})

    described: Any = factory
    parameters = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in {**own, **shell, **own}.values()
    ]
    described.__signature__ = Signature(parameters, return_annotation=ThresholdPruner)
    described.__annotations__ = {
        **get_type_hints(_shell, include_extras=True),
        **({"threshold": Weight} if defaults.get("threshold") is not None else {}),
        **get_type_hints(make, include_extras=True),
        "return": ThresholdPruner,
    }
    text, _, about = cleandoc(make.__doc__ or "").partition("\n\nArgs:\n")
    _, _, shared = cleandoc(_shell.__doc__ or "").partition("\n\nArgs:\n")
    described.__doc__ = f"{text}\n\nArgs:\n{about}\n{shared}"
    described.__name__ = described.__qualname__ = make.__name__
    return factory


def _counter(lm: TextModel | None) -> Callable[[str], int]:
    """Return what counts a text's tokens as the prompt of a model that runs here holds them."""
    prompt = getattr(lm, "prompt", None)
    if prompt is None:
        return estimated_tokens
    return lambda text: len(prompt.ids(sentence_piece(text)))


def _all() -> KeepAll:
    """Keeps every sentence: what a pipeline costs and finds without pruning."""
    return KeepAll()


def _random(*, rate: Share = 0.5, seed: int = 0) -> RandomSentences:
    """Keeps sentences by chance: what a pruner finds without looking.

    Args:
        rate: share of sentences to keep at threshold 0.5, in [0, 1].
        seed: another one chooses others.
    """
    return RandomSentences(rate, seed)


def _lead(*, k: Some = 3) -> LeadSentences:
    """Keeps the first sentences of each passage, whatever the query.

    Args:
        k: sentences to keep of each passage at threshold 0.5.
    """
    return LeadSentences(k)


def _bm25() -> BM25Sentences:
    """Keeps the sentences that share the query's terms, by BM25 over the best sentence's.

    Source: Robertson and Zaragoza 2009, doi:10.1561/1500000019.
    """
    return BM25Sentences()


def _cosine(index: OpenIndex) -> CosineSentences:
    """Keeps the sentences whose vectors are close to the query's; `threshold` is a cosine.

    Args:
        index: holds the vectors of all sentences.
    """
    return CosineSentences(index.encoder, index.sentence_vectors)


def _sentences(index: OpenIndex, *, similarity_weight: Share = 0.6) -> SentenceMix:
    """Marks the sentences of each passage that the query needs, by vector and by terms.

    Args:
        index: holds the vectors of all sentences.
        similarity_weight: weight of the vectors, in [0, 1].
    """
    return SentenceMix(index.encoder, similarity_weight, index.sentence_vectors)


def _features(index: OpenIndex, *, model: Path | None = None) -> FeatureScorer:
    """Keeps the sentences that a small trained head over vectors and terms finds useful.

    Args:
        index: holds the vectors of all sentences.
        model: the folder of a head that `dovetail train pruner` made; by default the one that comes
            with Dovetail.
    """
    head = FeatureHead.load() if model is None else FeatureHead.load(model)
    return FeatureScorer(index.encoder, head, index.sentence_vectors)


def _provence(
    index: OpenIndex | None = None,
    *,
    model: str = "minilm",
    rounding: Rounding | None = None,
    precision: Precision = "float32",
    batch_size: Count = 16,
    rerank: Rerank = "logit",
    download: bool = False,
) -> SentenceScorer:
    """Keeps the sentences that a model which reads query and passage together finds useful.

    The same pass scores the passage, so with `reorder` and `top_k` it stands in for a reranker. By
    default `threshold` is the one that the model was tuned for, or 0.1.

    Source: Chirkova et al. 2025 (Provence), arXiv:2501.16214.

    Args:
        index: holds the vectors of all sentences and their encoder, which the model `minilm` adds
            to what it reads; without it each sentence is encoded when asked for.
        model: `minilm`, the folder of an adapter that `dovetail train pruner` made, or the folder
            or hub id of a published checkpoint.
        rounding: how the probabilities of a sentence's tokens become its score; by default as the
            model was trained.
        precision: of the forward pass.
        batch_size: blocks of text that are read at a time.
        rerank: what a passage's own score is: the raw logit, its probability, or none.
        download: let a model be fetched from the hub.
    """
    return load_provence(
        model,
        encoder=None if index is None else index.encoder,
        sentence_vectors=None if index is None else index.sentence_vectors,
        download=download,
        precision=precision,
        rounding=rounding,
        batch_size=batch_size,
        rerank=rerank,
    )


keep_all = _operator(_all, threshold=0.0)
random = _operator(_random, threshold=0.5)
lead = _operator(_lead, threshold=0.5)
bm25 = _operator(_bm25, threshold=0.2)
cosine = _operator(_cosine, threshold=0.3)
# Stricter than the pruner's own default, as the default model answers better from less text.
sentences = _operator(_sentences, threshold=0.4)
features = _operator(_features)
provence = _operator(_provence, reranks=True)
