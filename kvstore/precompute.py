"""Precompute: fill a store with the KV of many segments, resumable at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kvstore.keys import segment_key
from rag.protocols import SegmentKV
from rag.records import Segment


class FillableCache(Protocol):
    """What precomputing needs of a store; `KVStore` has it."""

    def put(self, segment: Segment, kv: SegmentKV) -> bool:
        """Keep the KV; False if it was not kept."""

    def contains(self, segment: Segment) -> bool:
        """Say whether the segment is kept, without a use of it."""

    def touch(self, segment: Segment) -> bool:
        """Mark the segment as just used; say whether it is kept."""


@dataclass(frozen=True, slots=True)
class PrecomputeReport:
    """What a run did. The counts `stored`, `skipped`, `failed`, `remaining` add up to its input.

    Attributes:
        stored: segments encoded and kept.
        skipped: segments that were kept already, or came twice.
        failed: segments encoded that the store did not keep.
        remaining: segments not reached, because the run stopped.
        evicted: segments of this run that others of it pushed out; above 0 the run stopped, since
            the budget is too small for all of them.
        bytes: bytes of KV stored.
        seconds: wall time.
    """

    stored: int
    skipped: int
    failed: int
    remaining: int
    evicted: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Precompute:
    """Encodes what a store does not hold yet and puts it there.

    Interrupt it whenever you like: what was put stays, and the next run with the same segments
    goes on from there. Skipped segments are marked as used, so old entries of others are evicted
    before anything of this run; when even that is not enough, the run stops.

    Attributes:
        cache: where KV goes.
        encode: segments to their KV, in order; called with at least one segment. What it yields is
            put at once, so it is kept even if the rest fails.
    """

    cache: FillableCache
    encode: Callable[[list[Segment]], Iterable[SegmentKV]]

    def __call__(
        self,
        segments: Sequence[Segment],
        *,
        batch: int = 8,
        progress: Callable[[int, int], None] | None = None,
    ) -> PrecomputeReport:
        """Fill the cache with `segments`, in order.

        Args:
            segments: what to keep; a passage's prefix is one of them if it is to be kept too.
            batch: segments to encode in one call, at least 1.
            progress: gets segments done and segments in all, after every batch.

        Raises:
            ValueError: if `batch` is below 1, or `encode` returns another number of results.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        started = time.perf_counter()
        seen: set[str] = set()
        kept: list[Segment] = []  # stored or found, in the order of their last use
        stored = skipped = failed = evicted = nbytes = done = 0
        while done < len(segments) and not evicted:
            wanted: list[Segment] = []
            while done < len(segments) and len(wanted) < batch:
                segment = segments[done]
                done += 1
                key = segment_key(segment, "")
                if key in seen:
                    skipped += 1
                elif self.cache.touch(segment):
                    skipped += 1
                    kept.append(segment)
                else:
                    wanted.append(segment)
                seen.add(key)
            for segment, kv in self._encoded(wanted):
                if self.cache.put(segment, kv):
                    stored += 1
                    nbytes += kv.nbytes
                    kept.append(segment)
                else:
                    failed += 1
            # The least recently used is the first to go, so the rest needs no look while it stays.
            if kept and not self.cache.contains(kept[0]):
                evicted = sum(not self.cache.contains(segment) for segment in kept)
            if progress is not None:
                progress(done, len(segments))
        return PrecomputeReport(
            stored=stored,
            skipped=skipped,
            failed=failed,
            remaining=len(segments) - done,
            evicted=evicted,
            bytes=nbytes,
            seconds=time.perf_counter() - started,
        )

    def _encoded(self, segments: list[Segment]) -> Iterator[tuple[Segment, SegmentKV]]:
        """Yield segments with their KV, each as soon as it is encoded."""
        given = 0
        for kv in self.encode(segments) if segments else ():
            given += 1
            if given > len(segments):
                break
            yield segments[given - 1], kv
        if given != len(segments):
            got = f"{given} for {len(segments)} segments"
            raise ValueError(f"encode must return one result a segment, got {got}")
