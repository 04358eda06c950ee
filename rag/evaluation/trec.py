"""TREC runs: rankings as trec_eval and its relatives write and read them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rag.evaluation.data import EvaluationDataError
from rag.records import Hit

_FIELDS = "question Q0 document rank score tag"


def run_lines(question: str, documents: Sequence[str], tag: str) -> Iterator[str]:
    """Yield `question Q0 document rank score tag`, one line a document, without line feeds.

    Readers sort by score and break ties in their own ways, and a reranker's scores do not go on
    into the ranking below it; so the score is 1 / rank, written to as many places as it takes to
    fall strictly: 8 for up to 9,999 documents, 2 more for every further digit of their number.

    Args:
        question: id.
        documents: ids, best first, each once.
        tag: names the run.

    Raises:
        ValueError: if a name is empty or holds white space, which the format has no way to write,
            or a document occurs twice, which its readers refuse.
    """
    for name, value in (("question", question), ("tag", tag)):
        _check(name, value)
    # Neighbours are at least 1 / n**2 apart, so a step of 10**-places or less keeps them apart.
    places = max(8, 2 * len(str(len(documents))))
    seen: set[str] = set()
    for rank, document in enumerate(documents, 1):
        _check("documents", document)
        if document in seen:
            raise ValueError(f"documents must hold each id once, got {document!r} again")
        seen.add(document)
        yield f"{question} Q0 {document} {rank} {1 / rank:.{places}f} {tag}"


def read_run(path: Path) -> dict[str, list[Hit]]:
    """Return the ranking of each question in a TREC run, questions in order of appearance.

    Hits are sorted by score, best first, ties by id; the rank column, Q0 and the tag are not read,
    as in trec_eval (which puts the larger id of a tie first). Empty lines are skipped.

    Args:
        path: a text file in UTF-8 of lines `question Q0 document rank score tag`, parted by white
            space.

    Raises:
        EvaluationDataError: if the file cannot be read, or a line has other than six fields, a
            score that is no finite number, or a document that its question has already; the message
            holds the line's number.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationDataError(f"{path} cannot be read: {error}") from error
    scores: dict[str, dict[str, float]] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 6:
            raise EvaluationDataError(
                f"{path}:{number} must hold six fields ({_FIELDS}), got {len(fields)}"
            )
        question, _, document, _, score, _ = fields
        found = scores.setdefault(question, {})
        if document in found:
            raise EvaluationDataError(
                f"{path}:{number} names document {document!r} of question {question!r} again"
            )
        found[document] = _score(score, f"{path}:{number}")
    return {
        question: [
            Hit(id_, s) for id_, s in sorted(found.items(), key=lambda hit: (-hit[1], hit[0]))
        ]
        for question, found in scores.items()
    }


def _score(field: str, place: str) -> float:
    try:
        score = float(field)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise EvaluationDataError(f"{place} must hold a finite score, got {field!r}")
    return score


def _check(name: str, value: str) -> None:
    if value.split() != [value]:
        raise ValueError(f"{name} must be a word without white space, got {value!r}")
