"""Self-information: how surprising sentences are to a small language model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pruners.decide import LEAST_SCORE
from pruners.rates import RateScope, around_half, check_rate, check_scope, percentile
from pruners.token_values import TokenValue
from rag.bounds import Bounds
from rag.records import Passage, PassageScores, Query, Span
from rag.text.template import one_line

if TYPE_CHECKING:
    from rag.generation.local_model import LocalModel

WINDOW = 512


@dataclass(frozen=True)
class SelfInformation:
    """Scorer by the mean of -log p of a sentence's tokens under a language model.

    What the model could have guessed can go. The score is 1 - exp(-mean), one less the geometric
    mean of the tokens' probabilities; the query is not read. With `contrast` it is the mean of
    log p(token | question) - log p(token), as a probability: above 0.5 if the question makes the
    sentence likelier. It satisfies `TokenScorer` too, so `WordScorer` can choose words by it.

    Steps away from the sources: a sentence is read after its passage's title and the sentences
    before it, not alone; units are sentences (or words), not noun phrases; LongLLMLingua compares
    perplexities of tokens after the whole prompt before them, here of each passage alone.

    Sources: Li et al. 2023, Selective Context, arXiv:2310.06201; Jiang et al. 2023, LongLLMLingua,
    arXiv:2310.06839, for the contrast.

    Attributes:
        lm: a model that runs here; services do not tell the probabilities of a given text's tokens.
        rate: share of sentences whose score shall be above 0.5: those not below the percentile
            100 (1 - rate) of all. None leaves scores as they are.
        contrast: compare with the question in front.
        scope: whether the rate holds in each passage or in all passages of a query together.
        window: most tokens of a passage to read at a time, at least 2, after question and title; a
            longer one is read in blocks of whole sentences.

    Raises:
        ValueError: for a field out of its range, or a model that does not run here or has a slow
            tokenizer.
    """

    lm: LocalModel
    rate: Annotated[float, Bounds(0, 1)] | None = None
    contrast: bool = False
    scope: RateScope = "passage"
    window: Annotated[int, Bounds(low=2)] = WINDOW

    name = "self_information"

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_scope(self.scope)
        if self.window < 2:
            raise ValueError(f"window must be at least 2, got {self.window}")
        if not callable(getattr(self.lm, "engine", None)):
            raise ValueError(  # noqa: TRY004
                "lm must be a model that runs here, as services do not tell the probabilities of a "
                f"given text's tokens, got {type(self.lm).__name__}"
            )
        if not getattr(self.lm.prompt.tokenizer, "is_fast", False):
            raise ValueError(
                "lm must have a fast tokenizer, which tells where its tokens are, got "
                f"{type(self.lm.prompt.tokenizer).__name__}"
            )

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the scores of each passage's sentences; one without a visible token scores 1.

        Raises:
            UnsupportedModelError: if question and title alone pass the model's window.
            ValueError: if the model gives a probability that is not finite.
        """
        return self.score_batch([query], [passages])[0]

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return what a call returns for each query; a passage is read once for all that have it.

        Raises:
            UnsupportedModelError: as of a call.
            ValueError: as of a call.
        """
        return [
            self._at_rate([self._scores(p, t) for p, t in zip(*pair, strict=True)])
            for pair in zip(passages, self.token_values(queries, passages), strict=True)
        ]

    def token_values(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[list[TokenValue]]]:
        """Return each visible token's -log p in nats, or the contrast.

        Raises:
            UnsupportedModelError: as of a call.
            ValueError: as of a call.
        """
        known: dict[tuple[str, str, tuple[Span, ...]], list[float]] = {}
        return [
            [self._values(query, passage, known) for passage in of_query]
            for query, of_query in zip(queries, passages, strict=True)
        ]

    def unit_score(self, values: Sequence[float]) -> float:
        """Return 1 - exp(-mean), or of a contrast the logistic function of the mean; in [0, 1]."""
        mean = math.fsum(values) / len(values)
        if not math.isfinite(mean):
            raise ValueError("log-probabilities must be finite, got some that are not")
        if self.contrast:
            return 1.0 / (1.0 + math.exp(-mean)) if mean > -700.0 else 0.0
        return max(0.0, -math.expm1(-mean))

    def _values(
        self,
        query: Query,
        passage: Passage,
        known: dict[tuple[str, str, tuple[Span, ...]], list[float]],
    ) -> list[TokenValue]:
        """Return a passage's values; `known` has, and gets, its log-probabilities alone."""
        if not passage.sentences:
            return []
        read = _Read.of(self.lm.prompt.tokenizer, passage)
        key = passage.title, passage.text, passage.sentences
        if key not in known:
            known[key] = self._log_probabilities(read, [passage.title])
        values = [-p for p in known[key]]
        if self.contrast:
            asked = self._log_probabilities(read, [query.text, passage.title])
            values = [p + value for p, value in zip(asked, values, strict=True)]
        pairs = zip(read.spans, values, strict=True)
        return [TokenValue(span, value) for span, value in pairs if span is not None]

    def _log_probabilities(self, read: _Read, lines: Sequence[str]) -> list[float]:
        """Return the log-probability of each token after some lines and the tokens before it."""
        lead = "".join(f"{one_line(line)}\n" for line in lines if line.strip()) or "\n"
        engine = self.lm.engine(fallback=True)
        ids = self.lm.prompt.whole(lead)
        state = engine.read(ids)
        room = max(1, min(self.window, engine.window - len(ids)))
        return [
            float(p)
            for start, end in read.blocks(room)
            for p in engine.score(state, read.ids[start:end]).double()
        ]

    def _scores(self, passage: Passage, tokens: Sequence[TokenValue]) -> PassageScores:
        starts = [sentence.start for sentence in passage.sentences]
        values: list[list[float]] = [[] for _ in starts]
        for token in tokens:
            values[bisect_right(starts, token.span.end - 1) - 1].append(token.value)
        scores = [self.unit_score(found) if found else 1.0 for found in values]
        return PassageScores(tuple(max(LEAST_SCORE, score) for score in scores))

    def _at_rate(self, found: list[PassageScores]) -> list[PassageScores]:
        """Return scores such that the rate's share is above 0.5."""
        if self.rate is None:
            return found
        groups = [[one] for one in found] if self.scope == "passage" else [found]
        cut: list[PassageScores] = []
        for group in groups:
            scores = [score for one in group for score in one.sentences]
            if not scores:
                cut += group
                continue
            limit = percentile(scores, 100.0 * (1.0 - self.rate), [1] * len(scores))
            cut += [
                PassageScores(tuple(around_half(s, limit, kept=s >= limit) for s in one.sentences))
                for one in group
            ]
        return cut


@dataclass(frozen=True, slots=True)
class _Read:
    """The tokens of a passage.

    Attributes:
        ids: as the model reads them.
        spans: the visible characters of each; None if it has none.
        rows: the sentence in which each ends.
    """

    ids: tuple[int, ...]
    spans: tuple[Span | None, ...]
    rows: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, passage: Passage) -> _Read:
        """Tokenise a passage as one text; lone surrogates are read as `?`."""
        text = passage.text
        read = tokenizer(
            text.encode("utf-8", "replace").decode(),
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            truncation=False,
            verbose=False,
        )
        # Tokens of one character's bytes may have an empty range.
        places = [Span(start, max(end, start + 1)) for start, end in read["offset_mapping"]]
        visible = [place.stripped(text) for place in places]
        starts = [sentence.start for sentence in passage.sentences]
        rows = (bisect_right(starts, place.end - 1) - 1 for place in places)
        return cls(
            tuple(read["input_ids"]),
            tuple(place or None for place in visible),
            tuple(rows),
        )

    def blocks(self, room: int) -> Iterator[tuple[int, int]]:
        """Yield where blocks begin and end: whole sentences, as many as there is room for.

        A longer sentence is cut where the room ends. A block depends on nothing after it.
        """
        start = 0
        while start < len(self.ids):
            end = min(start + room, len(self.ids))
            if end < len(self.ids):
                whole = end
                while whole > start and self.rows[whole] == self.rows[whole - 1]:
                    whole -= 1
                end = whole if whole > start else end
            yield start, end
            start = end
