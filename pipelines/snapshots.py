"""Snapshots: folders that hold all of an index's content, written once and never changed."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.record_lines import document_line, passage_line
from rag.corpus.manifest import StoredFile
from rag.files import sync_folder, write_atomically
from rag.records import Document, Passage
from rag.text.terms import terms
from retrievers import BM25Index, DenseIndex

SNAPSHOTS = "snapshots"
CONTENTS = "contents.json"
DOCUMENTS = "documents.jsonl"
PASSAGES = "passages.jsonl"
SPARSE = "sparse"
DENSE = "dense"
SENTENCES = "sentences.npy"
SENTENCE_STARTS = "sentence_starts.npy"


@dataclass(frozen=True, slots=True)
class Content:
    """All that a snapshot holds.

    Attributes:
        documents: unique by id.
        passages: in the order of the documents, at least one.
        vectors: of `Passage.searchable`, float32 (passages, dim).
        sentences: of `pruners.sentence_texts`, passage by passage, float16 (sentences, dim).
    """

    documents: list[Document]
    passages: list[Passage]
    vectors: np.ndarray
    sentences: np.ndarray


def write_snapshot(index: Path, content: Content) -> tuple[str, dict[str, StoredFile]]:
    """Write a snapshot into an index folder, durably; it gets its name once it is complete.

    Returns:
        Its name below `snapshots`, and its files by their path below it.
    """
    name = secrets.token_hex(8)
    snapshots = index / SNAPSHOTS
    folder = snapshots / f".{name}.tmp"
    for made in (snapshots, folder, folder / SPARSE, folder / DENSE):
        made.mkdir(mode=0o700, exist_ok=True)
    _write_files(folder, content)
    files = {
        path.relative_to(folder).as_posix(): stored_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    for written in (folder / SPARSE, folder / DENSE, folder):
        sync_folder(written)
    folder.rename(snapshots / name)
    sync_folder(snapshots)
    return name, files


def stored_file(path: Path) -> StoredFile:
    """Return the size and hash of a file."""
    with path.open("rb") as file:
        return StoredFile(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write_files(folder: Path, content: Content) -> None:
    contents: dict[str, list[str]] = {document.id: [] for document in content.documents}
    for passage in content.passages:
        contents[passage.document].append(passage.id)
    text = json.dumps(contents).encode()
    write_atomically(folder / CONTENTS, lambda file: file.write(text))
    write_atomically(
        folder / DOCUMENTS,
        lambda file: file.writelines(document_line(d) + b"\n" for d in content.documents),
    )
    write_atomically(
        folder / PASSAGES,
        lambda file: file.writelines(passage_line(p) + b"\n" for p in content.passages),
    )
    starts = np.cumsum([0, *(len(p.sentences) for p in content.passages)], dtype=np.int64)
    _write_array(folder / SENTENCES, content.sentences)
    _write_array(folder / SENTENCE_STARTS, starts)
    ids = [passage.id for passage in content.passages]
    BM25Index.build(ids, [terms(p.searchable) for p in content.passages]).save(folder / SPARSE)
    DenseIndex.build(ids, content.vectors).save(folder / DENSE)


def _write_array(path: Path, array: np.ndarray) -> None:
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))
