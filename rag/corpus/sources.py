"""Sources: which files stand below the given paths, and the documents in each."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rag.corpus.loaders import (
    html,
    markdown,
    pdf,
    plain,
    python_topics,
    records,
    slides,
    tables,
    word,
)
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
    ".txt": plain.load,
    ".xlsx": tables.load_xlsx,
}
_IMAGES = frozenset(
    {".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp"}
)
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
        sha: SHA-256 of the content.
    """

    id: str
    root: str
    path: Path | None
    sha: str


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
    links are followed to files inside the root only. A path that is given twice counts once.

    Args:
        paths: folders, files, or `python:topics`.

    Raises:
        CorpusError: for a path that does not exist, an index folder, or two sources with one id.
    """
    sources: dict[str, Source] = {}
    skipped: dict[str, Skipped] = {}
    for given in paths:
        for found in _found(given):
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
            documents = _LOADERS[suffix](source.path.read_bytes(), source.id, source.path.stem)
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
            metadata={**document.metadata, "source": source.id, "format": kind},
        )
        for document in documents
    ]


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
    """Tell whether a folder holds one of our indexes."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "dovetail" in manifest


def _file(path: Path, id_: str, root: str) -> Source | Skipped:
    """Return one file as a source, or why it is none."""
    suffix = path.suffix.lower()
    reason = ""
    if _printable(id_) != id_:
        reason = "file name is not valid UTF-8"
    elif path.is_dir():
        reason = "unreadable folder"
    elif suffix in _IMAGES:
        reason = "image: skipped until image routing"
    elif suffix not in _LOADERS:
        supported = ", ".join(sorted(_LOADERS))
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
