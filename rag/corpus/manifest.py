"""The manifest of an index folder: what it was made from, by what, and the files it consists of."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rag.errors import IndexFolderError
from rag.files import write_atomically
from rag.protocols import Encoder

FORMAT = 2
MANIFEST = "manifest.json"

_SNAPSHOT = re.compile(r"[0-9a-f]{16}")
_REMEDY = "index its paths again with --rebuild"


@dataclass(frozen=True, slots=True)
class IndexedSource:
    """A source as it was when it was indexed.

    Attributes:
        id: as the id of `rag.corpus.Source`.
        root: the path that was given, without links, or `python:topics`.
        sha: SHA-256 of the content.
        documents: ids of its documents, in order; at least one.
    """

    id: str
    root: str
    sha: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a snapshot: its size and the SHA-256 of its content."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """The encoder that made the vectors.

    Attributes:
        name: what the user called it.
        fingerprint: hash of its weights and prompts.
        dim: width of a vector.
        query_prompt: put before queries; None means the model's own.
        document_prompt: put before passages; None means the model's own.
    """

    name: str
    fingerprint: str
    dim: int
    query_prompt: str | None = None
    document_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many documents, passages and sentences an index holds."""

    documents: int
    passages: int
    sentences: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index folder holds.

    Attributes:
        snapshot: name of the current folder below `snapshots`.
        encoder: what made the vectors.
        chunker: fingerprint of the chunker.
        language: of the texts, as of `rag.text.analyser`.
        created: time of the first build, ISO 8601 with its zone.
        updated: time of the last build that changed something.
        sources: sorted by id.
        counts: documents, passages and sentences.
        files: files of the snapshot by their path below it.
    """

    snapshot: str
    encoder: EncoderIdentity
    chunker: str
    language: str
    created: str
    updated: str
    sources: tuple[IndexedSource, ...]
    counts: Counts
    files: Mapping[str, StoredFile]

    def write(self, folder: Path) -> None:
        """Make this the manifest of `folder`, in one step."""
        fields = asdict(self)
        text = json.dumps({"dovetail": FORMAT, **fields}, ensure_ascii=False, indent=1)
        write_atomically(folder / MANIFEST, lambda file: file.write(text.encode()))


def encoder_identity(encoder: Encoder, dim: int) -> EncoderIdentity:
    """Return what the manifest says of an encoder; one without prompts of its own has none.

    Args:
        encoder: made the vectors.
        dim: their width, which an encoder that has not been loaded need not be asked for.
    """
    prompts = (getattr(encoder, f"{role}_prompt", None) for role in ("query", "document"))
    return EncoderIdentity(encoder.name, encoder.fingerprint, dim, *prompts)


def is_index(folder: Path) -> bool:
    """Tell whether a folder holds a manifest of ours, of whatever format."""
    try:
        fields = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and "dovetail" in fields


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an index folder.

    Raises:
        IndexFolderError: if there is no such folder or manifest, or it is damaged or of another
            format; the message says which.
    """
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise IndexFolderError(f"{folder} {state}; make it with `dovetail index PATH -o {folder}`")
    try:
        fields = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise IndexFolderError(
            f"{folder} is not a Dovetail index: no {MANIFEST}; "
            "make one with `dovetail index PATH -o DIR`"
        ) from None
    except OSError as error:
        raise IndexFolderError(f"{folder / MANIFEST} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(folder, f"no JSON ({error})") from None
    if not isinstance(fields, dict) or "dovetail" not in fields:
        raise IndexFolderError(f"{folder} is not a Dovetail index: {MANIFEST} is somebody else's")
    version = fields["dovetail"]
    if version != FORMAT:
        raise IndexFolderError(
            f"{folder} has index format {version}, and this Dovetail reads format {FORMAT}; "
            f"use the Dovetail that made it, or {_REMEDY}"
        )
    try:
        return _manifest(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from None


def _damaged(folder: Path, reason: str) -> IndexFolderError:
    return IndexFolderError(f"{folder / MANIFEST} is damaged ({reason}); {_REMEDY}")


def _manifest(fields: dict[str, Any]) -> Manifest:
    """Return a manifest from JSON, or raise one of the errors that `read_manifest` expects."""
    if not _SNAPSHOT.fullmatch(fields["snapshot"]):
        raise ValueError(f"snapshot must be 16 hex digits, got {fields['snapshot']!r}")
    for name in fields["files"]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"files must lie in the snapshot, got {name!r}")
    return Manifest(
        snapshot=fields["snapshot"],
        encoder=EncoderIdentity(**fields["encoder"]),
        chunker=fields["chunker"],
        language=fields["language"],
        created=fields["created"],
        updated=fields["updated"],
        sources=tuple(
            IndexedSource(**{**source, "documents": tuple(source["documents"])})
            for source in fields["sources"]
        ),
        counts=Counts(**fields["counts"]),
        files={name: StoredFile(**file) for name, file in fields["files"].items()},
    )
