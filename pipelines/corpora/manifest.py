"""The manifest of a corpora folder: its corpora, and the sources that they were made from."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag.corpus.manifest import EncoderIdentity
from rag.errors import IndexFolderError
from rag.files import write_atomically

FORMAT = 1
CORPORA = "corpora.json"
VISION = "vision"
"""Where a corpora folder keeps the vectors of its images."""

_KEY = "dovetail_corpora"
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """A corpus of the folder; its index is the folder of its label.

    Attributes:
        modality: what its passages stand for.
        maker: fingerprint of what makes its passages.
        documents: documents that give a passage.
        passages: how many; 0 for a corpus that was asked for and has no folder.
        snapshot: of its index; empty for an empty corpus.
    """

    modality: str
    maker: str
    documents: int
    passages: int
    snapshot: str


@dataclass(frozen=True, slots=True)
class CorporaSource:
    """A source as it was when the corpora were made.

    Attributes:
        id: as the id of `rag.corpus.Source`.
        root: the path that was given, without links, or `python:topics`.
        sha: SHA-256 of the content.
        documents: ids of all its documents, whether or not they give a passage.
        nothing: labels of the corpora whose present maker finds no passage in it.
    """

    id: str
    root: str
    sha: str
    documents: tuple[str, ...]
    nothing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CorporaManifest:
    """What a corpora folder holds.

    Attributes:
        encoder: what made the vectors of all corpora.
        corpora: by label, in the order in which they were declared.
        sources: sorted by id.
    """

    encoder: EncoderIdentity
    corpora: Mapping[str, CorpusEntry]
    sources: tuple[CorporaSource, ...]

    @property
    def filled(self) -> tuple[str, ...]:
        """Labels of the corpora that have passages."""
        return tuple(label for label, corpus in self.corpora.items() if corpus.passages)

    @property
    def empty(self) -> tuple[str, ...]:
        """Labels of the corpora that were asked for and have no passages."""
        return tuple(label for label, corpus in self.corpora.items() if not corpus.passages)

    def write(self, folder: Path) -> None:
        """Make this the manifest of `folder`, in one step."""
        text = json.dumps({_KEY: FORMAT, **asdict(self)}, ensure_ascii=False, indent=1)
        write_atomically(folder / CORPORA, lambda file: file.write(text.encode()))


def is_corpora(folder: Path) -> bool:
    """Tell whether a folder holds a manifest of corpora, of whatever format."""
    try:
        fields = json.loads((folder / CORPORA).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and _KEY in fields


def check_label(label: str) -> str:
    """Return a label that may name a folder.

    Raises:
        ValueError: for any other.
    """
    if not _LABEL.fullmatch(label):
        raise ValueError(
            "a label must be at most 64 of a-z, 0-9, _ and -, a letter first, so that it can name "
            f"a folder, got {label!r}"
        )
    return label


def read_corpora(folder: Path) -> CorporaManifest:
    """Return the manifest of a corpora folder.

    Raises:
        IndexFolderError: if there is no such folder or manifest, or it is damaged or of another
            format; the message says which.
    """
    again = f"run `dovetail index PATH -o {folder} --corpora`"
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise IndexFolderError(f"{folder} {state}; to make it, {again}")
    try:
        fields = json.loads((folder / CORPORA).read_bytes())
    except FileNotFoundError:
        raise IndexFolderError(
            f"{folder} is no folder of corpora, or its first build was not finished: no {CORPORA}; "
            f"{again}"
        ) from None
    except OSError as error:
        raise IndexFolderError(f"{folder / CORPORA} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(folder, f"no JSON ({error})") from None
    if not isinstance(fields, dict) or _KEY not in fields:
        raise IndexFolderError(f"{folder} is no folder of corpora: {CORPORA} is somebody else's")
    version = fields[_KEY]
    if version != FORMAT:
        raise IndexFolderError(
            f"{folder} has corpora of format {version}, and this Dovetail reads format {FORMAT}; "
            "use the Dovetail that made it, or index its paths again with --rebuild"
        )
    try:
        return _manifest(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from None


def _damaged(folder: Path, reason: str) -> IndexFolderError:
    return IndexFolderError(
        f"{folder / CORPORA} is damaged ({reason}); index its paths again with --rebuild"
    )


def _manifest(fields: dict[str, Any]) -> CorporaManifest:
    """Return a manifest from JSON, or raise one of the errors that `read_corpora` expects."""
    return CorporaManifest(
        encoder=EncoderIdentity(**fields["encoder"]),
        corpora={
            check_label(label): CorpusEntry(**entry) for label, entry in fields["corpora"].items()
        },
        sources=tuple(
            CorporaSource(
                **{
                    **source,
                    "documents": tuple(source["documents"]),
                    "nothing": tuple(source["nothing"]),
                }
            )
            for source in fields["sources"]
        ),
    )
