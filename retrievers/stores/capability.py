"""What vector stores can do, and what their scores mean: one record a store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

ScoreKind = Literal["similarity", "cosine_distance", "euclidean", "squared_euclidean"]
FilterKind = Literal["python", "qdrant", "postgres", "milvus"]

_INNER_PRODUCT: Mapping[str, Callable[[float], float]] = {
    "similarity": lambda score: score,
    "cosine_distance": lambda distance: 1.0 - distance,
    "euclidean": lambda distance: 1.0 - distance * distance / 2.0,
    "squared_euclidean": lambda distance: 1.0 - distance / 2.0,
}


@dataclass(frozen=True, slots=True)
class Capability:
    """What one kind of vector store offers beyond langchain-core's interface.

    No store hands back vectors through that interface, so there is no field for it.

    Attributes:
        name: what messages call the store.
        score_kind: what the store returns with a document, for unit vectors: their inner product,
            or a distance (0 is best), which is turned into the inner product.
        score_by_vector: whether it has `similarity_search_with_score_by_vector`. Without it, only
            texts can be searched for, and there is no feedback on vectors.
        get_by_ids: whether documents can be read by id; else they are searched for among these ids.
        replaces: whether adding under a known id replaces; else the old document is deleted first,
            and for a moment there is neither.
        filters: the language that filters are translated to; None if it has none.
        id_field: what that language calls the id of a document; empty where it needs no name.
        metadata_field: what it calls the metadata; empty where they stand at the top.
        adds: metadata keys that the store puts into what it returns; passages may not use them.
        own_async: whether its asynchronous search works in any event loop; else a thread is used.
        most: the most documents that one search may return; None if there is no such limit.
    """

    name: str
    score_kind: ScoreKind
    score_by_vector: bool = False
    get_by_ids: bool = False
    replaces: bool = False
    filters: FilterKind | None = None
    id_field: str = ""
    metadata_field: str = ""
    adds: tuple[str, ...] = ()
    own_async: bool = True
    most: int | None = None

    def __post_init__(self) -> None:
        if self.score_kind not in get_args(ScoreKind):
            raise ValueError(
                f"score_kind must be one of {get_args(ScoreKind)}, got {self.score_kind!r}"
            )
        if self.filters is not None and self.filters not in get_args(FilterKind):
            raise ValueError(
                f"filters must be None or one of {get_args(FilterKind)}, got {self.filters!r}"
            )
        if self.most is not None and self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def inner_product(self, score: float) -> float:
        """Return the inner product of two unit vectors that the store scored so."""
        return _INNER_PRODUCT[self.score_kind](score)


IN_MEMORY = Capability(
    "InMemoryVectorStore",
    "similarity",
    score_by_vector=True,
    get_by_ids=True,
    replaces=True,
    filters="python",
)
QDRANT = Capability(
    "QdrantVectorStore",
    "similarity",
    score_by_vector=True,
    get_by_ids=True,
    replaces=True,
    filters="qdrant",
    metadata_field="metadata",
    adds=("_id", "_collection_name"),
)
PGVECTOR = Capability(
    "PGVectorStore",
    "cosine_distance",
    score_by_vector=True,
    get_by_ids=True,
    replaces=True,
    filters="postgres",
    id_field="langchain_id",
)
MILVUS = Capability(
    "Milvus",
    "similarity",
    score_by_vector=True,
    filters="milvus",
    id_field="pk",
    metadata_field="metadata",
    own_async=False,
    most=16384,
)

KNOWN: Mapping[str, Capability] = MappingProxyType(
    {
        "langchain_core.vectorstores.in_memory.InMemoryVectorStore": IN_MEMORY,
        "langchain_qdrant.qdrant.QdrantVectorStore": QDRANT,
        "langchain_postgres.v2.vectorstores.PGVectorStore": PGVECTOR,
        "langchain_milvus.vectorstores.milvus.Milvus": MILVUS,
    }
)
"""Records of the stores that the tests run, by the full name of their class."""


def capability_of(store: object) -> Capability:
    """Return the record of a store; that of a subclass is its parent's.

    Raises:
        ValueError: if no record is known: whoever knows the store has to write one.
    """
    for kind in type(store).__mro__:
        known = KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            return known
    names = ", ".join(sorted(one.name for one in KNOWN.values()))
    raise ValueError(f"capability must be given for {type(store).__name__}; only {names} are known")
