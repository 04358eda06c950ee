"""Snapshots: folders that hold all of an index's content, written once and never changed."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.progress import Progress, Unwatched
from pipelines.record_lines import document_line, passage_line
from rag.corpus.manifest import StoredFile
from rag.files import sync_folder, write_atomically
from rag.record_json import to_json
from rag.records import Document, Passage
from rag.text.analyser import Analyser
from retrievers.dense.index import DenseIndex
from retrievers.dense.kinds import KindName, index_kind
from retrievers.dense.vectors import VectorDtype
from retrievers.graph.edges.triple import Triple
from retrievers.graph.settings import GraphSettings
from retrievers.sparse.index import SparseIndex

SNAPSHOTS = "snapshots"
CONTENTS = "contents.json"
DOCUMENTS = "documents.jsonl"
PASSAGES = "passages.jsonl"
SPARSE = "sparse"
DENSE = "dense"
GRAPH = "graph"
TRIPLES = "triples.jsonl"
SENTENCES = "sentences.npy"
SENTENCE_STARTS = "sentence_starts.npy"


@dataclass(frozen=True, slots=True)
class Content:
    """All that a snapshot holds.

    Attributes:
        documents: unique by id.
        passages: in the order of the documents, at least one.
        vectors: of `Passage.searchable`, float32 (passages, dim).
        sentences: of `pruners.sentence_texts`, passage by passage, float16 (sentences, dim), or
            (0, dim) if they are not kept.
    """

    documents: list[Document]
    passages: list[Passage]
    vectors: np.ndarray
    sentences: np.ndarray


@dataclass(frozen=True, slots=True)
class Form:
    """How a snapshot indexes its content.

    Attributes:
        language: of the texts; decides how they are cut into terms.
        kind: of the dense index.
        dtype: of the stored vectors.
        graph: how the corpus graph is made; None for none.
        triples: the user's own edges of it.
    """

    language: str = "en"
    kind: KindName = "flat"
    dtype: VectorDtype = "float32"
    graph: GraphSettings | None = None
    triples: tuple[Triple, ...] = ()

    @property
    def of_indexes(self) -> tuple[str, str, str]:
        """What the sparse and the dense index depend on."""
        return self.language, self.kind, self.dtype


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier snapshot, from which the next is made by changes.

    Attributes:
        folder: the snapshot; its segments are linked into the next one, never changed.
        passages: what it holds, by id.
        form: how it is indexed; what is indexed in another way is made anew.
    """

    folder: Path
    passages: Mapping[str, Passage]
    form: Form


def write_snapshot(
    index: Path,
    content: Content,
    form: Form | None = None,
    before: Before | None = None,
    progress: Progress | None = None,
) -> tuple[str, dict[str, StoredFile]]:
    """Write a snapshot into an index folder, durably; it gets its name once it is complete.

    Args:
        index: the index folder.
        content: what it shall hold.
        form: how it is indexed; `Form()` by default.
        before: an earlier snapshot of the same encoder, to start from.
        progress: watches the graph being made.

    Returns:
        Its name below `snapshots`, and its files by their path below it.
    """
    name = secrets.token_hex(8)
    snapshots = index / SNAPSHOTS
    folder = snapshots / f".{name}.tmp"
    for made in (snapshots, folder, folder / SPARSE, folder / DENSE):
        made.mkdir(mode=0o700, exist_ok=True)
    _write_texts(folder, content)
    form = form or Form()
    _write_indexes(folder, content, form, before)
    if form.graph is not None:
        _write_graph(folder / GRAPH, content, form, before, progress or Unwatched())
    files = {
        path.relative_to(folder).as_posix(): stored_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    for written in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync_folder(written)
    folder.rename(snapshots / name)
    sync_folder(snapshots)
    return name, files


def stored_file(path: Path) -> StoredFile:
    """Return the size and hash of a file."""
    with path.open("rb") as file:
        return StoredFile(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write_texts(folder: Path, content: Content) -> None:
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


def _write_indexes(folder: Path, content: Content, form: Form, before: Before | None) -> None:
    """Write both indexes, from those of the snapshot before where they are made the same way."""
    analyser = Analyser(form.language)
    sparse = SparseIndex(analyser=analyser)
    dense = DenseIndex(content.vectors.shape[1], kind=index_kind(form.kind), dtype=form.dtype)
    gone: list[str] = []
    rows = list(range(len(content.passages)))
    if before is not None and before.form.of_indexes == form.of_indexes:
        sparse = SparseIndex.open(before.folder / SPARSE, analyser=analyser)
        dense = DenseIndex.load(before.folder / DENSE)
        now = {passage.id: passage.searchable for passage in content.passages}
        same = {
            id_ for id_, passage in before.passages.items() if now.get(id_) == passage.searchable
        }
        gone = [id_ for id_ in before.passages if id_ not in same]
        rows = [row for row in rows if content.passages[row].id not in same]
    sparse.delete(gone)
    dense.delete(gone)
    if rows:
        added = [content.passages[row] for row in rows]
        ids = [passage.id for passage in added]
        sparse.add(ids, [passage.searchable for passage in added])
        dense.add(ids, content.vectors[rows])
    sparse.save(folder / SPARSE)
    dense.save(folder / DENSE)


def _write_graph(
    folder: Path, content: Content, form: Form, before: Before | None, progress: Progress
) -> None:
    """Write the corpus graph, from that of the snapshot before where there is one."""
    from retrievers.graph.build import build_graph
    from retrievers.graph.graph_folder import open_graph, save_graph

    known = before is not None and before.form.graph is not None
    progress.stage("linking passages", len(content.passages))
    graph = build_graph(
        content.passages,
        content.vectors.astype(form.dtype).astype(np.float32),
        form.graph,
        triples=form.triples,
        language=form.language,
        before=open_graph(before.folder / GRAPH) if before is not None and known else None,
        progress=lambda _: progress.advance(),
    )
    save_graph(graph, folder)
    lines = "".join(json.dumps(to_json(triple)) + "\n" for triple in form.triples)
    write_atomically(folder / TRIPLES, lambda file: file.write(lines.encode()))


def _write_array(path: Path, array: np.ndarray) -> None:
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))
