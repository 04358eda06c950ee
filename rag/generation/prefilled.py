"""What a request has read: its state once the prompt is in, and what the store gave for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag.generation.batch import Shared
from rag.records import CacheUse

if TYPE_CHECKING:
    from torch import Tensor

    from rag.generation.attention_mass import Unit
    from rag.generation.segment_cache import SegmentCache
    from rag.protocols import SegmentKV
    from rag.records import Segment


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A request whose prompt has been read: ready to decode.

    Attributes:
        logits: of the token to come, float32 (vocabulary,).
        cache: the request's own cache.
        position: of the token to come.
        use: what the KV store gave.
        kv_ms: time spent reading, encoding and placing KV.
        fresh: segments encoded for this request and not yet stored.
        units: what `cache.mass` counts attention for, without the rest; None if it is not watched.
    """

    logits: Tensor
    cache: SegmentCache
    position: int
    use: CacheUse
    kv_ms: float
    fresh: tuple[tuple[Segment, SegmentKV], ...] = ()
    units: tuple[Unit, ...] | None = None


@dataclass(slots=True)
class Reading:
    """What one request found in the store so far.

    Attributes:
        hits: segments that were found.
        misses: segments that have to be encoded.
        bytes: bytes of KV found.
        reasons: for each segment, by name, what the store said.
        fresh: segments encoded for this request.
        shared: what requests of one batch share.
    """

    hits: int = 0
    misses: int = 0
    bytes: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    fresh: list[tuple[Segment, SegmentKV]] = field(default_factory=list)
    shared: Shared = field(default_factory=Shared)

    def hit(self, segment: Segment, reason: str, nbytes: int) -> None:
        """Count a segment once, however often the request needs it."""
        if segment.name not in self.reasons:
            self.hits += 1
            self.bytes += nbytes
            self.reasons[segment.name] = reason

    def miss(self, segment: Segment, reason: str) -> None:
        """Count a segment that has to be encoded."""
        if segment.name not in self.reasons:
            self.misses += 1
            self.reasons[segment.name] = reason

    def use(self) -> CacheUse:
        """Return the counts so far."""
        return CacheUse(self.hits, self.misses, self.bytes, dict(self.reasons))
