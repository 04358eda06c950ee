"""An index as a resource of pipelines: the folder, the encoder that made it, and its KV store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines.index_folder import IndexFolder, open_index
from rag.errors import FolderLockedError
from rag.protocols import Encoder, SparseSearch, VectorSearch
from rag.records import Passage
from retrievers.filters import Filter, MetadataIndex
from retrievers.scoped import ScopedPassages, ScopedSparse, ScopedVectors

if TYPE_CHECKING:
    import numpy as np

    from kvstore.store import KVStore
    from retrievers.graph.corpus_graph import CorpusGraph
    from retrievers.sparse.index import SparseIndex

RAM_BYTES = 4_000_000_000
DISK_BYTES = 10_000_000_000
_REMEMBERED = 256
"""Vectors of queries: routing and each search of one question ask for the same one."""


def opened_store(folder: Path, ram_bytes: int, disk_bytes: int, notes: list[str]) -> KVStore:
    """Return the KV store in a folder; read only, with a note, if another process writes to it."""
    from kvstore.store import KVStore

    try:
        return KVStore(folder, ram_bytes=ram_bytes, disk_bytes=disk_bytes)
    except FolderLockedError as error:
        notes.append(f"{error}; reading it, and keeping new entries in RAM only")
        return KVStore(folder, ram_bytes=ram_bytes, disk_bytes=disk_bytes, read_only=True)


class OpenIndex:
    """An open index folder; encoder and KV store are loaded when a step first needs them.

    If another process is writing to the KV store, it is read, and new entries stay in RAM; `notes`
    says so.

    Attributes:
        folder: the index as it was when it was opened.
        notes: what a person should know about how it was opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        download: bool = False,
        kv_ram: int = RAM_BYTES,
        kv_disk: int = DISK_BYTES,
        encoder: Encoder | None = None,
        scope: Filter | Mapping[str, Any] | None = None,
    ) -> None:
        """Open an index folder.

        Args:
            path: what `dovetail index` made.
            download: let the encoder be fetched from the hub.
            kv_ram: bytes of RAM for KV; half of it holds rotated copies.
            kv_disk: bytes of disk for KV.
            encoder: the encoder that made it, if it is loaded already.
            scope: a filter on metadata; passages that it does not let through do not exist for
                whoever uses this object, and no filter brings them back.

        Raises:
            IndexFolderError: if it is missing, damaged, or made with another encoder.
            ValueError: if the scope is no filter, or names a field that no passage has.
        """
        self.folder: IndexFolder = open_index(path, encoder=encoder)
        self.notes: list[str] = []
        self._download = download
        self._kv_ram = kv_ram
        self._kv_disk = kv_disk
        self._closing = ExitStack()
        self._scope: frozenset[str] | None = None
        if scope is not None:
            self._scope = self.select(scope)
            self.__dict__.pop("_metadata")  # that of all passages
        if encoder is not None:
            self.__dict__["encoder"] = encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the index; if it is loaded here, it remembers the last queries."""
        from rag.models.encoder import load_encoder
        from rag.models.remembering import Remembering

        made = self.folder.manifest.encoder
        encoder = load_encoder(
            made.name,
            download=self._download,
            query_prompt=made.query_prompt,
            document_prompt=made.document_prompt,
        )
        self.folder.check_encoder(encoder)
        return Remembering(encoder, most=_REMEMBERED)

    @cached_property
    def kv(self) -> KVStore:
        """The KV store in the index folder."""
        folder = self.folder.kv_folder
        store = opened_store(folder, self._kv_ram // 2, self._kv_disk, self.notes)
        return self._closing.enter_context(store)

    @property
    def term_index(self) -> SparseIndex:
        """Postings of all passages, whatever the scope; what searches them is to be scoped."""
        return self.folder.sparse

    @property
    def dense(self) -> VectorSearch:
        """Vector index of the passages."""
        return self.scoped_vectors(self.folder.dense)

    @property
    def passages(self) -> Mapping[str, Passage]:
        """Every passage by id."""
        if self._scope is None:
            return self.folder.passages
        return ScopedPassages(self.folder.passages, self._scope)

    @property
    def sparse(self) -> SparseSearch:
        """Ranks the passages by BM25 with the index's own parameters."""
        return self.scoped_terms(self.term_index)

    def scoped_terms(self, search: SparseSearch) -> SparseSearch:
        """Return a ranking by terms of the same passages that keeps to the scope."""
        return search if self._scope is None else ScopedSparse(search, self._scope)

    def scoped_vectors(self, search: VectorSearch) -> VectorSearch:
        """Return a ranking by vectors of the same passages that keeps to the scope."""
        return search if self._scope is None else ScopedVectors(search, self._scope)

    def select(self, wanted: Filter | Mapping[str, Any] | None) -> frozenset[str] | None:
        """Return the ids that a filter lets through; None for no filter, which lets through all.

        Raises:
            ValueError: if it is no filter, or names a field that no passage of the scope has.
        """
        return None if wanted is None else self._metadata.select(Filter.parse(wanted))

    def existing(self, wanted: Filter | Mapping[str, Any] | None) -> frozenset[str] | None:
        """Return the ids of the scope that a filter lets through; None means every passage.

        Raises:
            ValueError: as `select`.
        """
        return self._scope if wanted is None else self.select(wanted)

    @property
    def graph(self) -> CorpusGraph:
        """Corpus graph of all passages, whatever the scope; what walks it is given `existing`.

        Raises:
            IndexFolderError: if the index was made without one.
        """
        return self.folder.graph

    @cached_property
    def _metadata(self) -> MetadataIndex:
        """Metadata of the passages that exist; the first use reads them all."""
        return MetadataIndex((id_, self.passages[id_].metadata) for id_ in self.passages)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a search depends on, the scope included."""
        scope = None if self._scope is None else sorted(self._scope)
        return hashlib.sha256(repr((self.folder.fingerprint, scope)).encode()).hexdigest()

    @property
    def sentence_vectors(self) -> Callable[[Passage], np.ndarray] | None:
        """Gives the vectors of a passage's sentences, float32 (n, dim), if they are kept."""
        return self.folder.sentence_vectors if self.folder.has_sentence_vectors else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the KV store; twice is harmless."""
        self.__dict__.pop("kv", None)
        self._closing.close()
