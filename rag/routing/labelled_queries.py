"""Labelled queries: questions with the corpora that answer them, read and checked line by line.

A file holds one JSON object a line: `{"id", "question", "route"}`. The question may be called
`text` instead, and a list `routes` or `labels` takes the place of `route` where a question needs
several corpora. `source` names the data set that it comes from. `outcomes` holds the score, in
[0, 1], of every route that was tried alone, and `costs` the tokens that each read: `dovetail router
label` measures them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag.bounds import require_share
from rag.errors import DovetailError
from rag.evaluation.data import unique_lines
from rag.routing.outcomes import require_cost

QUERIES = "queries.jsonl"


class LabelledQueryError(DovetailError):
    """Labelled queries that cannot be read; the message names the file, and the line if one is."""


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A question and where it belongs.

    Attributes:
        id: unique in its file.
        text: the question.
        labels: of the corpora that it needs, at least one, each once.
        source: data set that it comes from; may be empty.
        outcomes: score of each route that was tried alone, in [0, 1]; empty where nobody measured.
        costs: tokens that each of these routes read; empty where nobody counted.

    Raises:
        ValueError: if the text is empty, there is no label, or one is empty, comes twice or has no
            outcome where there are any; if a score or a cost is out of range, or costs are of other
            routes than outcomes.
    """

    id: str
    text: str
    labels: tuple[str, ...]
    source: str = ""
    outcomes: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("question must be a text that is not empty, got white space")
        if not self.labels or not all(label.strip() for label in self.labels):
            raise ValueError(f"route must be one label or more, none empty, got {self.labels}")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"routes must hold each label once, got {self.labels}")
        for label, score in self.outcomes.items():
            require_share(f"outcomes.{label}", score)
        for label, cost in self.costs.items():
            require_cost(f"costs.{label}", cost)
        if self.outcomes and (missing := [x for x in self.labels if x not in self.outcomes]):
            raise ValueError(
                f"outcomes must hold every label of the question, got none of {missing[0]!r}"
            )
        if self.costs and self.costs.keys() != self.outcomes.keys():
            raise ValueError(
                "costs must be of the same routes as outcomes, got "
                f"{', '.join(sorted(self.costs))} and {', '.join(sorted(self.outcomes)) or 'none'}"
            )


def read_labelled_queries(path: Path) -> list[LabelledQuery]:
    """Return the labelled queries of a file or folder, in its order.

    Args:
        path: a `.jsonl` or `.jsonl.gz` file, or a folder that holds `queries.jsonl[.gz]`.

    Raises:
        LabelledQueryError: if nothing is there, or a line is not in the layout.
    """
    source = _file_of(path)
    found = unique_lines(source, _labelled, lambda one: repr(one.id), LabelledQueryError)
    if not found:
        raise LabelledQueryError(f"{source} must hold at least one line, got none")
    return found


def queries_hash(queries: Sequence[LabelledQuery]) -> str:
    """Return the SHA-256 over ids, texts and labels in order, in hex: what a router learns from."""
    digest = hashlib.sha256()
    for one in queries:
        digest.update(json.dumps([one.id, one.text, list(one.labels)]).encode() + b"\n")
    return digest.hexdigest()


def labelled_line(query: LabelledQuery) -> str:
    """Return a labelled query as a line of JSON with its line feed, as it is read again."""
    labels: dict[str, Any] = {"routes": list(query.labels)}
    if len(query.labels) == 1:
        labels = {"route": query.labels[0]}
    measured = {"outcomes": dict(query.outcomes), "costs": dict(query.costs)}
    told = {name: value for name, value in measured.items() if value}
    source = {"source": query.source} if query.source else {}
    line = {"id": query.id, "question": query.text, **labels, **told, **source}
    return json.dumps(line, ensure_ascii=False) + "\n"


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (QUERIES, f"{QUERIES}.gz"):
        if (path / name).is_file():
            return path / name
    raise LabelledQueryError(
        f"{path} must be a .jsonl or .jsonl.gz file, or a folder with {QUERIES} or {QUERIES}.gz"
    )


def _labelled(text_line: str) -> LabelledQuery:
    line = json.loads(text_line)
    if not isinstance(line, dict):
        raise ValueError(f"a line must be an object, got {line!r}")  # noqa: TRY004
    id_ = line.get("id")
    if not isinstance(id_, str) or not id_:
        raise ValueError(f"id must be a text that is not empty, got {id_!r}")
    text = line.get("question", line.get("text"))
    if not isinstance(text, str):
        raise ValueError(f"question must be a text, got {text!r}")  # noqa: TRY004
    source = line.get("source", "")
    if not isinstance(source, str):
        raise ValueError(f"source must be a text, got {source!r}")  # noqa: TRY004
    outcomes, costs = _numbers(line, "outcomes"), _numbers(line, "costs")
    return LabelledQuery(id_, text, _labels(line), source, outcomes, costs)


def _numbers(line: dict[str, Any], name: str) -> dict[str, float]:
    found = line.get(name, {})
    if not isinstance(found, dict) or not all(type(one) in (int, float) for one in found.values()):
        raise ValueError(f"{name} must be an object of numbers, got {found!r:.60}")
    return found


def _labels(line: dict[str, Any]) -> tuple[str, ...]:
    named = [name for name in ("route", "routes", "labels") if name in line]
    if len(named) != 1:
        raise ValueError(f"one of route, routes and labels must be there, got {named or 'none'}")
    found = line[named[0]]
    if named == ["route"] and isinstance(found, str):
        return (found,)
    if named == ["route"] or not isinstance(found, list):
        wanted = "one label" if named == ["route"] else "a list of labels"
        raise ValueError(f"{named[0]} must be {wanted}, got {found!r}")
    if not all(isinstance(label, str) for label in found):
        raise ValueError(f"{named[0]} must hold texts only, got {found!r}")
    return tuple(found)
