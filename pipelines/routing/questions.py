"""Questions to label: of a data folder, or of one file, with what is known of their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag.evaluation.data import (
    EvaluationDataError,
    Question,
    jsonl_lines,
    read_questions,
    unique_lines,
)

QUERIES = ("queries.jsonl", "queries.jsonl.gz")


def read_judged_questions(path: Path) -> tuple[list[Question], Mapping[str, str]]:
    """Return questions in their order, and the data set of each that names one, by id.

    Args:
        path: a data folder, or a `.jsonl` or `.jsonl.gz` file of its questions alone: lines with
            `id`, `question`, `answers` and `supporting`, of which either may be missing.

    Raises:
        EvaluationDataError: if nothing is there, or a line is not in the layout.
    """
    if not path.is_file():
        questions = read_questions(path)
        file = next(path / name for name in QUERIES if (path / name).is_file())
    else:
        file = path
        questions = unique_lines(path, _question, lambda one: repr(one.id), EvaluationDataError)
    if not questions:
        raise EvaluationDataError(f"{path} must hold at least one question, got none")
    return questions, _sources(file)


def _question(text_line: str) -> Question:
    line = json.loads(text_line)
    if not isinstance(line, dict):
        raise ValueError(f"a line must be an object, got {line!r:.60}")  # noqa: TRY004
    for name in ("id", "question"):
        if not isinstance(line.get(name), str) or not line[name].strip():
            raise ValueError(f"{name} must be a text that is not empty, got {line.get(name)!r:.60}")
    answers, supporting = line.get("answers", []), line.get("supporting", [])
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise ValueError(f"answers must be a list of texts, got {answers!r:.60}")
    if not isinstance(supporting, list) or not all(map(_names_document, supporting)):
        raise ValueError(f"supporting must be objects with doc_id, got {supporting!r:.60}")
    documents: dict[str, tuple[int, ...]] = {one["doc_id"]: () for one in supporting}
    return Question(line["id"], line["question"], tuple(answers), documents)


def _names_document(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("doc_id"), str)


def _sources(file: Path) -> dict[str, str]:
    lines = (json.loads(line) for _, line in jsonl_lines(file))
    return {line["id"]: line["source"] for line in lines if isinstance(line.get("source"), str)}
