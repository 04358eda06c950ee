"""Vectors of passages: those that an index holds, and the encoder's where it holds none."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np

from rag.protocols import Encoder
from rag.records import Passage


class StoredVectors(Protocol):
    """What hands back vectors of passages: any `VectorSearch`, or a retriever."""

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of passages, (n, dim); raises KeyError for an unknown id."""


VectorsOf = Callable[[Sequence[str]], np.ndarray]


def stored_or_encoded(
    stored: StoredVectors | VectorsOf, encoder: Encoder, passages: Mapping[str, Passage]
) -> dict[str, np.ndarray]:
    """Return a vector for each id: the stored one, or that of the text where there is none.

    Args:
        stored: gives vectors, by its method `vectors` or called with ids.
        encoder: encodes all passages without a stored vector in one call.
        passages: by id; may be empty, and nothing is asked for then.
    """
    ids = list(passages)
    found = stored.vectors if hasattr(stored, "vectors") else stored
    if not ids:
        return {}
    try:
        return dict(zip(ids, found(ids), strict=True))
    except KeyError:
        vectors: dict[str, np.ndarray] = {}
        for id_ in ids:
            with suppress(KeyError):
                (vectors[id_],) = found([id_])
        missing = [id_ for id_ in ids if id_ not in vectors]
        encoded = encoder.encode([passages[id_].searchable for id_ in missing])
        return vectors | dict(zip(missing, encoded, strict=True))
