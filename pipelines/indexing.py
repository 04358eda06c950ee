"""Building an index folder: incremental by content, and never seen half done."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.corpora.manifest import CORPORA, is_corpora
from pipelines.index_folder import KV, IndexFolder, open_index
from pipelines.progress import Progress, Unwatched
from pipelines.snapshots import SNAPSHOTS, Content, Form, write_snapshot
from pipelines.stale_kv import NOTE, drop_stale, note_stale
from pipelines.text_vectors import TextVectors, VectorJournal
from pruners import sentence_texts
from rag.corpus import Chunker, Skipped, Source, discover, read
from rag.corpus.manifest import (
    MANIFEST,
    Counts,
    IndexedSource,
    Manifest,
    encoder_identity,
    is_index,
)
from rag.corpus.sources import PYTHON_TOPICS
from rag.errors import CorpusError, IndexFolderError, MissingExtraError
from rag.files import FolderLock
from rag.protocols import Encoder
from rag.records import Document, Passage, text_sha

if TYPE_CHECKING:
    from rag.corpus.passage_maker import PassageMaker

_Made = tuple[Document, list[Passage]]
_PARTIAL = "partial"
_OURS = frozenset({"lock", _PARTIAL, SNAPSHOTS, KV, NOTE})


Reader = Callable[[Source], list[Document]]
"""Gives the documents of a source, or raises what `rag.corpus.read` does."""


class NothingToIndexError(CorpusError):
    """No source gives a passage; the folder stays as it was."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a build did.

    Attributes:
        added: ids of sources that were not in the index.
        changed: ids of sources whose content is another.
        removed: ids of sources that are gone, or can no longer be read.
        unchanged: ids of sources with the content they had, those of other roots included.
        skipped: files that are not in the index, and why.
        documents: documents in the index.
        passages: passages in the index.
        encoded: texts that had to be encoded.
        rechunked: whether passages of unchanged sources were made again, by another chunker.
        written: whether the index changed on disk at all.
        kv_dropped: entries removed from the KV store, as their documents changed or are gone.
        kv_pending: documents whose entries go at the next build, as the store is in use.
        edges: edges of the corpus graph by kind; empty without one.
        unplaced: a line on each end of a triple that nothing in the corpus is called.
        seconds: wall time.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    documents: int
    passages: int
    encoded: int
    rechunked: bool
    written: bool
    kv_dropped: int
    kv_pending: int
    edges: Mapping[str, int]
    unplaced: tuple[str, ...]
    seconds: float


def build_index(
    paths: Sequence[str],
    folder: Path,
    *,
    encoder: Encoder,
    chunker: "PassageMaker | None" = None,
    form: Form | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
    read: Reader | None = None,
) -> IndexReport:
    """Make an index folder, or bring one up to date.

    Sources are compared by the hash of their content: those that did not change are not read again,
    and a text that was encoded before is not encoded again. Sources below other roots than the
    given ones stay. A new snapshot is written in full before the manifest names it, so at whatever
    moment this is interrupted the folder opens as it was, and the next build takes over vectors
    that this one has computed. If nothing changed, nothing is written.

    Args:
        paths: files, folders, or `python:topics`.
        folder: where the index lies or will lie, readable by its owner alone.
        encoder: makes the vectors.
        chunker: makes the passages; `Chunker()` by default.
        form: how passages are indexed; None keeps that of the index, or takes `Form()`. Another
            one makes that part of the index anew, from the texts and vectors it has.
        rebuild: read and encode everything below `paths` again, and let `encoder` replace another.
        progress: watches.
        read: gives the documents of a source; `rag.corpus.read` by default.

    Raises:
        CorpusError: for a path that does not exist, two sources with one id, or nothing to index
            (NothingToIndexError); then the folder stays as it was.
        IndexFolderError: if the folder holds something else, is damaged, or was made with another
            encoder.
        FolderLockedError: if another build is at work in it.
    """
    started = time.monotonic()
    folder = folder.absolute()
    _refuse_corpora(folder)
    refuse_foreign(folder)
    found = discover(paths)
    with building(folder):
        watched = progress or Unwatched()
        build = _Build(
            folder, encoder, chunker or Chunker(), form, watched, rebuild, read or _read_source
        )
        report = build.run(paths, *found)
    return replace(report, seconds=time.monotonic() - started)


def build_part(
    folder: Path,
    paths: Sequence[str],
    sources: list[Source],
    *,
    corpora: Path,
    encoder: Encoder,
    chunker: "PassageMaker",
    read: Reader,
    form: Form | None,
    rebuild: bool,
    progress: Progress,
    beside: Sequence[Path] = (),
) -> IndexReport:
    """Make one index of a corpora folder, or bring it up to date, as `build_index` does.

    Sources and documents without passages are left out of it, without a word; another chunker has
    all sources below `paths` read again. What is out of date leaves the KV store in `corpora` too.

    Args:
        folder: of the index, inside `corpora`.
        paths: what the sources were found below.
        sources: as `discover` found them.
        corpora: the corpora folder; its lock is held.
        encoder: makes the vectors.
        chunker: makes the passages.
        read: gives the documents of a source.
        form: as of `build_index`.
        rebuild: as of `build_index`.
        progress: watches.
        beside: other indexes of the folder, by the same encoder: what they hold is not encoded
            again.

    Raises:
        NothingToIndexError: if no source gives a passage; then the folder stays as it was.
        IndexFolderError: as `build_index`.
    """
    started = time.monotonic()
    refuse_foreign(folder)
    with building(folder):
        build = _Build(folder, encoder, chunker, form, progress, rebuild, read, corpora, beside)
        report = build.run(paths, sources, [])
    return replace(report, seconds=time.monotonic() - started)


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that is built; a new one goes again if there is nothing to index.

    Raises:
        FolderLockedError: if another build is at work in it.
    """
    fresh = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with FolderLock(folder) as lock:
            yield
    except CorpusError:
        if fresh:
            lock.path.unlink()
            folder.rmdir()
        raise


class _Build:
    """One build, made with the folder's lock held; `build_index` says what that means."""

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        chunker: "PassageMaker",
        form: Form | None,
        progress: Progress,
        rebuild: bool,
        read: Reader,
        corpora: Path | None = None,
        beside: Sequence[Path] = (),
    ) -> None:
        self._beside = beside
        self._folder = folder
        self._encoder = encoder
        self._chunker = chunker
        self._progress = progress
        self._rebuild = rebuild
        self._read_one = read
        self._in_corpora = corpora is not None
        # A part of a corpora folder may be asked by itself too, and then has a KV store of its own.
        self._homes = [folder] if corpora is None else [folder, corpora]
        self._old = self._open_old()
        self._before = {s.id: s for s in self._old.manifest.sources} if self._old else {}
        self._rechunk = self._old is not None and (
            self._old.manifest.chunker != chunker.fingerprint
        )
        self._form_before = self._old.snapshot.form if self._old else None
        self._form = form or self._form_before or Form()

    def run(
        self, paths: Sequence[str], sources: list[Source], skipped: list[Skipped]
    ) -> IndexReport:
        """Build; `build_index` says what that means."""
        roots = {real_root(path) for path in paths}
        elsewhere = [s for s in self._before.values() if s.root not in roots]
        self._refuse_double(sources, elsewhere)
        anew = self._rebuild or (self._rechunk and self._in_corpora)
        stale = [s for s in sources if anew or self._sha_before(s.id) != s.sha]
        same = {source.id for source in sources} - {source.id for source in stale}
        kept = [*elsewhere, *(self._before[id_] for id_ in same)]
        taken = {id_ for source in kept for id_ in source.documents}
        read_now, unreadable = self._read(stale, taken)
        skipped = [*skipped, *unreadable]
        if not (kept or read_now):
            raise NothingToIndexError(nothing_to_index(paths, skipped))
        now = {source.id: source.sha for source in (*kept, *read_now)}
        report = IndexReport(
            added=tuple(sorted(now.keys() - self._before.keys())),
            changed=tuple(sorted(i for i in now if self._sha_before(i) not in {None, now[i]})),
            removed=tuple(sorted(self._before.keys() - now.keys())),
            unchanged=tuple(sorted(i for i in now if self._sha_before(i) == now[i])),
            skipped=tuple(skipped),
            documents=sum(len(source.documents) for source in (*kept, *read_now)),
            passages=self._old.manifest.counts.passages if self._old else 0,
            encoded=0,
            rechunked=self._rechunk,
            written=bool(
                read_now
                or len(now) < len(self._before)
                or self._rechunk
                or self._form_before not in (None, self._form)
            ),
            kv_dropped=0,
            kv_pending=0,
            edges={},
            unplaced=(),
            seconds=0.0,
        )
        self._remove_leftovers()
        if report.written:
            documents: list[Document] = []
            passages: list[Passage] = []
            for source in sorted((*kept, *read_now), key=lambda source: source.id):
                for document, made in self._content(source, read_now.get(source)):
                    documents.append(document)
                    passages.extend(made)
            if not passages:
                raise NothingToIndexError(nothing_to_index(paths, skipped))
            encoded = self._commit((*kept, *read_now), documents, passages)
            report = replace(report, passages=len(passages), encoded=encoded)
        dropped, pending = zip(*(drop_stale(home, home / KV) for home in self._homes), strict=True)
        report = replace(report, kv_dropped=sum(dropped), kv_pending=max(pending))
        if self._form.graph is None:
            return report
        graph = open_index(self._folder).graph
        return replace(report, edges=graph.counts, unplaced=graph.unplaced)

    def _open_old(self) -> IndexFolder | None:
        """Return the index as it is, or None if there is none or it is to be replaced unread."""
        if not (self._folder / MANIFEST).exists():
            return None
        try:
            old = open_index(self._folder, thorough=True)
        except IndexFolderError:
            if self._rebuild:
                return None
            raise
        if not self._rebuild:
            old.check_encoder(self._encoder)
        return old

    def _sha_before(self, id_: str) -> str | None:
        return self._before[id_].sha if id_ in self._before else None

    def _refuse_double(self, sources: list[Source], elsewhere: list[IndexedSource]) -> None:
        """Raise CorpusError if a source has the id of one below a root that is not given now."""
        others = {source.id: source.root for source in elsewhere}
        for source in sources:
            if source.id in others:
                raise CorpusError(
                    f"{source.root} has a source {source.id!r}, and so has {others[source.id]}, "
                    f"which is in {self._folder} already; rename one, or use another index folder"
                )

    def _read(
        self, sources: list[Source], taken: set[str]
    ) -> tuple[dict[IndexedSource, list[_Made]], list[Skipped]]:
        """Return what each source that can be read gives, and the sources that cannot be read."""
        found, unreadable = {}, []
        self._progress.stage("reading", len(sources))
        for source in sources:
            try:
                documents = self._read_one(source)
                double = taken.intersection(document.id for document in documents)
                if double:
                    raise CorpusError(f"another source has a document {min(double)!r}")  # noqa: TRY301
            except (CorpusError, MissingExtraError) as error:
                reason = str(error).removeprefix(f"{source.id}: ")
                unreadable.append(Skipped(source.id, reason))
            else:
                made = [(document, self._chunker(document)) for document in documents]
                if self._in_corpora:
                    made = [(document, passages) for document, passages in made if passages]
                if made or not self._in_corpora:
                    ids = tuple(document.id for document, _ in made)
                    found[IndexedSource(source.id, real_root(source.root), source.sha, ids)] = made
                    taken.update(ids)
            self._progress.advance()
        return found, unreadable

    def _content(self, source: IndexedSource, read_now: list[_Made] | None) -> list[_Made]:
        """Return a source's documents and passages, from the old index unless it was read now."""
        if read_now is not None:
            return read_now
        old = self._old
        assert old is not None
        documents = [old.documents[id_] for id_ in source.documents]
        if self._rechunk:
            return [(document, self._chunker(document)) for document in documents]
        return [(d, [old.passages[id_] for id_ in old.contents[d.id]]) for d in documents]

    def _commit(
        self, sources: Iterable[IndexedSource], documents: list[Document], passages: list[Passage]
    ) -> int:
        """Write a snapshot, make it the current one, and return how many texts were encoded."""
        journal = VectorJournal(self._folder / _PARTIAL, self._encoder.fingerprint)
        vectors, sentences, encoded = self._vectors(passages, journal)
        self._progress.stage("writing", 1)
        snapshot, files = write_snapshot(
            self._folder,
            Content(documents, passages, vectors, sentences),
            self._form,
            None if self._old is None or self._rebuild else self._old.snapshot,
            self._progress,
        )
        self._note_stale_kv(documents)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        Manifest(
            snapshot=snapshot,
            encoder=encoder_identity(self._encoder, int(vectors.shape[1])),
            chunker=self._chunker.fingerprint,
            language=self._form.language,
            created=self._old.manifest.created if self._old else now,
            updated=now,
            sources=tuple(sorted(sources, key=lambda source: source.id)),
            counts=Counts(len(documents), len(passages), len(sentences)),
            files=files,
        ).write(self._folder)
        self._remove_snapshots(snapshot)
        journal.clear()
        self._progress.advance()
        return encoded

    def _vectors(
        self, passages: list[Passage], journal: VectorJournal
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return vectors of passages and of their sentences, and how many were not known."""
        of_passages = TextVectors(self._encoder, journal)
        of_sentences = TextVectors(self._encoder, journal, dtype=np.float16)
        old = [] if self._old is None or self._rebuild else [self._old]
        for index in (*map(open_index, self._beside), *old):
            known = list(index.passages.values())
            vectors = index.dense.vectors([passage.id for passage in known])
            of_passages.add([text_sha(passage.searchable) for passage in known], vectors)
            texts = [text for passage in known for text in sentence_texts(passage)]
            of_sentences.add([text_sha(text) for text in texts], index.sentences)
        vectors = of_passages(
            [passage.searchable for passage in passages], self._progress, "encoding passages"
        )
        texts = [text for passage in passages for text in sentence_texts(passage)]
        sentences = of_sentences(texts, self._progress, "encoding sentences")
        return vectors, sentences, of_passages.encoded + of_sentences.encoded

    def _note_stale_kv(self, documents: list[Document]) -> None:
        homes = [home for home in self._homes if (home / KV).exists()]
        if self._old is not None and homes:
            now = {document.id: document for document in documents}
            before = self._old.documents
            stale = [id_ for id_ in before if self._rechunk or before[id_] != now.get(id_)]
            for home in homes:
                note_stale(home, home / KV, stale)

    def _remove_leftovers(self) -> None:
        """Delete what builds that died have left, their vectors apart."""
        for path in self._folder.glob(".*.tmp"):
            path.unlink()
        if self._old is not None:
            self._remove_snapshots(self._old.manifest.snapshot)

    def _remove_snapshots(self, current: str) -> None:
        for path in (self._folder / SNAPSHOTS).iterdir():
            if path.name != current:
                shutil.rmtree(path)


def _read_source(source: Source) -> list[Document]:
    return read(source)


def real_root(path: str) -> str:
    """Return how the manifest writes a root: absolute and without links; topics stay as given."""
    return path if path == PYTHON_TOPICS else os.path.realpath(path)


def nothing_to_index(paths: Sequence[str], skipped: Sequence[Skipped]) -> str:
    """Return what to say if no source below some paths gives a passage."""
    found = "".join(f"\n  {s.id}: {s.reason}" for s in skipped)
    return f"nothing to index in {', '.join(paths)}" + (f"; skipped:{found}" if found else "")


def refuse_foreign(folder: Path) -> None:
    """Make sure that a folder is an index, the beginning of one, empty, or not there.

    Raises:
        IndexFolderError: if it is a file, or holds something else.
    """
    if not folder.exists() or is_index(folder):
        return
    if not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file; give a folder for the index")
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp")
    damaged = {MANIFEST} if SNAPSHOTS in names else set()
    others = [name for name in names if name not in _OURS | damaged]
    if others:
        raise IndexFolderError(
            f"{folder} is not empty and is not a Dovetail index: it holds {others[0]!r}; "
            "give a new folder"
        )


def _refuse_corpora(folder: Path) -> None:
    """Make sure that a folder neither is a corpora folder nor a part of one.

    Raises:
        IndexFolderError: if it is.
    """
    for one in (folder, folder.parent):
        if is_corpora(one):
            raise IndexFolderError(
                f"{one} is a folder of corpora ({CORPORA}): bring it up to date with `dovetail "
                f"index PATH -o {one} --corpora`, or give a new folder"
            )
