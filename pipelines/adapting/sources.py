"""Sources of examples: what a path holds, the hash of its content, and its licences."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Literal

from pruners.training.labelled import data_sha as labelled_sha
from pruners.training.labelled import licences
from rag.evaluation.data import data_sha, has_corpus, jsonl_lines

SourceKind = Literal["folder", "labelled", "examples"]


def source_kind(source: Path) -> SourceKind:
    """Tell what a source holds; a file of examples is told by its first line."""
    if source.is_dir():
        return "folder" if has_corpus(source) else "labelled"
    if not source.is_file():
        return "labelled"  # which says what is wrong
    first = next((line for _, line in jsonl_lines(source)), "")
    try:
        fields = json.loads(first or "{}")
    except ValueError:
        return "labelled"
    return "examples" if isinstance(fields, dict) and "passages" in fields else "labelled"


def source_sha(source: Path) -> str:
    """Return the SHA-256 of what a source holds, as it reads uncompressed, in hex.

    Raises:
        EvaluationDataError: if a data folder cannot be read.
        LabelledDataError: if there is nothing to read.
    """
    kind = source_kind(source)
    if kind == "folder":
        return data_sha(source)
    if kind == "labelled":
        return labelled_sha(source)
    content = source.read_bytes()
    content = gzip.decompress(content) if source.suffix == ".gz" else content
    return hashlib.sha256(content).hexdigest()


def source_licences(source: Path) -> tuple[str, ...]:
    """Return what `meta.json` in or beside a source says; a data folder's name stands before it.

    Raises:
        LabelledDataError: if that file is not in the layout.
    """
    terms = licences(source)
    if terms and source_kind(source) == "folder":
        return (f"{source.absolute().name}: {'; '.join(terms)}",)
    return terms
