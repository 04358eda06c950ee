"""Building a corpora folder: each source is read once, and gives passages to several corpora."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.corpora.kinds import IMAGE, LABELS, SEEN, CorpusKind, corpus_kinds
from pipelines.corpora.manifest import (
    CORPORA,
    VISION,
    CorporaManifest,
    CorporaSource,
    CorpusEntry,
    check_label,
    is_corpora,
    read_corpora,
)
from pipelines.corpora.source_reader import SourceReader
from pipelines.index_folder import KV, open_index
from pipelines.indexing import (
    IndexReport,
    NothingToIndexError,
    build_part,
    building,
    nothing_to_index,
    real_root,
    refuse_foreign,
)
from pipelines.open_index import OpenIndex
from pipelines.progress import Named, Progress, Unwatched
from pipelines.stale_kv import NOTE, drop_stale, note_stale
from rag.corpus import Skipped, Source, discover
from rag.corpus.manifest import EncoderIdentity, Manifest, is_index, read_manifest
from rag.errors import CorpusError, IndexFolderError
from rag.records import Document
from rag.training.watching import counting_up

if TYPE_CHECKING:
    from pipelines.snapshots import Form
    from rag.protocols import Encoder, ImageEncoder
    from rag.text.splitters import SentenceSplitter


@dataclass(frozen=True, slots=True)
class CorporaReport:
    """What a build of several corpora did.

    Attributes:
        corpora: what it did to each corpus that has passages, in their order.
        empty: label of each corpus that was asked for and has no passages, and why.
        dropped: labels of corpora that were in the folder and are not any more.
        added: ids of sources that were not in the folder.
        changed: ids of sources whose content is another.
        removed: ids of sources that are gone, or can no longer be read.
        unchanged: ids of sources with the content they had, those of other roots included.
        skipped: files that cannot be read, and why; not those that give a corpus nothing.
        documents: documents of all sources.
        passages: passages of all corpora.
        encoded: texts that had to be encoded.
        written: whether anything changed on disk.
        kv_dropped: entries removed from the KV store, as their documents changed or are gone.
        kv_pending: documents whose entries go at the next build, as the store is in use.
        notes: what a person should know.
        seconds: wall time.
    """

    corpora: Mapping[str, IndexReport]
    empty: Mapping[str, str]
    dropped: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    documents: int
    passages: int
    encoded: int
    written: bool
    kv_dropped: int
    kv_pending: int
    notes: tuple[str, ...]
    seconds: float


def build_corpora(
    paths: Sequence[str],
    folder: Path,
    *,
    encoder: Encoder,
    labels: Sequence[str] | None = None,
    words: int = 120,
    splitter: SentenceSplitter | None = None,
    kinds: Sequence[CorpusKind] | None = None,
    form: Form | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
    image_encoder: ImageEncoder | None = None,
) -> CorporaReport:
    """Make a corpora folder, or bring one up to date.

    Each corpus is an index in the folder of its label, and is brought up to date as `build_index`
    does it; what names them all is written last, so wherever this is interrupted, the folder opens.
    A source that did not change is not read again, whether or not it gave a corpus something. If
    nothing changed, nothing is written.

    Args:
        paths: files, folders, or `python:topics`.
        folder: where the corpora lie or will lie, readable by its owner alone.
        encoder: makes the vectors of all of them.
        labels: corpora to make, of `LABELS`; None makes those that have content. A corpus that is
            in the folder and not asked for is removed.
        words: per passage of text.
        splitter: finds the sentences of texts; our rules by default.
        kinds: corpora to make, instead of those of `labels`.
        form: how passages are indexed; as of `build_index`.
        rebuild: read and encode everything below `paths` again, and let `encoder` replace another.
        progress: watches.
        image_encoder: also makes vectors of the pictures of corpus `image`, and of frames of corpus
            `clip`; a folder that has them keeps them up to date by the encoder it names.

    Raises:
        CorpusError: for a path that does not exist, two sources with one id, or nothing to index;
            then the folder stays as it was.
        IndexFolderError: if the folder is a plain index, holds something else, is damaged, or was
            made with another encoder.
        FolderLockedError: if another build is at work in it.
        ValueError: for an unknown label.
    """
    started = time.monotonic()
    if kinds is None:
        kinds = corpus_kinds(labels, words=words, splitter=splitter)
    for kind in kinds:
        check_label(kind.label)
    folder = folder.absolute()
    _refuse_foreign(folder, kinds)
    sources, skipped = discover(paths)
    with building(folder):
        watched = progress or Unwatched()
        build = _Build(folder, kinds, encoder, form, watched, rebuild, image_encoder)
        report = build.run(paths, sources, skipped)
    return replace(report, seconds=time.monotonic() - started)


class _Build:
    """One build, made by `build_corpora` with the folder's lock held."""

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[CorpusKind],
        encoder: Encoder,
        form: Form | None,
        progress: Progress,
        rebuild: bool,
        image_encoder: ImageEncoder | None,
    ) -> None:
        self._image_encoder = image_encoder
        self._folder = folder
        self._kinds = kinds
        self._encoder = encoder
        self._form = form
        self._progress = progress
        self._rebuild = rebuild
        self._old = self._open_old()
        self._before = {s.id: s for s in self._old.sources} if self._old else {}

    def run(
        self, paths: Sequence[str], sources: list[Source], skipped: list[Skipped]
    ) -> CorporaReport:
        """Build; `build_corpora` says what that means."""
        roots = {real_root(path) for path in paths}
        elsewhere = [s for s in self._before.values() if s.root not in roots]
        self._refuse_double(sources, elsewhere)
        reader = self._reader(elsewhere)
        filled: dict[str, IndexReport] = {}
        for kind in self._kinds:
            report = self._part(kind, paths, sources, reader, tuple(filled))
            if report is not None:
                filled[kind.label] = report
        skipped = [*skipped, *reader.unreadable]
        if not filled:
            lacks = "; ".join(f"{kind.label}: {kind.lacks}" for kind in self._kinds)
            raise NothingToIndexError(f"{nothing_to_index(paths, skipped)} ({lacks})")
        seen = [*self._unread(filled), *self._see(filled)]
        manifests = {label: read_manifest(self._folder / label) for label in filled}
        here = [source for source in sources if reader.readable(source)]
        now, unseen = self._sources(here, elsewhere, manifests, reader)
        manifest = CorporaManifest(
            _one_encoder(manifests), self._entries(manifests), tuple(sorted(now, key=_by_id))
        )
        dropped = self._unused(filled)
        changed = manifest != self._old
        if changed:
            self._note_stale(dropped)
            manifest.write(self._folder)
        for label in dropped:
            shutil.rmtree(self._folder / label)
        kv_dropped, kv_pending = drop_stale(self._folder, self._folder / KV)
        shas = {source.id: source.sha for source in now}
        old = {id_: source.sha for id_, source in self._before.items()}
        return CorporaReport(
            corpora=filled,
            empty={kind.label: kind.lacks for kind in self._kinds if kind.label not in filled},
            dropped=dropped,
            added=tuple(sorted(shas.keys() - old.keys())),
            changed=tuple(sorted(i for i in shas if old.get(i) not in {None, shas[i]})),
            removed=tuple(sorted(old.keys() - shas.keys())),
            unchanged=tuple(sorted(i for i in shas if old.get(i) == shas[i])),
            skipped=tuple(skipped),
            documents=sum(len(source.documents) for source in now),
            passages=sum(report.passages for report in filled.values()),
            encoded=sum(report.encoded for report in filled.values()),
            written=changed or any(report.written for report in filled.values()),
            kv_dropped=kv_dropped + sum(report.kv_dropped for report in filled.values()),
            kv_pending=max(kv_pending, *(report.kv_pending for report in filled.values())),
            notes=(*unseen, *seen),
            seconds=0.0,
        )

    def _open_old(self) -> CorporaManifest | None:
        """Return the folder's manifest, or None if there is none or it is to be replaced unread."""
        if not (self._folder / CORPORA).exists():
            return None
        try:
            old = read_corpora(self._folder)
        except IndexFolderError:
            if self._rebuild:
                return None
            raise
        made, given = old.encoder, self._encoder
        if made.fingerprint != given.fingerprint and not self._rebuild:
            raise IndexFolderError(
                f"{self._folder} was made with encoder {made.name!r} ({made.fingerprint[:12]}), "
                f"got {given.name!r} ({given.fingerprint[:12]}); use that one, or index with "
                "--rebuild"
            )
        return old

    def _refuse_double(self, sources: list[Source], elsewhere: list[CorporaSource]) -> None:
        """Raise CorpusError if a source has the id of one below a root that is not given now."""
        others = {source.id: source.root for source in elsewhere}
        for source in sources:
            if source.id in others:
                raise CorpusError(
                    f"{source.root} has a source {source.id!r}, and so has {others[source.id]}, "
                    f"which is in {self._folder} already; rename one, or use another folder"
                )

    def _reader(self, elsewhere: list[CorporaSource]) -> SourceReader:
        taken = {document: source.id for source in elsewhere for document in source.documents}
        if self._rebuild or self._old is None:
            return SourceReader({}, {}, taken)
        folders = {label: self._folder / label for label in self._old.filled}
        return SourceReader(self._before, folders, taken)

    def _part(
        self,
        kind: CorpusKind,
        paths: Sequence[str],
        sources: list[Source],
        reader: SourceReader,
        done: Sequence[str],
    ) -> IndexReport | None:
        """Bring the index of one corpus up to date; None if nothing belongs into it.

        Sentences that it shares with the corpora that are done are not encoded again.
        """
        known = {} if self._rebuild else self._nothing(kind)

        def documents(source: Source) -> list[Document]:
            return [] if known.get(source.id) == source.sha else reader(source)

        try:
            return build_part(
                self._folder / kind.label,
                paths,
                sources,
                corpora=self._folder,
                encoder=self._encoder,
                chunker=kind.maker,
                read=documents,
                form=self._form,
                rebuild=self._rebuild,
                progress=Named(self._progress, kind.label),
                beside=[self._folder / label for label in done],
            )
        except NothingToIndexError:
            return None

    def _unread(self, filled: Mapping[str, IndexReport]) -> list[str]:
        """Return a note on images whose text was not read, if there are any."""
        if IMAGE not in filled:
            return []
        from rag.corpus.image_notes import image_notes_line

        note = image_notes_line(open_index(self._folder / IMAGE).documents.values())
        return [] if note is None else [note]

    def _see(self, filled: Mapping[str, IndexReport]) -> list[str]:
        """Bring the vectors of pictures up to date; return what a person should know of it."""
        folder = self._folder / VISION
        if self._image_encoder is None and not folder.exists():
            return []
        from pipelines.corpora.vision import Picture, build_vision, open_vision, pictures_of

        before = None if self._image_encoder else open_vision(folder)
        encoder = self._image_encoder or (before.encoder if before is not None else None)
        if encoder is None:
            return []
        pictures: dict[str, Picture] = {}
        for label in (one for one in SEEN if one in filled):
            pictures.update(pictures_of(OpenIndex(self._folder / label)))
        self._progress.stage("encoding images", len(pictures))
        report = build_vision(pictures, encoder, folder, progress=counting_up(self._progress))
        made = [f"{report.encoded:,} pictures encoded"] if report.encoded else []
        left_out = [f"{i} is found by its text only: {why}" for i, why in report.left_out.items()]
        return [*made, *left_out]

    def _nothing(self, kind: CorpusKind) -> dict[str, str]:
        """Return the sources that are known to give a corpus nothing, with their hashes."""
        before = None if self._old is None else self._old.corpora.get(kind.label)
        if before is None or before.maker != kind.maker.fingerprint:
            return {}
        return {s.id: s.sha for s in self._before.values() if kind.label in s.nothing}

    def _sources(
        self,
        here: list[Source],
        elsewhere: list[CorporaSource],
        manifests: Mapping[str, Manifest],
        reader: SourceReader,
    ) -> tuple[list[CorporaSource], list[str]]:
        """Return all sources as they are now, and which corpora have not looked at all of them."""
        holds = {label: {s.id for s in one.sources} for label, one in manifests.items()}
        gives = {kind.label: holds.get(kind.label, set()) for kind in self._kinds}
        now = [
            CorporaSource(
                source.id,
                real_root(source.root),
                source.sha,
                reader.ids(source),
                tuple(label for label, ids in gives.items() if source.id not in ids),
            )
            for source in here
        ]
        known = {kind.label: self._nothing(kind) for kind in self._kinds}
        unseen = dict.fromkeys(gives, 0)
        for source in elsewhere:
            absent = [label for label, ids in gives.items() if source.id not in ids]
            for label in absent:
                unseen[label] += source.id not in known[label]
            nothing = tuple(label for label in absent if source.id in known[label])
            now.append(replace(source, nothing=nothing))
        notes = [
            f"corpus {label} has not looked at {count:,} of the sources of other paths; "
            "index those again"
            for label, count in unseen.items()
            if count
        ]
        return now, notes

    def _entries(self, manifests: Mapping[str, Manifest]) -> dict[str, CorpusEntry]:
        entries = {}
        for kind in self._kinds:
            one = manifests.get(kind.label)
            entries[kind.label] = CorpusEntry(
                kind.modality,
                kind.maker.fingerprint,
                documents=0 if one is None else one.counts.documents,
                passages=0 if one is None else one.counts.passages,
                snapshot="" if one is None else one.snapshot,
            )
        return entries

    def _unused(self, filled: Mapping[str, IndexReport]) -> tuple[str, ...]:
        """Return the labels of indexes in the folder that are no corpora of it any more."""
        labels = dict.fromkeys((*LABELS, *(self._old.corpora if self._old else ())))
        return tuple(
            label for label in labels if label not in filled and (self._folder / label).is_dir()
        )

    def _note_stale(self, dropped: Sequence[str]) -> None:
        for label in dropped:
            if is_index(self._folder / label) and (self._folder / KV).exists():
                gone = open_index(self._folder / label).documents
                note_stale(self._folder, self._folder / KV, gone)


def _by_id(source: CorporaSource) -> str:
    return source.id


def _one_encoder(manifests: Mapping[str, Manifest]) -> EncoderIdentity:
    return next(iter(manifests.values())).encoder


def _refuse_foreign(folder: Path, kinds: Sequence[CorpusKind]) -> None:
    """Make sure that a folder is one of corpora, the beginning of one, empty, or not there.

    Raises:
        IndexFolderError: if it is a plain index, a part of another folder, a file, or holds
            something else.
    """
    if is_corpora(folder.parent):
        raise IndexFolderError(
            f"{folder} is inside the corpora folder {folder.parent}; give a folder outside"
        )
    if not folder.exists() or is_corpora(folder):
        return
    if is_index(folder):
        raise IndexFolderError(
            f"{folder} is a plain index; give a new folder for several corpora, or leave --corpora "
            "out"
        )
    if not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file; give a folder for the corpora")
    labels = {*LABELS, *(kind.label for kind in kinds)}
    for path in sorted(folder.iterdir()):
        if path.name in labels and path.is_dir():
            refuse_foreign(path)
        elif path.name not in {"lock", KV, NOTE, VISION, CORPORA} and path.suffix != ".tmp":
            raise IndexFolderError(
                f"{folder} is not empty and is no folder of corpora: it holds {path.name!r}; "
                "give a new folder"
            )
