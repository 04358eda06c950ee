"""The token head of a Provence model as a scorer of tokens, for pruners of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from pruners.provence.scorer import ProvenceScorer
from pruners.token_values import TokenValue
from rag.records import Passage, Query, Span

Scored = list[tuple[int, float]]
"""Ids of a sentence's tokens with their probabilities."""


@dataclass(frozen=True)
class ProvenceTokens:
    """Keep-probabilities of tokens, from the pass that scores sentences; satisfies `TokenScorer`.

    The query is an input, as it is not in LLMLingua-2. Where the tokenizer does not tell which
    characters a sentence's tokens are, each of them stands for the whole sentence.

    Attributes:
        scorer: of sentences; its rounding is not used.
    """

    scorer: ProvenceScorer

    @property
    def name(self) -> str:
        """Short name of the method."""
        return self.scorer.name

    def token_values(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[list[TokenValue]]]:
        """Return the probability of each token of each passage, in [0, 1].

        Raises:
            ValueError: as of `ProvenceScorer.score_batch`.
        """
        found = self._scored(queries, passages)
        return [[self._placed(passage, next(found)) for passage in of] for of in passages]

    def unit_score(self, values: Sequence[float]) -> float:
        """Return the mean of probabilities."""
        return min(1.0, sum(values) / len(values))

    def _scored(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> Iterator[list[Scored]]:
        """Yield the ids and probabilities of each sentence of each passage."""
        scorer = self.scorer
        pairs = [(q, p) for q, of in zip(queries, passages, strict=True) for p in of]
        blocks = [scorer._blocks(*pair) for pair in pairs]  # noqa: SLF001
        flat = [(place, block) for place, of in enumerate(blocks) for block in of]
        has_prior = bool(flat) and scorer._prior is not None  # noqa: SLF001
        priors = scorer._priors(queries, passages) if has_prior else None  # noqa: SLF001
        logits = scorer._logits(flat, priors)  # noqa: SLF001
        found: list[list[Scored]] = [[[] for _ in p.sentences] for _, p in pairs]
        for (place, block), (odds, _) in zip(flat, logits, strict=True):
            for id_, row, p in zip(block.ids, block.rows, _sigmoid(odds), strict=True):
                if row >= 0:
                    found[place][row].append((id_, float(p)))
        return iter(found)

    def _placed(self, passage: Passage, sentences: Sequence[Scored]) -> list[TokenValue]:
        """Return the tokens of a passage's sentences with the characters that they stand for."""
        spans = [
            _spans(self.scorer._tokenizer, passage.text, span, [id_ for id_, _ in scored])  # noqa: SLF001
            for span, scored in zip(passage.sentences, sentences, strict=True)
        ]
        pairs = zip(chain(*spans), (p for of in sentences for _, p in of), strict=True)
        return [TokenValue(span, p) for span, p in pairs if span is not None]


def _spans(tokenizer: Any, text: str, sentence: Span, ids: list[int]) -> list[Span | None]:
    """Return what each token of a sentence stands for, None for one without a visible character."""
    inside = sentence.stripped(text)
    whole = [inside or None] * len(ids)
    if not ids or not getattr(tokenizer, "is_fast", False):
        return whole
    # The scorer reads a sentence stripped, after a space unless it is the first, or as it stands.
    for lead, span in ((" ", inside), ("", inside), ("", sentence)):
        places = _places(tokenizer, lead + span.of(text), ids)
        if places is not None:
            start = span.start - len(lead)
            return [_visible(text, start + a, start + b, inside) for a, b in places]
    return whole


def _places(tokenizer: Any, piece: str, ids: list[int]) -> list[tuple[int, int]] | None:
    """Return the characters of each token of a piece, or None if it has other tokens.

    A control token that a text spells out was read as the unknown one.
    """
    read = tokenizer(
        piece.encode("utf-8", "replace").decode(),
        add_special_tokens=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    unknown = tokenizer.unk_token_id
    controls = set(tokenizer.all_special_ids) - {unknown}
    pairs = [
        (unknown if id_ in controls else id_, place)
        for id_, place in zip(read["input_ids"], read["offset_mapping"], strict=True)
        if id_ not in controls or unknown is not None
    ]
    return [place for _, place in pairs] if [id_ for id_, _ in pairs] == ids else None


def _visible(text: str, start: int, end: int, inside: Span) -> Span | None:
    """Return the visible part of a token's characters in a sentence."""
    start = max(start, inside.start)
    found = Span(start, min(max(start, end), inside.end)).stripped(text)
    return found or None


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(logits))
    found: np.ndarray = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return found
