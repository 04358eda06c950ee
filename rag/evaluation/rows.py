"""Rows: one line of JSON a question, written as soon as it is known and read by later runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import DovetailError
from rag.evaluation.data import Question
from rag.evaluation.outcomes import METRICS, Outcome, answer_text
from rag.evaluation.statistics import Interval, bootstrap_interval
from rag.files import LineFile
from rag.record_json import from_json, to_json

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

RANKED = 100


class RowsError(DovetailError):
    """A file of rows that is damaged, in use, or of another run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question's result.

    Attributes:
        id: of the question.
        question: its text.
        answer: what was judged: empty if the answer abstained, None if the pipeline gives none.
        gold_answers: what it was compared with.
        ranking: the first 100 document ids.
        metrics: every metric that could be told, by name.
        error: why the question failed, or None.
        abstained: whether the answer abstained.
        withheld: what an answer that abstained said.
        config: hash of everything that the result depends on.
    """

    id: str
    question: str
    answer: str | None
    gold_answers: tuple[str, ...]
    ranking: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    abstained: bool = False
    withheld: str = ""
    config: str = ""

    @classmethod
    def of(
        cls, question: Question, outcome: Outcome, metrics: Mapping[str, float], config: str
    ) -> Row:
        """Return the row of a question that was asked."""
        answer = outcome.answer
        abstained = answer is not None and answer.abstained
        return cls(
            id=question.id,
            question=question.text,
            answer=None if answer is None else answer_text(answer),
            gold_answers=question.answers,
            ranking=tuple(outcome.documents[:RANKED]),
            metrics=metrics,
            error=outcome.error,
            abstained=abstained,
            withheld=answer.text if answer is not None and abstained else "",
            config=config,
        )

    def line(self) -> str:
        """Return the row as one line of JSON with its line feed; keys are always the same."""
        fields = {
            "id": self.id,
            "question": self.question,
            "answer": self.answer,
            "abstained": self.abstained,
            "withheld": self.withheld,
            "gold_answers": list(self.gold_answers),
            "ranking": list(self.ranking),
            "metrics": to_json(self.metrics),
            "error": self.error,
            "config": self.config,
        }
        return json.dumps(fields, ensure_ascii=True) + "\n"


class RowLog:
    """A file of rows that a run appends to, and goes on with if it was interrupted.

    Rows reach the disk before `append` returns. A line that was cut off by an interrupt is dropped
    when the file is opened again. One process at a time may hold the file. Use as a context
    manager.

    Attributes:
        path: the file.
        done: rows that were there, by id.
    """

    def __init__(self, path: Path, *, config: str, ids: Iterable[str]) -> None:
        """Open or make the file; it changes only if its last line was cut off.

        Args:
            path: its folder must exist.
            config: of the run; rows of another one are not mixed with its.
            ids: questions of the run.

        Raises:
            RowsError: if it holds rows of another configuration or of other questions, is damaged,
                or another process holds it.
        """
        self.path = path
        self._file = LineFile(path, RowsError)
        try:
            self.done = self._resume(config, set(ids))
        except BaseException:
            self._file.close()
            raise

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, durably."""
        self._file.append("".join(row.line() for row in rows))

    def close(self) -> None:
        """Close the file; twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _resume(self, config: str, ids: set[str]) -> dict[str, Row]:
        rows = _parsed(self.path, self._file.whole)
        if any(row.config != config for row in rows):
            raise RowsError(
                f"{self.path} holds rows of another recipe, option, model or data; "
                "give another --out, or delete it"
            )
        foreign = [row.id for row in rows if row.id not in ids]
        if foreign:
            raise RowsError(
                f"{self.path} holds {len(foreign)} rows of questions that this run does not ask, "
                f"such as {foreign[0]!r}; ask as many as before, or give another --out"
            )
        self._file.drop_rest()
        return {row.id: row for row in rows}


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file.

    Raises:
        RowsError: if it cannot be read, holds none, or a line is not a row; the message says which.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RowsError(f"{path} cannot be read: {error.strerror}") from error
    rows = _parsed(path, content)
    if not rows:
        raise RowsError(f"{path} holds no rows")
    return rows


def told_metrics(rows: Sequence[Row]) -> list[str]:
    """Return the metrics, in their usual order, that at least one question without an error has."""
    told = {name for row in rows if row.error is None for name in row.metrics}
    return [name for name in METRICS if name in told]


def summarise(rows: Sequence[Row], *, seed: int = 0) -> dict[str, Interval]:
    """Return mean and 95 % bootstrap interval of each metric over the questions that have it.

    Failed questions count with 0 in the metrics of rankings and answers.
    """
    values = {name: [r.metrics[name] for r in rows if name in r.metrics] for name in METRICS}
    return {name: bootstrap_interval(values[name], seed=seed) for name in told_metrics(rows)}


def _parsed(path: Path, content: bytes) -> list[Row]:
    rows: dict[str, Row] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            fields: Any = json.loads(line)
            row: Row = from_json(Row, fields, where="row")
            if row.id in rows:
                raise ValueError(f"id {row.id!r} occurs twice")  # noqa: TRY301
        except ValueError as error:
            raise RowsError(f"{path}:{number}: not a row of `dovetail eval`: {error}") from error
        rows[row.id] = row
    return list(rows.values())
