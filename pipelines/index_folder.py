"""Opening an index folder: passages, documents and the indexes over them, checked for damage."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines import snapshots
from pipelines.record_lines import Record, RecordFile, parse_document, parse_passage
from rag.corpus.manifest import Manifest, read_manifest
from rag.errors import IndexFolderError
from rag.protocols import Encoder
from rag.records import Passage
from rag.text.analyser import Analyser
from retrievers.dense.index import DenseIndex
from retrievers.sparse.index import SparseIndex

if TYPE_CHECKING:
    from retrievers.graph.corpus_graph import CorpusGraph

KV = "kv"


class IndexFolder:
    """An index folder at one moment; `open_index` makes it. Nothing in it ever changes.

    It stays usable while a build replaces the folder's content, and goes on to show the old one.

    Attributes:
        folder: the index folder.
        manifest: what it was made from.
        contents: passage ids of each document, both in order.
        documents: each document by id, parsed when it is asked for.
        passages: each passage by id, in order, parsed when it is asked for.
        sparse: term index of the passages.
        dense: vector index of the passages.
        sentences: vectors of all sentences in the order of `passages`, float16 (sentences, dim).
        kv_folder: where the KV store for its passages belongs; it may not exist.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Open the snapshot that `manifest` names.

        Raises:
            IndexFolderError: if one of its files cannot be read.
        """
        snapshot = folder / snapshots.SNAPSHOTS / manifest.snapshot
        self.folder = folder
        self.manifest = manifest
        self.kv_folder = folder / KV
        try:
            self.contents: dict[str, list[str]] = json.loads(
                (snapshot / snapshots.CONTENTS).read_bytes()
            )
            self.documents = _records(
                snapshot / snapshots.DOCUMENTS, list(self.contents), parse_document
            )
            ids = [id_ for of_document in self.contents.values() for id_ in of_document]
            self.passages = _records(snapshot / snapshots.PASSAGES, ids, parse_passage)
            self.sentences: np.ndarray = np.load(
                snapshot / snapshots.SENTENCES, mmap_mode="r", allow_pickle=False
            )
            self._starts = np.load(snapshot / snapshots.SENTENCE_STARTS, allow_pickle=False)
        except (OSError, ValueError, AttributeError) as error:
            raise _damaged(folder, str(error)) from error
        analyser = Analyser(manifest.language)
        self.sparse = SparseIndex.open(snapshot / snapshots.SPARSE, analyser=analyser)
        self.dense = DenseIndex.load(snapshot / snapshots.DENSE)
        self._graph = self._opened_graph(snapshot / snapshots.GRAPH)

    @property
    def graph(self) -> "CorpusGraph":
        """The corpus graph of the passages.

        Raises:
            IndexFolderError: if the index was made without one.
        """
        if self._graph is None:
            raise IndexFolderError(
                f"{self.folder} has no corpus graph; run `dovetail index` on its paths again with "
                "--graph, which encodes nothing anew"
            )
        return self._graph

    @property
    def has_graph(self) -> bool:
        """Whether the index was made with a corpus graph."""
        return self._graph is not None

    @property
    def fingerprint(self) -> str:
        """Hash of the content and of the encoder."""
        files = sorted((name, file.sha256) for name, file in self.manifest.files.items())
        depends = repr((self.manifest.encoder.fingerprint, files))
        return hashlib.sha256(depends.encode()).hexdigest()

    @property
    def snapshot(self) -> snapshots.Before:
        """What the next snapshot can be made from."""
        folder = self.folder / snapshots.SNAPSHOTS / self.manifest.snapshot
        form = snapshots.Form(self.manifest.language, self.dense.kind.name, self.dense.dtype)
        if self._graph is not None:
            from retrievers.graph.edges.triple import read_triples

            triples = read_triples(folder / snapshots.GRAPH / snapshots.TRIPLES)
            form = replace(form, graph=self._graph.settings, triples=tuple(triples))
        return snapshots.Before(folder, self.passages, form)

    def _opened_graph(self, folder: Path) -> "CorpusGraph | None":
        if not any(name.startswith(f"{snapshots.GRAPH}/") for name in self.manifest.files):
            return None
        from retrievers.graph.graph_folder import open_graph

        return open_graph(folder)

    @property
    def has_sentence_vectors(self) -> bool:
        """Whether the vectors of sentences are kept; indexes of data may do without."""
        return len(self.sentences) == int(self._starts[-1])

    def check_encoder(self, encoder: Encoder) -> None:
        """Make sure that the index was made with this encoder.

        Raises:
            IndexFolderError: if not; the message names both.
        """
        made = self.manifest.encoder
        if made.fingerprint != encoder.fingerprint:
            raise IndexFolderError(
                f"{self.folder} was made with encoder {made.name!r} ({made.fingerprint[:12]}), got "
                f"{encoder.name!r} ({encoder.fingerprint[:12]}); use that one, or index with "
                "--rebuild"
            )

    def sentence_vectors(self, passage: Passage) -> np.ndarray:
        """Return the vectors of a passage's `pruners.sentence_texts`: float32 (sentences, dim).

        They were kept in half precision, which moves a cosine by less than 1e-3.

        Raises:
            KeyError: for a passage that is not in the index.
        """
        row = self.passages.row(passage.id)
        start, end = self._starts[row : row + 2]
        return self.sentences[start:end].astype(np.float32)


def open_index(
    folder: Path, *, encoder: Encoder | None = None, thorough: bool = False
) -> IndexFolder:
    """Open an index folder.

    The sizes of all files are checked, and the hashes of those that are read as a whole.

    Args:
        folder: what `build_index` made.
        encoder: what questions will be encoded by; None leaves it unchecked.
        thorough: whether to check the hashes of all files, which reads them.

    Raises:
        IndexFolderError: if the folder is missing, not an index, of another format, damaged, or
            made with another encoder.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            _check_files(folder, manifest, thorough=thorough)
            index = IndexFolder(folder, manifest)
        except IndexFolderError:
            # A build may have replaced the snapshot since the manifest was read.
            if read_manifest(folder).snapshot == manifest.snapshot:
                raise
            continue
        if encoder is not None:
            index.check_encoder(encoder)
        return index


def _check_files(folder: Path, manifest: Manifest, *, thorough: bool) -> None:
    snapshot = folder / snapshots.SNAPSHOTS / manifest.snapshot
    for name, stored in manifest.files.items():
        size = None
        with contextlib.suppress(OSError):
            size = (snapshot / name).stat().st_size
        if size is None:
            raise _damaged(folder, f"{name} is missing")
        if size != stored.bytes:
            raise _damaged(folder, f"{name} has {size} bytes, not {stored.bytes}")
        read = name.endswith((".json", ".jsonl")) or thorough
        if read and snapshots.stored_file(snapshot / name) != stored:
            raise _damaged(folder, f"the content of {name} has changed")


def _records(path: Path, ids: list[str], parse: Callable[[bytes], Record]) -> RecordFile[Record]:
    return RecordFile(path, ids, parse)


def _damaged(folder: Path, reason: str) -> IndexFolderError:
    return IndexFolderError(
        f"the index {folder} is damaged: {reason}; index its paths again with --rebuild"
    )
