"""Several corpora as one resource: an open index a label, one encoder, and one KV store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from pipelines.corpora.joined import EachItsOwn, United
from pipelines.corpora.manifest import VISION
from pipelines.index_folder import KV
from pipelines.open_index import DISK_BYTES, RAM_BYTES, OpenIndex, opened_store
from rag.errors import IndexFolderError
from rag.records import Passage
from rag.routing.labels import MODALITIES, modality_of

if TYPE_CHECKING:
    import numpy as np

    from rag.protocols import Encoder, PassageCache
    from retrievers.images.vision_index import VisionIndex


class _OfOneIndex:
    """What a step may ask of one index, and several corpora together do not have."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, corpora: OpenCorpora | None, owner: type) -> NoReturn:
        if corpora is None:
            raise AttributeError(self._name)
        labels = ", ".join(corpora.corpora)
        one = next(iter(corpora.corpora.values())).folder.folder
        raise IndexFolderError(
            f"this step searches one index, and {corpora.where} has several corpora ({labels}): "
            f"use recipe universal, which asks them all, or give the folder of one, as -i {one}"
        )


class OpenCorpora:
    """Open corpora of one encoder; encoder and KV store are loaded when a step first needs them.

    Attributes:
        corpora: label to open index, in declared order; those with passages only.
        empty: labels that were asked for and have no passages, or none in the scope.
        modalities: of all these labels.
        notes: what a person should know about how they were opened.
    """

    dense = _OfOneIndex()
    existing = _OfOneIndex()
    folder = _OfOneIndex()
    graph = _OfOneIndex()
    scoped_terms = _OfOneIndex()
    scoped_vectors = _OfOneIndex()
    select = _OfOneIndex()
    sparse = _OfOneIndex()
    term_index = _OfOneIndex()

    def __init__(
        self,
        corpora: Mapping[str, OpenIndex],
        *,
        empty: tuple[str, ...] = (),
        modalities: Mapping[str, str] | None = None,
        home: Path | None = None,
        download: bool = False,
        kv_ram: int = RAM_BYTES,
        kv_disk: int = DISK_BYTES,
    ) -> None:
        """Put open indexes together; `open_corpora` opens a folder of them.

        Args:
            corpora: label to open index; closed with this object.
            empty: further labels, of corpora without passages.
            modalities: of the labels; by default as `rag.routing.labels` has them.
            home: a corpora folder, whose KV store they share; None leaves each its own.
            download: let the encoder of the images be fetched from the hub.
            kv_ram: bytes of RAM for KV of the shared store; half of it holds rotated copies.
            kv_disk: bytes of disk for KV of the shared store.

        Raises:
            ValueError: if there are none.
            IndexFolderError: if two were made with different encoders, or have a passage of one id.
        """
        if not corpora:
            raise ValueError("corpora must be at least one, got none")
        self.corpora: Mapping[str, OpenIndex] = dict(corpora)
        self.empty = tuple(empty)
        known = MODALITIES if modalities is None else {**MODALITIES, **modalities}
        self.modalities: Mapping[str, str] = {
            label: modality_of(label, known) for label in (*self.corpora, *self.empty)
        }
        _check_encoders(self.corpora)
        _check_ids(self.corpora)
        self.passages: Mapping[str, Passage] = United(
            [index.passages for index in self.corpora.values()]
        )
        self.notes = [note for index in self.corpora.values() for note in index.notes]
        for index in self.corpora.values():
            index.notes = self.notes
        self._home = home
        self._download = download
        self._kv_ram = kv_ram
        self._kv_disk = kv_disk
        self._closing = ExitStack()
        self._view = False

    @classmethod
    def of(cls, index: OpenIndex | OpenCorpora) -> OpenCorpora:
        """Return corpora as they are, and a plain index as the corpus `paragraph`.

        The index stays its opener's: to close what is returned leaves it open.
        """
        if isinstance(index, OpenCorpora):
            return index
        made = cls({"paragraph": index})
        made._view = True
        return made

    @property
    def encoder(self) -> Encoder:
        """The encoder that made all of them."""
        return self._first.encoder

    @cached_property
    def kv(self) -> PassageCache:
        """The KV store that they share, or that of each corpus for its own documents.

        If another process is writing to the shared store, it is read, and new entries stay in RAM.
        """
        if self._home is None:
            stores = [(index.folder.contents, index.kv) for index in self.corpora.values()]
            return stores[0][1] if len(stores) == 1 else EachItsOwn(stores)
        store = opened_store(self._home / KV, self._kv_ram // 2, self._kv_disk, self.notes)
        return self._closing.enter_context(store)

    @property
    def sentence_vectors(self) -> Callable[[Passage], np.ndarray] | None:
        """Gives the vectors of a passage's sentences, float32 (n, dim), if every corpus has them.

        It raises KeyError for a passage of none of them.
        """
        if any(index.sentence_vectors is None for index in self.corpora.values()):
            return None
        return self._sentence_vectors

    @cached_property
    def vision(self) -> VisionIndex | None:
        """Vectors of the images, if the folder has them."""
        if self._home is None or not (self._home / VISION).is_dir():
            return None
        from pipelines.corpora.vision import open_vision

        return open_vision(self._home / VISION, download=self._download)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a search depends on, the scope included."""
        parts = [(label, index.fingerprint) for label, index in self.corpora.items()]
        depends = repr((parts, self.empty, sorted(self.modalities.items())))
        return hashlib.sha256(depends.encode()).hexdigest()

    @property
    def where(self) -> Path:
        """What was opened, for messages."""
        return self._home or self._first.folder.folder.parent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the KV stores; twice is harmless."""
        self.__dict__.pop("kv", None)
        self._closing.close()
        if not self._view:
            for index in self.corpora.values():
                index.close()

    @property
    def _first(self) -> OpenIndex:
        return next(iter(self.corpora.values()))

    def _sentence_vectors(self, passage: Passage) -> np.ndarray:
        for index in self.corpora.values():
            if passage.id in index.passages:
                return index.folder.sentence_vectors(passage)
        raise KeyError(passage.id)


def _check_encoders(corpora: Mapping[str, OpenIndex]) -> None:
    (label, index), *others = corpora.items()
    first = index.folder.manifest.encoder
    for other, made in ((name, one.folder.manifest.encoder) for name, one in others):
        if made.fingerprint != first.fingerprint:
            raise IndexFolderError(
                f"all corpora must be made with one encoder, but {label} was made with "
                f"{first.name!r} ({first.fingerprint[:12]}) and {other} with {made.name!r} "
                f"({made.fingerprint[:12]}); index one of them again with --rebuild"
            )


def _check_ids(corpora: Mapping[str, OpenIndex]) -> None:
    seen: dict[str, str] = {}
    for label, index in corpora.items():
        double = next((id_ for id_ in index.folder.passages if id_ in seen), None)
        if double is not None:
            raise IndexFolderError(
                f"the corpora {seen[double]} and {label} both have a passage {double!r}; a passage "
                "belongs to one corpus: make them with `dovetail index --corpora`"
            )
        seen.update(dict.fromkeys(index.folder.passages, label))
