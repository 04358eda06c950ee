"""Pruners as operators: a factory a scorer, and one place that gives each the shell's options."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

from pipelines.catalogue.bounded import Count, Share, Some, Weight
from pipelines.open_index import OpenIndex
from pruners.bm25 import BM25Sentences
from pruners.budgets import estimated_tokens
from pruners.controls import KeepAll, LeadSentences, RandomSentences
from pruners.cosine import CosineSentences
from pruners.features.head import FeatureHead
from pruners.features.scorer import FeatureScorer
from pruners.llm_extract import INSTRUCTIONS, LLMExtract
from pruners.provence.load import Precision, load_provence
from pruners.provence.rounding import Rounding
from pruners.provence.scorer import Rerank
from pruners.provence.token_values import ProvenceTokens
from pruners.rates import RateScope
from pruners.self_information import WINDOW, SelfInformation
from pruners.sentences import SentenceMix
from pruners.threshold import ThresholdPruner
from pruners.token_values import TokenScorer
from pruners.words import WordScorer
from rag.bounds import Bounds
from rag.generation.local_model import LocalModel
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
    always_select_title: bool | None = None,
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
        always_select_title: keep a passage's first sentence too where any of its sentences stays;
            by default only for published models that do.
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
    if always_select_title is None:
        always_select_title = bool(getattr(scorer, "always_select_title", False))
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
    # What the scorer's factory says of an option stands last, and so over what the shell says.
    described.__doc__ = f"{text}\n\nArgs:\n{shared}\n{about}"
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


def _features(index: OpenIndex, *, model: Path | None = None) -> FeatureScorer | SentenceMix:
    """Keeps the sentences that a small trained head over vectors and terms finds useful.

    The head that comes with Dovetail reads vectors of `minilm`. Over an index of another encoder
    `prune.sentences` scores instead, on its own scale, and a note says so.

    Args:
        index: holds the vectors of all sentences.
        model: the folder of a head that `dovetail train pruner` made; by default the one that comes
            with Dovetail.
    """
    head = FeatureHead.load() if model is None else FeatureHead.load(model)
    if model is None and head.encoder_fingerprint != index.encoder.fingerprint:
        note = (
            f"prune.features knows vectors of {head.encoder!r} and the index has those of "
            f"{index.encoder.name!r}: prune.sentences takes its place; `dovetail train pruner` "
            "makes a head for another encoder"
        )
        if note not in index.notes:
            index.notes.append(note)
        return SentenceMix(index.encoder, sentence_vectors=index.sentence_vectors)
    return FeatureScorer(index.encoder, head, index.sentence_vectors)


def _provence(
    index: OpenIndex | None = None,
    *,
    model: str = "minilm",
    rounding: Rounding | None = None,
    precision: Precision = "float32",
    batch_size: Count = 16,
    rerank: Rerank | None = None,
    download: bool = False,
) -> SentenceScorer:
    """Keeps the sentences that a model which reads query and passage together finds useful.

    The same pass scores the passage, so with `reorder` and `top_k` it stands in for a reranker. By
    default `threshold` is the one that the model was tuned for, or 0.1.

    Source: Chirkova et al. 2025 (Provence), arXiv:2501.16214.

    Args:
        index: holds the vectors of all sentences and their encoder, which the model `minilm` adds
            to what it reads; without it, or with another encoder, each sentence is encoded when
            asked for.
        model: `minilm`, the folder of an adapter that `dovetail train pruner` made, or the folder
            or hub id of a published checkpoint.
        rounding: how the probabilities of a sentence's tokens become its score; by default as the
            model was trained.
        precision: of the forward pass.
        batch_size: blocks of text that are read at a time.
        rerank: what a passage's own score is: the raw logit, its probability, or none; by default
            as the model was published.
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


def _words(
    index: OpenIndex | None = None,
    lm: TextModel | None = None,
    *,
    tokens: Literal["provence", "self_information"] = "provence",
    rate: Share | None = 0.5,
    rate_scope: RateScope = "passage",
    force: list[str] | None = None,
    force_digits: bool = True,
    force_identifiers: bool = True,
    drop_consecutive: bool = False,
    word_value: Literal["mean", "first"] = "mean",
    contrast: bool = False,
    model: str = "minilm",
    precision: Precision = "float32",
    batch_size: Count = 16,
    download: bool = False,
) -> WordScorer:
    """Keeps single words, by LLMLingua-2's rule: those above a percentile of their probabilities.

    Sentences read better and most models answer better from them; words are for tight budgets.

    Source: Pan et al. 2024 (LLMLingua-2), arXiv:2403.12968.

    Args:
        index: as of `prune.provence`.
        lm: the language model; its tokenizer counts a word's tokens and `max_tokens`, where it runs
            here, and with `self_information` it scores them.
        tokens: what scores tokens: `provence` reads them together with the query,
            `self_information` takes those that the language model could not have guessed.
        rate: share of tokens to keep at threshold 0.5; `null` makes scores probabilities.
        rate_scope: whether the rate holds in each passage or in all passages of a query together.
        force: words and marks that stay, such as `.` or `not`.
        force_digits: keep words with a digit.
        force_identifiers: keep dotted names, paths, calls, camelCase, and words with a digit or an
            underscore.
        drop_consecutive: drop a forced word that repeats the one before it with nothing between.
        word_value: a word's value is the mean of its tokens', or the first one's.
        contrast: of `self_information`: what the question makes likelier, instead.
        model: of `provence`, as of `prune.provence`.
        precision: of `provence`: of the forward pass.
        batch_size: of `provence`: blocks of text that are read at a time.
        download: let a model be fetched from the hub.
    """
    scorer: TokenScorer
    if tokens == "self_information":
        scorer = SelfInformation(cast("LocalModel", lm), contrast=contrast)
    else:
        loaded = load_provence(
            model,
            encoder=None if index is None else index.encoder,
            sentence_vectors=None if index is None else index.sentence_vectors,
            download=download,
            precision=precision,
            batch_size=batch_size,
        )
        scorer = ProvenceTokens(loaded)
    return WordScorer(
        scorer,
        rate,
        force=tuple(force or ()),
        force_digits=force_digits,
        force_identifiers=force_identifiers,
        drop_consecutive=drop_consecutive,
        word_value=word_value,
        scope=rate_scope,
        count=_counter(lm),
    )


def _self_information(
    lm: LocalModel,
    *,
    rate: Share | None = 0.5,
    rate_scope: RateScope = "passage",
    contrast: bool = False,
    window: Annotated[int, Bounds(low=2)] = WINDOW,
) -> SelfInformation:
    """Keeps the sentences that a language model could not have guessed, whatever the query.

    Sources: Li et al. 2023 (Selective Context), arXiv:2310.06201; Jiang et al. 2023
    (LongLLMLingua), arXiv:2310.06839, for the contrast.

    Args:
        lm: the language model that reads; it must run here. Its tokenizer counts `max_tokens`.
        rate: share of sentences to keep at threshold 0.5; `null` makes scores 1 - exp(mean log p).
        rate_scope: whether the rate holds in each passage or in all passages of a query together.
        contrast: score by how much likelier the question makes a sentence, instead.
        window: most tokens of a passage to read at a time.
    """
    return SelfInformation(lm, rate, contrast, rate_scope, window)


def _llm_extract(
    lm: TextModel, *, instructions: str = INSTRUCTIONS, extract_tokens: Count = 256
) -> LLMExtract:
    """Keeps the sentences that a language model cites when it answers from a passage.

    Source: the labels of Chirkova et al. 2025 (Provence), arXiv:2501.16214.

    Args:
        lm: the language model that cites; the default one is too small for it. Its tokenizer counts
            `max_tokens`, where it runs here.
        instructions: prompt with the places `{passage}` and `{question}`.
        extract_tokens: the most to write for a passage.
    """
    return LLMExtract(lm, instructions, extract_tokens)


keep_all = _operator(_all, threshold=0.0)
random = _operator(_random, threshold=0.5)
lead = _operator(_lead, threshold=0.5)
bm25 = _operator(_bm25, threshold=0.2)
cosine = _operator(_cosine, threshold=0.3)
sentences = _operator(_sentences, threshold=SentenceMix.threshold)
features = _operator(_features)
provence = _operator(_provence, reranks=True)
words = _operator(_words, threshold=0.5)
self_information = _operator(_self_information, threshold=0.5)
llm_extract = _operator(_llm_extract, threshold=0.5)
