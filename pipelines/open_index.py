"""An index as a resource of pipelines: the folder, the encoder that made it, and its KV store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.index_folder import IndexFolder, open_index
from rag.errors import FolderLockedError
from rag.protocols import Encoder
from rag.records import Passage

if TYPE_CHECKING:
    import numpy as np

    from kvstore.store import KVStore
    from retrievers import BM25Index, DenseIndex

RAM_BYTES = 4_000_000_000
DISK_BYTES = 10_000_000_000


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
    ) -> None:
        """Open an index folder.

        Args:
            path: what `dovetail index` made.
            download: let the encoder be fetched from the hub.
            kv_ram: bytes of RAM for KV; half of it holds rotated copies.
            kv_disk: bytes of disk for KV.
            encoder: the encoder that made it, if it is loaded already.

        Raises:
            IndexFolderError: if it is missing, damaged, or made with another encoder.
        """
        self.folder: IndexFolder = open_index(path, encoder=encoder)
        self.notes: list[str] = []
        self._download = download
        self._kv_ram = kv_ram
        self._kv_disk = kv_disk
        self._closing = ExitStack()
        if encoder is not None:
            self.__dict__["encoder"] = encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the index."""
        from rag.models.encoder import load_encoder

        encoder = load_encoder(self.folder.manifest.encoder.name, download=self._download)
        self.folder.check_encoder(encoder)
        return encoder

    @cached_property
    def kv(self) -> KVStore:
        """The KV store in the index folder."""
        from kvstore.store import KVStore

        folder, ram = self.folder.kv_folder, self._kv_ram // 2
        try:
            store = KVStore(folder, ram_bytes=ram, disk_bytes=self._kv_disk)
        except FolderLockedError as error:
            self.notes.append(f"{error}; reading it, and keeping new entries in RAM only")
            store = KVStore(folder, ram_bytes=ram, disk_bytes=self._kv_disk, read_only=True)
        return self._closing.enter_context(store)

    @property
    def sparse(self) -> BM25Index:
        """Term index of the passages."""
        return self.folder.sparse

    @property
    def dense(self) -> DenseIndex:
        """Vector index of the passages."""
        return self.folder.dense

    @property
    def passages(self) -> Mapping[str, Passage]:
        """Every passage by id."""
        return self.folder.passages

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a search depends on."""
        manifest = self.folder.manifest
        files = sorted((name, file.sha256) for name, file in manifest.files.items())
        return hashlib.sha256(repr((manifest.encoder.fingerprint, files)).encode()).hexdigest()

    def sentence_vectors(self, passage: Passage) -> np.ndarray:
        """Return the vectors of a passage's sentences: float32 (sentences, dim)."""
        return self.folder.sentence_vectors(passage)

    def close(self) -> None:
        """Close the KV store; twice is harmless."""
        self.__dict__.pop("kv", None)
        self._closing.close()
