"""Retrieval from a vector store of another project, through langchain-core's interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rag.protocols import Encoder
from rag.records import Hit, Passage, Query
from retrievers.distinct import distinct_passages
from retrievers.filters import Filter
from retrievers.stores.capability import Capability, capability_of
from retrievers.stores.documents import from_document, is_ours, key_of, to_document
from retrievers.stores.native_filters import NothingPasses, native_filter
from retrievers.stores.self_check import check_scores

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import VectorStore

_CHECKED = 10  # documents that the self-check looks at
_AT_ONCE = 8  # searches that run at once
_IDS = 500  # ids asked for in one call


class VectorStoreSearch:
    """A LangChain vector store as our vector search and as a retriever.

    It satisfies `VectorSearch`, so `Hybrid` runs on it, and is a retriever by itself. Whatever the
    store's scores mean, those returned here are inner products, higher is better. A store hands
    back no vectors, so `vectors` encodes the passages' texts again, with the prompt of the encoder:
    it must be the one that filled the store. Before the first search of a store that is not empty,
    one stored text is searched for, and a store that contradicts its record is refused.

    `add` and `delete` change the store, and it decides who else sees that when; everything else
    reads. Passages with equal scores are ordered by id, but which of them a cut leaves out is the
    store's choice. Searches are as exact as the store's index.
    """

    def __init__(
        self,
        store: VectorStore,
        encoder: Encoder,
        *,
        top_k: int = 3,
        depth: int = 100,
        where: Filter | Mapping[str, Any] | None = None,
        within: frozenset[str] | None = None,
        capability: Capability | None = None,
        closing: Callable[[], object] | None = None,
    ) -> None:
        """Wrap a store.

        Args:
            store: embeds with `as_embeddings(encoder)`.
            encoder: what makes the vectors in the store.
            top_k: passages that a query returns, at least 1.
            depth: documents that a query reads, at least 1; copies of a text are passed over.
            where: condition on the metadata of passages; None means none.
            within: the only ids that are searched; None means all.
            capability: what the store can do; by default the record of its class.
            closing: called by `close`, to let go of connections.

        Raises:
            ValueError: if top_k or depth is none of that, where is no filter, or no record is
                known for the store.
        """
        for name, value in (("top_k", top_k), ("depth", depth)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.store = store
        self.encoder = encoder
        self.top_k = top_k
        self.depth = max(depth, top_k)
        self.where = None if where is None else Filter.parse(where)
        self.within = within
        self.capability = capability_of(store) if capability is None else capability
        self._closing = closing
        self._checked = False
        self._foreign = False

    def close(self) -> None:
        """Let go of the store's connections; twice is harmless."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.encoder.dim

    def __call__(self, query: Query) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id, no text twice; a `Ranking`."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages for each query; all queries are encoded in one call.

        Raises:
            ValueError: if the store contradicts its record, or cannot express the filter.
        """
        self._check()
        asked: Sequence[str | np.ndarray] = [one.text for one in query]
        if self.capability.score_by_vector and asked:
            asked = list(self.encoder.encode_queries([one.text for one in query]))
        try:
            options = self._options(self.where, self.within)
        except NothingPasses:
            return [[] for _ in query]
        return [self._best(self._ask(one, self.depth, options)) for one in asked]

    async def acall(self, query: Query) -> list[Passage]:
        """Return what a call returns, by the store's own asynchronous search."""
        return (await self.abatch(query=[query]))[0]

    async def abatch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return what `batch` returns, by the store's own asynchronous search, several at once.

        A store whose search is bound to one event loop is searched in a thread.
        """
        if not self.capability.own_async:
            return await asyncio.to_thread(lambda: self.batch(query=query))
        await asyncio.to_thread(self._check)
        try:
            options = self._options(self.where, self.within)
        except NothingPasses:
            return [[] for _ in query]
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(text: str) -> list[Passage]:
            async with turn:
                found = await self.store.asimilarity_search_with_score(
                    text, k=self._allowed(self.depth), **options
                )
            return self._best(found)

        return list(await asyncio.gather(*(one(each.text) for each in query)))

    def search_vectors(
        self,
        vectors: np.ndarray,
        top_k: int,
        *,
        within: frozenset[str] | None = None,
        where: Filter | None = None,
    ) -> list[list[Hit]]:
        """Return at most `top_k` hits for each vector, best first, ties by id.

        The conditions of the constructor hold too. One request a vector.

        Args:
            vectors: (queries, dim), finite, of any norm but 0.
            top_k: at least 1; may exceed the corpus.
            within: the only ids that may be returned; None means all. Unknown ones are no error.
            where: condition on the metadata; None means none.

        Raises:
            ValueError: if the vectors or top_k are none of that, the store cannot be searched by
                vectors, contradicts its record, or cannot express the condition.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"vectors must be (queries, {self.dim}), got {vectors.shape}")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        if not self.capability.score_by_vector:
            raise ValueError(
                f"{self.capability.name} cannot be searched by vectors with scores, only by texts"
            )
        units, norms = _units(vectors)
        self._check()
        try:
            options = self._options(_both(self.where, where), _common(self.within, within))
        except NothingPasses:
            return [[] for _ in vectors]
        return [
            _hits(self._read(self._ask(unit, top_k, options)), norm)
            for unit, norm in zip(units, norms, strict=True)
        ]

    def scores_of(self, vector: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Return the inner products of given passages with a vector, float64 (n,), in their order.

        They are computed here, from the texts encoded again.

        Raises:
            KeyError: for an unknown id.
            ValueError: if the vector is not (dim,).
        """
        if vector.shape != (self.dim,):
            raise ValueError(f"vector must be ({self.dim},), got {vector.shape}")
        scores: np.ndarray = self.vectors(ids).astype(np.float64) @ vector.astype(np.float64)
        return scores

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return vectors of passages, float32 (n, dim), in their order: their texts encoded again.

        Raises:
            KeyError: for an unknown id.
        """
        if not ids:
            return np.zeros((0, self.dim), np.float32)
        return self.encoder.encode([passage.searchable for passage in self.passages(ids)])

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """Return stored passages, in the order asked for.

        Raises:
            KeyError: for an unknown id.
        """
        found = self._stored(ids)
        for id_ in ids:
            if id_ not in found:
                raise KeyError(f"no passage {id_!r} in {self.capability.name}")
        return [found[id_] for id_ in ids]

    def __contains__(self, id_: object) -> bool:
        """Tell whether there is a passage of this id; one request."""
        return isinstance(id_, str) and id_ in self._stored([id_])

    def add(self, passages: Iterable[Passage]) -> None:
        """Store passages; one replaces an earlier one of its id. The store has them encoded.

        Scores and selections are not stored.

        Raises:
            ValueError: if an id occurs twice, or metadata cannot be stored; nothing has changed
                then.
        """
        documents: dict[str, Document] = {}
        ids: list[str] = []
        for passage in passages:
            ids.append(passage.id)
            if key_of(passage.id) in documents:
                raise ValueError(f"passages must have unique ids, got {passage.id!r} twice")
            documents[key_of(passage.id)] = to_document(passage, self.capability.adds)
        if not documents:
            return
        if not self.capability.replaces:
            self.delete(ids)
        self.store.add_documents(list(documents.values()), ids=list(documents))

    def delete(self, ids: Iterable[str]) -> int:
        """Remove passages; return how many there were. Unknown ids are no error.

        Raises:
            RuntimeError: if the store reports that it did not delete.
        """
        known = [key_of(id_) for id_ in self._stored(list(ids))]
        if known and self.store.delete(ids=known) is False:
            raise RuntimeError(f"{self.capability.name} did not delete {len(known)} passages")
        return len(known)

    def _check(self) -> None:
        """Search for one stored text, once; later if there is none yet."""
        if self._checked:
            return
        first = self._ask(self._any(), 1, {})
        if not first:
            return
        text = first[0][0].page_content
        by_vector = self.capability.score_by_vector
        asked = self.encoder.encode([text])[0] if by_vector else text
        found = self._ask(asked, _CHECKED, {})
        check_scores(self.capability, text, found, exact=by_vector)
        self._foreign = not all(is_ours(document) for document, _ in found)
        self._checked = True

    def _any(self) -> str | np.ndarray:
        """Return something to search for where only the filter or the count matters."""
        if not self.capability.score_by_vector:
            return "passage"
        return np.full(self.dim, self.dim**-0.5, np.float32)

    def _ask(
        self, asked: str | np.ndarray, top_k: int, options: Mapping[str, Any]
    ) -> list[tuple[Document, float]]:
        """Return what the store returns, in its order, for a text or a unit vector."""
        most = self._allowed(top_k)
        if isinstance(asked, str):
            return self.store.similarity_search_with_score(asked, k=most, **options)
        search: Any = self.store.similarity_search_with_score_by_vector  # type: ignore[attr-defined]
        found: list[tuple[Document, float]] = search(asked.tolist(), k=most, **options)
        return found

    def _allowed(self, top_k: int) -> int:
        most = self.capability.most
        if most is not None and top_k > most:
            raise ValueError(
                f"top_k and depth must be at most {most} for {self.capability.name}, got {top_k}"
            )
        return top_k

    def _options(self, where: Filter | None, within: frozenset[str] | None) -> dict[str, Any]:
        """Return the keyword that hands conditions to the store."""
        narrowed = where is not None or within is not None
        if self._foreign and narrowed and self.capability.filters != "python":
            raise ValueError(
                f"{self.capability.name} holds documents that were not added here, which have "
                "nothing for filters and ids to find them by; add them anew with `add`"
            )
        native = native_filter(self.capability, where, within)
        if native is None:
            return {}
        return {"expr" if self.capability.filters == "milvus" else "filter": native}

    def _read(self, found: Iterable[tuple[Document, float]]) -> list[Passage]:
        """Return the passages that a store found, with inner products, best first, ties by id."""
        best: dict[str, Passage] = {}
        for document, score in found:
            passage = from_document(document, self.capability.adds)
            scored = replace(passage, score=self.capability.inner_product(float(score)))
            best.setdefault(passage.id, scored)
        return sorted(best.values(), key=lambda one: (-(one.score or 0.0), one.id))

    def _best(self, found: Iterable[tuple[Document, float]]) -> list[Passage]:
        passages = self._read(found)
        return distinct_passages(_hits(passages), {one.id: one for one in passages}, self.top_k)

    def _stored(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return those of the ids that are stored, with their passages."""
        wanted, found = list(dict.fromkeys(ids)), []
        for start in range(0, len(wanted), _IDS):
            some = wanted[start : start + _IDS]
            if self.capability.get_by_ids:
                found += self.store.get_by_ids([key_of(id_) for id_ in some])
            else:
                options = self._options(None, frozenset(some))
                found += [one for one, _ in self._ask(self._any(), len(some), options)]
        passages = (from_document(document, self.capability.adds) for document in found)
        return {passage.id: passage for passage in passages}


def _units(vectors: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Return vectors at unit length, float32, and the lengths they had."""
    exact = vectors.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(exact, axis=1)
    for norm in norms:
        if not (np.isfinite(norm) and norm > 0.0):
            raise ValueError(f"vectors must be finite and not zero, got norm {norm}")
    return (exact / norms[:, None]).astype(np.float32), norms.tolist()


def _hits(passages: Iterable[Passage], norm: float = 1.0) -> list[Hit]:
    return [Hit(passage.id, (passage.score or 0.0) * norm) for passage in passages]


def _both(one: Filter | None, other: Filter | None) -> Filter | None:
    return other if one is None else one if other is None else one & other


def _common(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return other if one is None else one if other is None else one & other
