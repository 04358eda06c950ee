"""Sources: which files stand below the given paths, and the documents in each."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rag.corpus.frames import VIDEO_SUFFIXES, subtitles_beside, video_beside, why_skipped
from rag.corpus.image_notes import ImageNotes, gather
from rag.corpus.loaders import (
    html,
    images,
    markdown,
    pdf,
    plain,
    python_topics,
    records,
    slides,
    subtitles,
    tables,
    word,
)
from rag.corpus.ocr import ocr_available
from rag.errors import CorpusError, MissingExtraError
from rag.records import Document

PYTHON_TOPICS = "python:topics"

_LOADERS: dict[str, Callable[[bytes, str, str], list[Document]]] = {
    ".csv": tables.load_csv,
    ".docx": word.load,
    ".htm": html.load,
    ".html": html.load,
    ".jsonl": records.load,
    ".md": markdown.load,
    ".pdf": pdf.load,
    ".pptx": slides.load,
    ".srt": subtitles.load_srt,
    ".txt": plain.load,
    ".vtt": subtitles.load_vtt,
    ".xlsx": tables.load_xlsx,
}
_NOT_READ = {
    ".heic": "image: .heic is not read, save it as .jpg or .png",
    ".svg": "vector image: not read",
}
_WITH_OCR = frozenset({*images.SUFFIXES, ".pdf"})
_SUBTITLES = frozenset({".srt", ".vtt"})
# NUL and lone surrogates, which parsers let through and UTF-8 or a database refuse.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Source:
    """One file, or the topics that ship with Python.

    Attributes:
        id: `<root folder name>/<path below it>` with `/` separators; the file name for a file
            that was given itself; `python:topics`.
        root: the given path, absolute, or `python:topics`.
        path: the file; None for the topics.
        sha: SHA-256 of the content; of an image, of its notes and the OCR engine too; of a PDF, of
            the engine too if there is one; of subtitles, of the name of their video.
        notes: what other files say of an image.
        video: name of the video file that subtitles belong to, where it stands beside them.
    """

    id: str
    root: str
    path: Path | None
    sha: str
    notes: ImageNotes | None = None
    video: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A file that is not read, and why.

    Attributes:
        id: as the id of a source.
        reason: what a person needs to know to change that.
    """

    id: str
    reason: str


def discover(paths: Sequence[str]) -> tuple[list[Source], list[Skipped]]:
    """Return the readable sources below paths, in their order and sorted within a folder.

    Hidden files and folders, and folders that hold an index, are passed over in silence. Symbolic
    links are followed to files inside the root only. A path that is given twice counts once. Where
    a folder has images, captions that stand in files of their own belong to the images, and those
    files are no sources.

    Args:
        paths: folders, files, or `python:topics`.

    Raises:
        CorpusError: for a path that does not exist, an index folder, or two sources with one id.
    """
    sources: dict[str, Source] = {}
    skipped: dict[str, Skipped] = {}
    for given in paths:
        for found in _with_notes(list(_found(given))):
            if isinstance(found, Skipped):
                skipped[found.id] = found
                continue
            before = sources.setdefault(found.id, found)
            if before.path != found.path:
                raise CorpusError(
                    f"two sources have the id {found.id!r}: {before.path} and {found.path}; "
                    "index one of them, or rename its folder"
                )
    return list(sources.values()), list(skipped.values())


def read(source: Source) -> list[Document]:
    """Return the documents of a source: one, or many for `.jsonl` and `python:topics`.

    Their metadata names the `source` (its id) and the `format` (the suffix without its dot).

    Raises:
        CorpusError: if the content cannot be read; the message begins with the source's id.
        MissingExtraError: if the format needs a package that is not installed.
    """
    if source.path is None:
        documents, kind = python_topics.load(), "python"
    else:
        suffix = source.path.suffix.lower()
        kind = suffix[1:]
        try:
            documents = _loaded(source.path, suffix, source)
        except MissingExtraError:
            raise
        except CorpusError as error:
            raise CorpusError(f"{source.id}: {error}") from error
        except Exception as error:
            # Parsers of damaged files raise whatever went wrong deep inside them.
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise CorpusError(f"{source.id}: cannot be read as {kind} ({reason})") from error
    if not any(document.text.strip() for document in documents):
        raise CorpusError(f"{source.id}: holds no text")
    return [
        replace(
            document,
            text=_UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", document.text),
            metadata={**document.metadata, **_facts(source), "source": source.id, "format": kind},
        )
        for document in documents
    ]


def _loaded(path: Path, suffix: str, source: Source) -> list[Document]:
    """Return the documents of a file, as its loader makes them."""
    if suffix in images.SUFFIXES:
        return images.load(path.read_bytes(), source.id, path.stem, source.notes)
    return _LOADERS[suffix](path.read_bytes(), source.id, path.stem)


def _facts(source: Source) -> dict[str, str]:
    return {} if source.video is None else {"video": source.video}


def _with_notes(found: list[Source | Skipped]) -> list[Source | Skipped]:
    """Return what stands below one given path, images with their notes and the OCR engine's sha."""
    engine = ocr_available()
    paths = [one.path for one in found if isinstance(one, Source) and one.path]
    shown = [path for path in paths if path.suffix.lower() in images.SUFFIXES]
    others = [path for path in paths if path.suffix.lower() not in images.SUFFIXES]
    gathered = gather(shown, others) if shown else None
    noted: list[Source | Skipped] = []
    for one in found:
        if not isinstance(one, Source) or one.path is None:
            noted.append(one)
        elif gathered is None or one.path not in gathered.used:
            notes = gathered.notes.get(one.path) if gathered else None
            suffix = one.path.suffix.lower()
            known = replace(one, notes=notes, video=_video(one.path, suffix))
            noted.append(replace(known, sha=_sha(known, engine if suffix in _WITH_OCR else None)))
    return noted


def _video(path: Path, suffix: str) -> str | None:
    video = video_beside(path) if suffix in _SUBTITLES else None
    return None if video is None else video.name


def _sha(source: Source, engine: str | None) -> str:
    """Return a source's sha with all that its documents are made of."""
    known = [source.notes.to_json() if source.notes else "", engine or "", source.video or ""]
    if not any(known):
        return source.sha
    return hashlib.sha256("\n".join((source.sha, *known)).encode()).hexdigest()


def _found(given: str) -> Iterator[Source | Skipped]:
    """Yield what stands below one given path."""
    if given == PYTHON_TOPICS:
        topics = json.dumps(python_topics.topics(), sort_keys=True)
        sha = hashlib.sha256(topics.encode()).hexdigest()
        yield Source(PYTHON_TOPICS, PYTHON_TOPICS, None, sha)
        return
    root = Path(given).absolute()
    if not root.exists():
        raise CorpusError(f"no such file or folder: {given}")
    if not root.is_dir():
        yield _file(root, root.name, str(root))
        if root.suffix.lower() in VIDEO_SUFFIXES:
            for path in subtitles_beside(root):
                yield _file(path, path.name, str(root))
        return
    if _is_index(root):
        raise CorpusError(f"{given} is an index folder, not a folder of documents")
    top = root.resolve()
    for path in _walk(root):
        id_ = f"{top.name}/{path.relative_to(root).as_posix()}".lstrip("/")
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            yield Skipped(_printable(id_), "link that leaves the folder, or leads nowhere")
        else:
            yield _file(path, id_, str(root))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in sorted order, and folders that cannot be read.

    Links to folders are not entered: what such a link leads to inside the root is reached under its
    own name.
    """
    try:
        entries = sorted((path, path.is_dir()) for path in folder.iterdir())
    except OSError:
        yield folder
        return
    for path, is_folder in entries:
        if path.name.startswith((".", "~$")):  # hidden, or an office program's lock
            continue
        if not is_folder:
            yield path
        elif not path.is_symlink() and not _is_index(path):
            yield from _walk(path)


def _is_index(folder: Path) -> bool:
    """Tell whether a folder holds one of our indexes, or several corpora."""
    return _names(folder / "manifest.json", "dovetail") or _names(
        folder / "corpora.json", "dovetail_corpora"
    )


def _names(path: Path, key: str) -> bool:
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and key in manifest


def _file(path: Path, id_: str, root: str) -> Source | Skipped:
    """Return one file as a source, or why it is none."""
    suffix = path.suffix.lower()
    reason = ""
    if _printable(id_) != id_:
        reason = "file name is not valid UTF-8"
    elif path.is_dir():
        reason = "unreadable folder"
    elif suffix in _NOT_READ:
        reason = _NOT_READ[suffix]
    elif suffix in VIDEO_SUFFIXES:
        reason = why_skipped(path)
    elif suffix not in _LOADERS and suffix not in images.SUFFIXES:
        supported = ", ".join(sorted({*_LOADERS, *images.SUFFIXES}))
        reason = f"unsupported suffix {suffix!r}; supported: {supported}"
    elif not path.is_file():
        reason = "not a regular file"
    else:
        try:
            with path.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            reason = f"unreadable: {error.strerror or errno.errorcode.get(error.errno or 0, '?')}"
        else:
            return Source(id_, root, path, sha)
    return Skipped(_printable(id_), reason)


def _printable(id_: str) -> str:
    """Return an id with the bytes that are not valid UTF-8 written as escapes."""
    return os.fsencode(id_).decode("utf-8", "backslashreplace")
