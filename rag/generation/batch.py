"""Batches of requests: one forward pass serves many, and each keeps a cache of its own.

Tokens of all requests stand one after another in a single row, so nothing is padded: projections
and feed-forward layers see one long row, and attention takes it apart again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from rag.generation.attention import LayerKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag.generation.decoding import Sampling
    from rag.generation.engine import Engine
    from rag.generation.plan import EncodingPlan, PlacedRows
    from rag.generation.prefilled import Prefilled
    from rag.generation.segment_cache import SegmentCache, SegmentLayer
    from rag.protocols import SegmentKV
    from rag.records import Segment


class BatchLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not typed here
    """One layer of a batch: hands each request's tokens to that request's own layer."""

    is_sliding = False

    def __init__(self, layers: Sequence[SegmentLayer], counts: Sequence[int]) -> None:
        super().__init__()
        self._layers = layers
        self._counts = list(counts)
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to make: the requests' layers are there."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[tuple[LayerKeys, ...], None]:
        """Append each request's tokens to its tail; return what each of them attends to.

        Args:
            key_states: (1, kv_heads, tokens of all requests, head_dim), rotated.
            value_states: the same shape.
        """
        keys = torch.split(key_states, self._counts, 2)
        values = torch.split(value_states, self._counts, 2)
        rows = zip(self._layers, keys, values, strict=True)
        return tuple(layer.update(k, v)[0] for layer, k, v in rows), None

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset for mask construction, which is switched off."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens visible to the request that sees most: bookkeeping, not a position."""
        return max(layer.get_seq_length() for layer in self._layers)

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class BatchCache(Cache):  # type: ignore[misc]  # transformers is not typed here
    """The caches of several requests, for one forward pass over tokens of all of them."""

    def __init__(self, caches: Sequence[SegmentCache], counts: Sequence[int]) -> None:
        """Bundle caches.

        Args:
            caches: of the requests, in the order of their tokens; each at most once.
            counts: how many tokens each of them has in this pass, at least 1.
        """
        by_layer = zip(*(cache.layers for cache in caches), strict=True)
        super().__init__(layers=[BatchLayer(layers, counts) for layers in by_layer])


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens that one request has to run.

    Attributes:
        token_ids: at least one.
        start: position of the first; the others follow it.
        cache: the request's own.
        units: of the tokens, int64 (tokens,), if its attention mass is watched.
    """

    token_ids: Sequence[int]
    start: int
    cache: SegmentCache
    units: Tensor | None = None


def passes(lengths: Sequence[int], budget: int) -> Iterator[list[tuple[int, int, int]]]:
    """Share tokens of rows out to forward passes, in order, as many as fit into each.

    Args:
        lengths: tokens of each row, at least 1.
        budget: tokens of a pass, at least 1.

    Yields:
        For each pass its pieces: row, first token, and the one after the last.
    """
    pieces: list[tuple[int, int, int]] = []
    left = budget
    for row, length in enumerate(lengths):
        at = 0
        while at < length:
            end = min(at + left, length)
            pieces.append((row, at, end))
            left -= end - at
            at = end
            if not left:
                yield pieces
                pieces, left = [], budget
    if pieces:
        yield pieces


def run_rows(model: Any, rows: Sequence[Row], budget: int) -> list[Tensor]:
    """Run tokens of several requests through a model, at most `budget` in one forward pass.

    Args:
        model: whose attention is the registered function.
        rows: at least one; no two of the same cache.
        budget: tokens of a pass, at least 1; bounds the memory that a pass needs.

    Returns:
        For each row the logits after its last token, (vocabulary,), in float32 or better.
    """
    logits: dict[int, Tensor] = {}
    device = model.device
    for pieces in passes([len(row.token_ids) for row in rows], budget):
        ids: list[int] = []
        positions: list[int] = []
        ending: dict[int, int] = {}
        for number, start, end in pieces:
            row = rows[number]
            ids += row.token_ids[start:end]
            positions += range(row.start + start, row.start + end)
            if end == len(row.token_ids):
                ending[number] = len(ids) - 1
        stand = torch.tensor(positions, device=device)
        counts = [end - start for _, start, end in pieces]
        for (number, start, end), here in zip(pieces, torch.split(stand, counts), strict=True):
            units = rows[number].units
            rows[number].cache.announce(here, None if units is None else units[start:end])
        out = model(
            torch.tensor(ids, device=device)[None],
            position_ids=stand[None],
            past_key_values=BatchCache([rows[number].cache for number, _, _ in pieces], counts),
            use_cache=True,
            logits_to_keep=torch.tensor([*ending.values()], dtype=torch.int64, device=device),
        ).logits[0]
        wide = out.to(torch.promote_types(out.dtype, torch.float32))
        logits |= dict(zip(ending, wide.unbind(), strict=True))
    return [logits[number] for number in range(len(rows))]


@dataclass(slots=True)
class Shared:
    """What requests of a batch need alike, and what has been made of it so far.

    Only what more than one of them needs is kept, and only while the batch is prepared.

    Attributes:
        segments: needed more than once.
        rows: placed rows that are needed more than once.
        loaded: KV of such segments, as stored, with the reason of the lookup.
        placed: rotated keys and values of such rows.
        contexts: what has been assembled of whole contexts.
    """

    segments: frozenset[Segment] = frozenset()
    rows: frozenset[PlacedRows] = frozenset()
    loaded: dict[Segment, SegmentKV] = field(default_factory=dict)
    placed: dict[PlacedRows, tuple[Tensor, Tensor]] = field(default_factory=dict)
    contexts: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plans: Sequence[EncodingPlan]) -> Self:
        """Find what plans have in common."""
        needed: Counter[Segment] = Counter()
        rows: Counter[PlacedRows] = Counter()
        for plan in plans:
            placed = {part for part in (plan.prefix, *plan.context) if part is not None}
            rows.update(placed)
            needed.update({part.segment for part in placed})
        return cls(
            frozenset(segment for segment, count in needed.items() if count > 1),
            frozenset(placed for placed, count in rows.items() if count > 1),
        )


class DecodeBatch:
    """Decodes several requests at once: an iterator of steps, each a token of every open request.

    Every request has its own sampling, random generator and limit of tokens, and gets the tokens
    that it would get alone, to rounding. One that is finished leaves the batch, so it costs
    nothing more; nothing is computed for a token that nobody asks for.
    """

    def __init__(
        self,
        engine: Engine,
        states: Sequence[Prefilled],
        samplings: Sequence[Sampling],
        stop: frozenset[int],
    ) -> None:
        """Begin.

        Args:
            engine: read the prompts.
            states: of the prompts; they are spent.
            samplings: one a request.
            stop: token ids that end a request; they are not among the tokens.

        Raises:
            ValueError: if there is not one sampling a state.
        """
        if len(samplings) != len(states):
            raise ValueError(
                f"samplings must be one a request, {len(states)}, got {len(samplings)}"
            )
        self._engine = engine
        self._stop = stop
        self._samplings = list(samplings)
        self._generators = [sampling.generator() for sampling in samplings]
        self._left = [
            engine.room(state.position, sampling.max_tokens)
            for state, sampling in zip(states, samplings, strict=True)
        ]
        self._states = {row: state for row, state in enumerate(states) if self._left[row] > 0}
        self._chosen: dict[int, int] = {}

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[int, int]:
        """Return the next token of each open request, by its place among the states.

        Raises:
            StopIteration: once all are finished.
        """
        self._advance()
        chosen = {}
        for row, state in self._states.items():
            token = self._samplings[row].choose(state.logits, self._generators[row])
            if token not in self._stop:
                chosen[row] = token
        self.leave(self._states.keys() - chosen.keys())
        if not chosen:
            raise StopIteration
        self._chosen = chosen
        return dict(chosen)

    @property
    def open(self) -> frozenset[int]:
        """Requests that are not finished."""
        return frozenset(self._states)

    def state(self, row: int) -> Prefilled:
        """Return the state that an open request's last token was chosen from.

        Its attention mass is that of the query that chose the token, until the next step.

        Raises:
            KeyError: if the request is finished.
        """
        return self._states[row]

    def leave(self, rows: Iterable[int]) -> None:
        """Finish requests, so that nothing more is computed for them; again is harmless."""
        for row in tuple(rows):
            self._states.pop(row, None)
            self._chosen.pop(row, None)

    def _advance(self) -> None:
        for row in self._chosen:
            self._left[row] -= 1
        self.leave([row for row in self._chosen if not self._left[row]])
        rows = list(self._chosen)
        if rows:
            states = [self._states[row] for row in rows]
            tokens = [self._chosen[row] for row in rows]
            after = self._engine.advance_batch(states, tokens)
            self._states |= dict(zip(rows, after, strict=True))
