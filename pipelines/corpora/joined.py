"""What several corpora have in common: passages by id, one encoder, and KV stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from rag.records import Passage

if TYPE_CHECKING:
    import numpy as np

    from pipelines.open_index import OpenIndex
    from rag.protocols import Lookup, PassageCache, SegmentKV
    from rag.records import Segment


class United(Mapping[str, Passage]):
    """Passages of several corpora by id; ids are unique."""

    def __init__(self, parts: list[Mapping[str, Passage]]) -> None:
        self._parts = parts

    def __getitem__(self, id_: str) -> Passage:
        for part in self._parts:
            if id_ in part:
                return part[id_]
        raise KeyError(id_)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))


class EncoderOf:
    """The encoder of an open index, which loads it when something is first encoded."""

    def __init__(self, index: OpenIndex) -> None:
        made = index.folder.manifest.encoder
        self.name, self.fingerprint, self.dim = made.name, made.fingerprint, made.dim
        self._index = index

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return unit vectors, float32 (n, dim)."""
        return self._index.encoder.encode(texts, progress=progress)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of queries, float32 (n, dim)."""
        return self._index.encoder.encode_queries(texts)


class EachItsOwn:
    """A `PassageCache` over several: a segment goes to that of the corpus with its document.

    The first one gets what belongs to no document, such as the prefix.
    """

    def __init__(self, stores: Sequence[tuple[Mapping[str, object], PassageCache]]) -> None:
        self._stores = stores

    def get(self, segment: Segment) -> Lookup:
        """Return what the document's store says."""
        return self._of(segment).get(segment)

    def put(self, segment: Segment, kv: SegmentKV) -> bool:
        """Keep the KV in the document's store."""
        return self._of(segment).put(segment, kv)

    def _of(self, segment: Segment) -> PassageCache:
        found = (store for documents, store in self._stores if segment.document in documents)
        return next(found, self._stores[0][1])
