"""Labelled passages: questions with the sentences of a passage that answer them, read and checked.

A file holds one JSON object a line: `{"id", "source", "question", "title", "sentences": […],
"gold": [rows], "answers": […]}`. `gold` is empty where the passage does not help. A folder holds
such a file as `train.jsonl` or `train.jsonl.gz`, and may hold `meta.json` with licences.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.evaluation.data import read_corpus, unique_lines
from rag.records import Passage, Span

TRAIN = "train.jsonl"
_META = "meta.json"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class LabelledPassage:
    """A question, a passage, and which of its sentences a person would keep for it.

    Attributes:
        id: unique in its data.
        source: short name of the data set that it comes from.
        question: what is asked.
        title: of the passage; may be empty.
        sentences: the passage's sentences in order, stripped; at least one.
        gold: rows of the sentences to keep; empty where the passage does not help.
        answers: accepted answers; may be empty.

    Raises:
        ValueError: if the question or a sentence is empty, or a gold row has no sentence.
    """

    id: str
    source: str
    question: str
    title: str
    sentences: tuple[str, ...]
    gold: frozenset[int]
    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("question must be a string that is not empty, got white space")
        if not self.sentences or not all(sentence.strip() for sentence in self.sentences):
            raise ValueError("sentences must be at least one string, none of them empty")
        outside = sorted(row for row in self.gold if not 0 <= row < len(self.sentences))
        if outside:
            raise ValueError(
                f"gold must be rows of the {len(self.sentences)} sentences, from 0, got {outside}"
            )

    @property
    def text(self) -> str:
        """The passage's text: its sentences joined by one space."""
        return " ".join(self.sentences)

    @property
    def key(self) -> str:
        """`passage_key` of the text: what tells two copies of a passage from two passages."""
        return passage_key(self.text)

    def passage(self) -> Passage:
        """Return the passage as scorers read it; the space belongs to the sentence before it."""
        spans, start = [], 0
        for row, sentence in enumerate(self.sentences):
            end = start + len(sentence) + (row < len(self.sentences) - 1)
            spans.append(Span(start, end))
            start = end
        text = self.text
        return Passage(self.id, self.id, text, Span(0, len(text)), tuple(spans), title=self.title)


class LabelledDataError(ValueError):
    """Training data that cannot be read; the message names the file, and the line where one is."""


def passage_key(text: str) -> str:
    """Return the words of a text in lower case: equal for copies that differ in spaces or marks."""
    return " ".join(_WORD.findall(text.lower()))


def read_labelled(path: Path, *, leave_out: Iterable[Path] = ()) -> list[LabelledPassage]:
    """Return the labelled passages of a file or folder, in its order.

    Args:
        path: a `.jsonl` or `.jsonl.gz` file, or a folder that holds `train.jsonl[.gz]`.
        leave_out: folders of evaluation data; rows whose passage stands in one of their corpora
            are dropped, so that figures on them are fair. `without_passages_of` counts them.

    Raises:
        LabelledDataError: if nothing is there, or a line is not in the layout.
        EvaluationDataError: if a folder of `leave_out` holds no corpus.
    """
    source = _file_of(path)
    found = unique_lines(source, _labelled, lambda one: repr(one.id), LabelledDataError)
    if not found:
        raise LabelledDataError(f"{source} must hold at least one line, got none")
    return without_passages_of(found, leave_out)[0]


def without_passages_of(
    examples: Sequence[LabelledPassage], folders: Iterable[Path]
) -> tuple[list[LabelledPassage], int]:
    """Return the examples whose passage stands in no corpus of the folders, and how many went.

    Passages are compared by `passage_key`: case, white space and punctuation do not matter.

    Args:
        examples: labelled passages.
        folders: of evaluation data, each with a corpus.

    Raises:
        EvaluationDataError: if a folder holds no corpus.
    """
    evaluated = {passage_key(one.text) for folder in folders for one in read_corpus(folder)}
    kept = [one for one in examples if one.key not in evaluated] if evaluated else list(examples)
    return kept, len(examples) - len(kept)


def data_sha(path: Path) -> str:
    """Return the SHA-256 of the labelled lines as they read uncompressed, in hex.

    Raises:
        LabelledDataError: if there is nothing to read.
    """
    source = _file_of(path)
    digest = hashlib.sha256()
    try:
        with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, EOFError) as error:
        raise LabelledDataError(f"{source} cannot be read: {error}") from error
    return digest.hexdigest()


def licences(path: Path) -> tuple[str, ...]:
    """Return what `meta.json` beside the data says of the licence of each set; () without one.

    Raises:
        LabelledDataError: if that file is not in the layout.
    """
    meta = (path if path.is_dir() else path.parent) / _META
    if not meta.is_file():
        return ()
    try:
        said = json.loads(meta.read_bytes()).get("licence", "")
    except (OSError, ValueError, AttributeError) as error:
        raise LabelledDataError(f"{meta} must be a JSON object, got: {error}") from error
    if not isinstance(said, str):
        raise LabelledDataError(f"{meta}: licence must be a string, got {said!r:.60}")
    return tuple(part.strip() for part in said.split(";") if part.strip())


def _file_of(path: Path) -> Path:
    """Return the file of a path that may be a folder."""
    if path.is_dir():
        for name in (TRAIN, f"{TRAIN}.gz"):
            if (path / name).is_file():
                return path / name
        raise LabelledDataError(f"{path} must hold {TRAIN} or {TRAIN}.gz, got neither")
    if not path.is_file():
        raise LabelledDataError(f"{path} must be a file or folder of labelled passages, got none")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise LabelledDataError(f"{path} must end with .jsonl or .jsonl.gz, got {path.name!r}")
    return path


def _labelled(line: str) -> LabelledPassage:
    """Return what a line holds."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError(f"a line must be a JSON object, got {line.strip()!r:.60}")  # noqa: TRY004
    gold = fields.get("gold")
    if not isinstance(gold, list) or not all(type(row) is int for row in gold):
        raise ValueError(f"gold must be a list of rows, got {gold!r:.60}")
    return LabelledPassage(
        id=_text(fields, "id"),
        source=_text(fields, "source"),
        question=_text(fields, "question"),
        title=_text(fields, "title", empty=True) if "title" in fields else "",
        sentences=tuple(sentence.strip() for sentence in _texts(fields, "sentences")),
        gold=frozenset(gold),
        answers=tuple(_texts(fields, "answers")) if "answers" in fields else (),
    )


def _text(fields: dict[str, Any], name: str, *, empty: bool = False) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not (empty or value.strip()):
        kind = "a string" if empty else "a string that is not empty"
        raise ValueError(f"{name} must be {kind}, got {value!r:.60}")
    return value


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    values = fields.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} must be a list of strings, got {values!r:.60}")
    return values
