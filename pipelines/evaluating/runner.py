"""Asking a pipeline the questions of a data folder, batch by batch, resumably."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.progress import Progress, Unwatched
from rag.evaluation.data import Question
from rag.evaluation.outcomes import Outcome, outcome_metrics
from rag.evaluation.rows import Row, RowLog
from rag.evaluation.trec import run_lines
from rag.files import write_atomically

Asker = Callable[[Sequence[Question]], list[Outcome]]
BATCH = 8


def run_questions(
    questions: Sequence[Question],
    ask: Asker,
    *,
    config: str = "",
    log: RowLog | None = None,
    progress: Progress | None = None,
    projected: Callable[[float], None] | None = None,
) -> list[Row]:
    """Ask every question and return a row each, in the questions' order.

    A batch's rows are in the log before the next batch is asked, so an interrupt loses one batch at
    most. Questions whose row is in the log already are not asked again.

    Args:
        questions: unique by id.
        ask: gives an outcome a question, in order, for at most 8 at a time; a question that fails
            is an outcome with `error`.
        config: hash of all that the rows depend on.
        log: keeps rows; it must have been opened with the same config.
        progress: watches.
        projected: told once, after the first batch, how many seconds the rest will take if it goes
            on like this; the first batch loads models, so it is rather less.

    Raises:
        ValueError: if `ask` gives another number of outcomes.
    """
    progress = progress or Unwatched()
    rows = dict(log.done) if log is not None else {}
    pending = [question for question in questions if question.id not in rows]
    progress.stage("questions", len(pending))
    for start in range(0, len(pending), BATCH):
        batch = pending[start : start + BATCH]
        began = time.monotonic()
        outcomes = ask(batch)
        found = outcome_metrics(batch, outcomes)
        made = [
            Row.of(question, outcome, metrics, config)
            for question, outcome, metrics in zip(batch, outcomes, found, strict=True)
        ]
        if log is not None:
            log.append(made)
        rows |= {row.id: row for row in made}
        progress.advance(len(batch))
        left = len(pending) - len(batch)
        if start == 0 and left and projected is not None:
            projected((time.monotonic() - began) / len(batch) * left)
    return [rows[question.id] for question in questions]


def write_run(path: Path, rows: Sequence[Row], tag: str) -> None:
    """Write the rankings of rows as a TREC run, or leave the file as it was.

    Raises:
        ValueError: if an id or the tag holds white space.
    """
    text = "".join(f"{line}\n" for row in rows for line in run_lines(row.id, row.ranking, tag))
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)
