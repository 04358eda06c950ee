"""The index of evaluation data: made once per content, kept in the user's cache."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipelines.index_folder import IndexFolder, open_index
from pipelines.progress import Progress, Unwatched
from pipelines.snapshots import SNAPSHOTS, Content, Form, write_snapshot
from pipelines.text_vectors import TextVectors, VectorJournal
from pruners import sentence_texts
from rag.corpus.manifest import (
    MANIFEST,
    Counts,
    IndexedSource,
    Manifest,
    encoder_identity,
)
from rag.errors import IndexFolderError
from rag.evaluation.data import corpus_sha, read_corpus
from rag.files import FolderLock
from rag.models.user_cache import user_cache
from rag.protocols import Encoder
from rag.records import Document, Passage, text_sha
from retrievers.graph.settings import RULES, GraphSettings

FOLDER = "data-indexes"
FORM = Form()
_LAYOUT = "one line, one passage; 1"  # another number when passages are made in another way
_PARTIAL = "partial"


def data_index(
    data: Path,
    *,
    encoder: Encoder,
    sentences: bool = True,
    graph: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Return the index folder of a data folder's corpus; it is made if it is missing or damaged.

    It lies in the user's cache under the corpus's name and the hash of its content and of the
    encoder, so an edited corpus has another one and the data folder is never written. It is seen
    whole or not at all, and a build that was interrupted goes on where it was.

    Args:
        data: in the layout of the evaluation data.
        encoder: makes the vectors of passages and of their sentences.
        sentences: whether the vectors of sentences are needed, which take most of the time; an
            index without them gets them when they first are.
        graph: whether the corpus graph is needed; as with the sentences. One made by older rules is
            made anew.
        progress: watches.

    Raises:
        EvaluationDataError: if there is no corpus, or it is not in the layout.
        FolderLockedError: if another process is making this very index.
    """
    folder = data_index_folder(data, encoder)
    if not _whole(folder, sentences, graph):
        passages = read_corpus(data)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FolderLock(folder):
            if not _whole(folder, sentences, graph):
                watched = progress or Unwatched()
                _build(folder, data, passages, encoder, sentences, graph, watched)
    return folder


def data_index_folder(data: Path, encoder: Encoder) -> Path:
    """Return where the index of a data folder lies or will lie.

    Raises:
        EvaluationDataError: if there is no corpus.
    """
    depends = f"{_LAYOUT} {corpus_sha(data)} {encoder.fingerprint}"
    name = re.sub(r"[^\w.-]+", "_", data.absolute().name).strip("._") or "data"
    return user_cache() / FOLDER / f"{name}-{sha256(depends.encode()).hexdigest()[:16]}"


def _whole(folder: Path, sentences: bool, graph: bool) -> bool:
    opened = _opened(folder)
    return (
        opened is not None
        and (opened.has_sentence_vectors or not sentences)
        and (not graph or (opened.has_graph and opened.graph.rules == RULES))
    )


def _opened(folder: Path) -> IndexFolder | None:
    if not (folder / MANIFEST).exists():
        return None
    try:
        return open_index(folder)
    except IndexFolderError:
        return None


def _build(
    folder: Path,
    data: Path,
    passages: Sequence[Passage],
    encoder: Encoder,
    with_sentences: bool,
    with_graph: bool,
    progress: Progress,
) -> None:
    """Write the index, with vectors of sentences and graph if wanted, or if it has them already."""
    journal = VectorJournal(folder / _PARTIAL, encoder.fingerprint)
    of_passages = TextVectors(encoder, journal)
    of_sentences = TextVectors(encoder, journal, dtype=np.float16)
    before = _opened(folder)
    if before is not None:
        known = list(before.passages.values())
        vectors = before.dense.vectors([passage.id for passage in known])
        of_passages.add([text_sha(passage.searchable) for passage in known], vectors)
        if before.has_sentence_vectors:
            texts = [text for passage in known for text in sentence_texts(passage)]
            of_sentences.add([text_sha(text) for text in texts], before.sentences)
            with_sentences = True
        with_graph |= before.has_graph
    # What builds that died, damage, or a build without sentences have left.
    shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)
    vectors = of_passages(
        [passage.searchable for passage in passages], progress, "encoding passages"
    )
    texts = [text for passage in passages for text in sentence_texts(passage)]
    sentences = (
        of_sentences(texts, progress, "encoding sentences")
        if texts and with_sentences
        else np.empty((0, vectors.shape[1]), np.float16)
    )
    progress.stage("writing", 1)
    documents = [Document(p.document, p.text, p.title or p.id) for p in passages]
    snapshot, files = write_snapshot(
        folder,
        Content(documents, list(passages), vectors, sentences),
        replace(FORM, graph=GraphSettings()) if with_graph else FORM,
        progress=progress,
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    source = IndexedSource(
        data.absolute().name,
        str(data.resolve()),
        corpus_sha(data),
        tuple(passage.document for passage in passages),
    )
    Manifest(
        snapshot=snapshot,
        encoder=encoder_identity(encoder, int(vectors.shape[1])),
        chunker=_LAYOUT,
        language=FORM.language,
        created=now,
        updated=now,
        sources=(source,),
        counts=Counts(len(documents), len(passages), len(sentences)),
        files=files,
    ).write(folder)
    journal.clear()
    progress.advance()
