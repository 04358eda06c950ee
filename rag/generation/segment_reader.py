"""Reads segments for requests: from the store, or by encoding them, and rotated to their places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rag.errors import UnsupportedModelError
from rag.generation.plan import EncodingPlan, PlacedRows
from rag.protocols import PassageCache, SegmentKV

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag.generation.packed_encoding import PackedEncoder
    from rag.generation.placed_segments import PlacedSegments
    from rag.generation.prefilled import Reading
    from rag.generation.rope import Rotary
    from rag.records import ModelIdentity, Segment


class SegmentReader:
    """Looks segments up, encodes those that are missing, several at once, and places them.

    Not thread-safe by itself: its engine holds the model's lock.

    Attributes:
        identity: of the model; every segment must carry it.
        cache: where KV is kept between requests; None means that all is computed anew.
        placed: copies of whole segments at their positions.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        rotary: Rotary,
        encoder: PackedEncoder,
        placed: PlacedSegments,
        cache: PassageCache | None,
        device: torch.device,
    ) -> None:
        self.identity = identity
        self.cache = cache
        self.placed = placed
        self._rotary = rotary
        self._encoder = encoder
        self._device = device

    def gather(self, plans: Sequence[EncodingPlan], readings: Sequence[Reading]) -> None:
        """Encode what plans need and the store has not, in as few forward passes as hold it.

        What is found is placed at once, so that nothing is looked up twice.

        Args:
            plans: of one request or of several.
            readings: one a plan; the first whose plan needs a segment counts it as a miss.

        Raises:
            UnsupportedModelError: if a segment passes the model's window.
            ValueError: if a segment belongs to another model, or has more than one parent.
        """
        missing: dict[Segment, Reading] = {}
        for plan, reading in zip(plans, readings, strict=True):
            if plan.prefix is not None:
                self.place(plan.prefix, reading)
            for item in plan.context:
                if item.segment in missing or self._is_placed(item, reading):
                    continue
                kv = self._known(item.segment, reading) or self._stored(item.segment, reading)
                if kv is None:
                    missing[item.segment] = reading
                else:
                    reading.shared.placed[item] = self._rotated(item, kv)
        first = next(iter(missing.values()), None)
        if first is not None:
            encoded = self.encode(missing, first)
            for (segment, reading), kv in zip(missing.items(), encoded, strict=True):
                self._made(segment, kv, reading)

    def place(self, item: PlacedRows, reading: Reading) -> tuple[Tensor, Tensor]:
        """Rotate rows to their positions: keys and values, (layers, kv_heads, tokens, head_dim)."""
        made = reading.shared.placed
        kept = made.get(item) if item in reading.shared.rows else made.pop(item, None)
        found = self.placed.get(item) or kept
        if found is not None:
            reading.hit(item.segment, "hit (placed)", sum(part.nbytes for part in found))
            return found
        rotated = self._rotated(item, self._load(item.segment, reading))
        if item in reading.shared.rows:
            reading.shared.placed[item] = rotated
        return rotated

    def encode(self, segments: Iterable[Segment], reading: Reading) -> Iterator[SegmentKV]:
        """Compute KV as stored, in order: as many segments in one forward pass as it may hold.

        If a pass fails, its segments are encoded one by one: those before the one that cannot be
        encoded are yielded, and what fits into memory only by itself is, too.

        Args:
            segments: to be encoded; a parent is looked up, and encoded if it is missing.
            reading: what counts such parents, and keeps those that were encoded.

        Raises:
            UnsupportedModelError: if a segment passes the model's window.
            ValueError: if a segment belongs to another model, or has more than one parent.
        """
        for pack in self._encoder.packs(segments):
            made: list[SegmentKV] = []
            try:
                made = self._encode(pack, reading)
            except (UnsupportedModelError, ValueError, torch.OutOfMemoryError):
                if len(pack) == 1:
                    raise
            if made:
                yield from made
            else:
                for segment in pack:
                    yield from self._encode([segment], reading)

    def _encode(self, pack: Sequence[Segment], reading: Reading) -> list[SegmentKV]:
        for segment in pack:
            self._check(segment)
            end = segment.start + len(segment)
            if end > self._rotary.window:
                raise UnsupportedModelError(
                    f"segment {segment.name!r} reaches position {end}, the model's window ends at "
                    f"{self._rotary.window}: make passages shorter, or use a model with a longer "
                    "window"
                )
            if len(segment.parents) > 1:
                raise ValueError(
                    f"segment {segment.name!r} has {len(segment.parents)} parents, not 1"
                )
        prefix = None
        for parent in pack[0].parents:
            prefix = self.place(PlacedRows(parent, 0), reading)
        return self._encoder(pack, prefix)

    def _load(self, segment: Segment, reading: Reading) -> SegmentKV:
        kv = self._known(segment, reading) or self._stored(segment, reading)
        if kv is None:
            (kv,) = self.encode([segment], reading)
            self._made(segment, kv, reading)
        return kv

    def _known(self, segment: Segment, reading: Reading) -> SegmentKV | None:
        """Return what this request, or another of its batch, has loaded or encoded before."""
        self._check(segment)
        for made, kv in reading.fresh:
            if made == segment:
                return kv
        known = reading.shared.loaded.get(segment)
        if known is not None:
            reading.hit(segment, "hit (batch)", known.nbytes)
        return known

    def _stored(self, segment: Segment, reading: Reading) -> SegmentKV | None:
        """Look a segment up in the store; None is a miss."""
        if self.cache is None:
            reading.miss(segment, "no store")
            return None
        found = self.cache.get(segment)
        if found.kv is None:
            reading.miss(segment, found.reason)
            return None
        reading.hit(segment, found.reason, found.nbytes)
        kv = SegmentKV(found.kv.keys.to(self._device), found.kv.values.to(self._device))
        if segment in reading.shared.segments:
            reading.shared.loaded[segment] = kv
        return kv

    def _made(self, segment: Segment, kv: SegmentKV, reading: Reading) -> None:
        """Keep what was encoded for a request, and for the others of its batch."""
        reading.fresh.append((segment, kv))
        if segment in reading.shared.segments:
            reading.shared.loaded[segment] = kv

    def _is_placed(self, item: PlacedRows, reading: Reading) -> bool:
        return item in reading.shared.placed or self.placed.get(item) is not None

    def _rotated(self, item: PlacedRows, kv: SegmentKV) -> tuple[Tensor, Tensor]:
        keys, values = kv.keys, kv.values
        if item.rows is not None:
            rows = torch.tensor(item.rows, device=keys.device)
            keys, values = keys.index_select(1, rows), values.index_select(1, rows)
        positions = torch.tensor(item.positions, device=keys.device)
        rotated = self._rotary.rotate(keys, positions).contiguous()
        placed = rotated, values.transpose(1, 2).contiguous()
        self.placed.put(item, placed)
        return placed

    def _check(self, segment: Segment) -> None:
        if segment.model != self.identity:
            raise ValueError(
                f"segment {segment.name!r} belongs to {segment.model.name!r} "
                f"({segment.model.dtype}), the engine runs {self.identity.name!r} "
                f"({self.identity.dtype})"
            )
