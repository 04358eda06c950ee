"""Scores of sentences, and of passages, by a cross-encoder of the Provence kind."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from pruners.provence.pair_tokens import QUERY_TOKENS, TITLE_TOKENS, WINDOW, Block, pair_blocks
from pruners.provence.rounding import LEAST, Rounding, sentence_score
from pruners.threshold import BatchScorer
from rag.protocols import SentenceScorer
from rag.records import Passage, PassageScores, Query

if TYPE_CHECKING:
    from pruners.provence.model import ProvenceModel

Rerank = Literal["logit", "probability", "none"]


class ProvenceScorer:
    """Reads query and passage together and scores every sentence, and the passage, in one pass.

    A sentence's score rounds the keep-probabilities of its tokens. The passage's own score is the
    largest of its blocks. Neither depends on a threshold. Without a prior, what stands beside a
    passage moves its scores by less than 1e-5 in float32.

    Attributes:
        name: short name of the method.
        model: what scores; in evaluation mode.
        threshold: the score that a sentence should exceed, as the model was tuned; None if unknown.
        always_select_title: whether the model was meant for a decision that keeps a passage's first
            sentence where any of its sentences stays.
    """

    def __init__(
        self,
        model: ProvenceModel,
        tokenizer: Any,
        *,
        prior: SentenceScorer | None = None,
        rounding: Rounding = "mean",
        batch_size: int = 16,
        rerank: Rerank = "logit",
        window: int = WINDOW,
        query_tokens: int = QUERY_TOKENS,
        title_tokens: int = TITLE_TOKENS,
        query_text: Callable[[str], str] | None = None,
        threshold: float | None = None,
        always_select_title: bool = False,
        verbatim: bool = False,
        name: str = "provence",
    ) -> None:
        """Score with a model; `load_provence` loads one.

        Args:
            model: used for inference, on the device and in the precision it is in.
            tokenizer: of its trunk.
            prior: scorer whose logits the model adds to its own; needed iff `model.residual`.
            rounding: how token probabilities become a sentence's score.
            batch_size: blocks that are read at a time, at least 1.
            rerank: `logit` is the raw score, `probability` its sigmoid, `none` leaves it out.
            window: most tokens of a block; at most what the trunk has positions for.
            query_tokens: most tokens of the query; a longer one is cut, with a warning.
            title_tokens: most tokens of the title; 0 leaves it out.
            query_text: changes a query before it is read, as some checkpoints were trained.
            threshold: recommended, for whoever decides.
            always_select_title: recommended likewise.
            verbatim: whether sentences are read with their own white space; see `pair_blocks`.
            name: short name of the method.

        Raises:
            ValueError: for an argument out of its range, or a prior where the model adds none.
        """
        from pruners.provence.trunk import most_tokens

        if rounding not in get_args(Rounding):
            raise ValueError(f"rounding must be one of {get_args(Rounding)}, got {rounding!r}")
        if rerank not in get_args(Rerank):
            raise ValueError(f"rerank must be one of {get_args(Rerank)}, got {rerank!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        most = most_tokens(model.trunk)
        if window > most:
            raise ValueError(f"window must be at most {most}, the trunk's positions, got {window}")
        if (prior is not None) != model.residual:
            wanted = "a scorer, as the model adds one" if model.residual else "None"
            raise ValueError(f"prior must be {wanted}, got {prior}")
        self.name = name
        self.threshold = threshold
        self.always_select_title = always_select_title
        self.model = model.eval()
        self._tokenizer = tokenizer
        self._prior = prior
        self._rounding = rounding
        self._batch_size = batch_size
        self._rerank = rerank
        self._caps = (window, query_tokens, title_tokens)
        self._query_text = query_text
        self._verbatim = verbatim

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the scores of each passage, in the passages' order.

        A passage without sentences has no scores and costs nothing. A sentence without tokens
        scores 1.

        Raises:
            ValueError: if the model gives a logit that is not finite, or the prior not one score a
                sentence.
        """
        return self.score_batch([query], [passages])[0]

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return what a call for each query and its passages returns, with fuller batches.

        Raises:
            ValueError: as a call, or if there is not one list of passages a query.
        """
        if len(queries) != len(passages):
            got = f"{len(passages)} for {len(queries)}"
            raise ValueError(f"passages must be one list a query, got {got}")
        pairs = [
            (query, passage)
            for query, of_query in zip(queries, passages, strict=True)
            for passage in of_query
        ]
        blocks = [self._blocks(query, passage) for query, passage in pairs]
        flat = [(place, block) for place, found in enumerate(blocks) for block in found]
        _warn_of_cut_queries(flat)
        priors = self._priors(queries, passages) if flat and self._prior is not None else None
        logits = self._logits(flat, priors)
        by_pair: list[list[tuple[Block, np.ndarray, float]]] = [[] for _ in pairs]
        for (place, block), (tokens, rerank) in zip(flat, logits, strict=True):
            by_pair[place].append((block, tokens, rerank))
        scores = iter(
            self._scores(len(passage.sentences), found)
            for (_, passage), found in zip(pairs, by_pair, strict=True)
        )
        return [[next(scores) for _ in of_query] for of_query in passages]

    def _blocks(self, query: Query, passage: Passage) -> list[Block]:
        text = query.text if self._query_text is None else self._query_text(query.text)
        window, query_tokens, title_tokens = self._caps
        return pair_blocks(
            self._tokenizer,
            text,
            passage,
            window,
            query_tokens,
            title_tokens=title_tokens,
            verbatim=self._verbatim,
        )

    def _priors(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[float]]:
        """Return the prior's log-odds of every sentence of every pair."""
        assert self._prior is not None
        found: list[list[float]] = []
        if isinstance(self._prior, BatchScorer):
            said = self._prior.score_batch(queries, passages)
        else:
            said = [self._prior(*asked) for asked in zip(queries, passages, strict=True)]
        for of_query, scored in zip(passages, said, strict=True):
            for passage, scores in zip(of_query, scored, strict=True):
                if len(scores.sentences) != len(passage.sentences):
                    got = f"{len(scores.sentences)} for {len(passage.sentences)}"
                    raise ValueError(f"prior must give one score a sentence, got {got}")
                found.append(prior_logits(scores))
        return found

    def _logits(
        self, flat: Sequence[tuple[int, Block]], priors: Sequence[Sequence[float]] | None
    ) -> list[tuple[np.ndarray, float]]:
        """Return token log-odds, float64 (tokens,), and rerank score of each block."""
        import torch

        from pruners.provence.batches import collate

        found: list[tuple[np.ndarray, float]] = [(np.empty(0), 0.0)] * len(flat)
        # Blocks of like length share a batch: little padding. Longest first: no late surprise.
        order = sorted(range(len(flat)), key=lambda at: -len(flat[at][1]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            batch = collate(
                [flat[at][1] for at in rows],
                _pad_id(self._tokenizer),
                None if priors is None else [priors[flat[at][0]] for at in rows],
            )
            with torch.inference_mode():
                said = self.model(batch.to(self.model.device))
            tokens = said.tokens.double().cpu().numpy()
            rerank = said.rerank.double().cpu().numpy()
            for line, at in enumerate(rows):
                own = tokens[line, : len(flat[at][1])].copy()
                if not (np.isfinite(own).all() and np.isfinite(rerank[line])):
                    raise ValueError("the model's logits must be finite, got some that are not")
                found[at] = own, float(rerank[line])
        return found

    def _scores(
        self, sentences: int, found: Sequence[tuple[Block, np.ndarray, float]]
    ) -> PassageScores:
        fragments: list[list[np.ndarray]] = [[] for _ in range(sentences)]
        for block, odds, _ in found:
            rows = np.array(block.rows)
            probabilities = _sigmoid(odds)
            for row in np.unique(rows[rows >= 0]):
                fragments[row].append(probabilities[rows == row])
        scores = tuple(sentence_score(parts, self._rounding) for parts in fragments)
        best = max((rerank for _, _, rerank in found), default=None)
        if best is None or self._rerank == "none":
            return PassageScores(scores)
        own = best if self._rerank == "logit" else float(_sigmoid(np.array(best)))
        return PassageScores(scores, own)


def prior_logits(scores: PassageScores) -> list[float]:
    """Return the log-odds of a scorer's sentences, within 13.9 of 0, as a model adds them."""
    clipped = [min(max(score, LEAST), 1.0 - LEAST) for score in scores.sentences]
    return [math.log(score) - math.log1p(-score) for score in clipped]


def _warn_of_cut_queries(flat: Sequence[tuple[int, Block]]) -> None:
    dropped = max((block.query_dropped for _, block in flat), default=0)
    if dropped:
        warnings.warn(
            f"the query is over its cap: its last {dropped} tokens were not read by the pruner",
            RuntimeWarning,
            stacklevel=4,
        )


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id or 0)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the logistic function without overflow."""
    small = np.exp(-np.abs(logits))
    result: np.ndarray = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return result
