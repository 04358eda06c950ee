"""Questions to learn from, as data folders and labelled passages hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruners.training.labelled import LabelledPassage
from pruners.training.split import question_key
from rag.evaluation.data import (
    QUERIES,
    UNANSWERABLE,
    EvaluationDataError,
    Question,
    jsonl_lines,
    read_corpus,
    read_questions,
)
from rag.records import Passage
from rag.text.terms import query_terms


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question and what its data says about the passages to read.

    Attributes:
        id: unique in its data set.
        data: name of the data set.
        text: the question.
        answers: accepted answers; may be empty.
        unanswerable: whether there is none.
        must: passages with evidence; of an unanswerable question the one that comes nearest.
        gold: rows of the gold sentences by document of `must`; no rows where they are not known.
        shown: other passages that the data shows with the question.
        barred: documents that are not read for an unanswerable question, since they answer another
            one with the same terms.
    """

    id: str
    data: str
    text: str
    answers: tuple[str, ...]
    must: tuple[Passage, ...]
    gold: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shown: tuple[Passage, ...] = ()
    unanswerable: bool = False
    barred: frozenset[str] = frozenset()


def folder_questions(folder: Path, *, shown: bool = False) -> list[AskedQuestion]:
    """Return the questions of a data folder that name a passage, unanswerable ones last.

    Left out are questions with neither an answer nor the mark that there is none, and those that
    name no document.

    Args:
        folder: in the layout of the evaluation data; `unanswerable.jsonl` may be missing.
        shown: whether to read which paragraphs the data shows with a question, its `context_ids`.

    Raises:
        EvaluationDataError: if the folder, or a line, is not in the layout.
    """
    passages = {passage.document: passage for passage in read_corpus(folder)}
    unanswerable = _file(folder, UNANSWERABLE) is not None
    said = _said(folder)
    questions = read_questions(folder, unanswerable=unanswerable)
    answered: dict[frozenset[str], set[str]] = {}
    for question in questions:
        if not question.unanswerable:
            terms = frozenset(query_terms(question.text))
            answered.setdefault(terms, set()).update(question.gold_documents)
    found = []
    for question in questions:
        near, context = said.get(question.id, ("", ()))
        gold = _gold(question, near)
        unknown = sorted((gold.keys() | set(context)) - passages.keys())
        if unknown:
            raise EvaluationDataError(
                f"{folder}: question {question.id!r} names document {unknown[0]!r}, which is not "
                "in the corpus"
            )
        if not gold or not (question.answers or question.unanswerable):
            continue
        found.append(
            AskedQuestion(
                id=question.id,
                data=folder.absolute().name,
                text=question.text,
                answers=() if question.unanswerable else _written(question.answers),
                must=tuple(passages[document] for document in gold),
                gold=gold,
                shown=tuple(passages[id_] for id_ in context if id_ not in gold) if shown else (),
                unanswerable=question.unanswerable,
                barred=frozenset(answered.get(frozenset(query_terms(question.text)), ()))
                if question.unanswerable
                else frozenset(),
            )
        )
    return sorted(found, key=lambda question: question.unanswerable)


def labelled_questions(rows: Sequence[LabelledPassage]) -> list[AskedQuestion]:
    """Return the questions of labelled passages, each with all of its rows, in the data's order.

    Rows of one question, by its words, belong together, whatever their source: a source may keep
    its questions and passages that do not help them apart, as `newwiki` and `newwiki-neg` do. A
    question is of the source of its first gold row; without a gold row it is left out, since
    nobody says that its passages hold no answer, only that they were not marked.

    Args:
        rows: labelled passages.
    """
    asked: dict[str, list[LabelledPassage]] = {}
    for row in rows:
        asked.setdefault(question_key(row.question), []).append(row)
    found = []
    for of_question in asked.values():
        gold = {row.key: row for row in reversed(of_question) if row.gold}
        if not gold:
            continue
        must = [row for row in of_question if gold.get(row.key) is row]
        others = {row.key: row for row in reversed(of_question) if row.key not in gold}
        shown = [row for row in of_question if others.get(row.key) is row]
        answers = next((row.answers for row in (*must, *of_question) if row.answers), ())
        found.append(
            AskedQuestion(
                id=must[0].id,
                data=must[0].source,
                text=must[0].question,
                answers=_written(answers),
                must=tuple(row.passage() for row in must),
                gold={row.id: tuple(sorted(row.gold)) for row in must},
                shown=tuple(row.passage() for row in shown),
            )
        )
    return found


def drawn(ids: Iterable[str], seed: int) -> list[str]:
    """Return ids in the order in which they are drawn: by SHA-256 of `seed:id`.

    It is the order of `rag.evaluation.data.sample`; a larger draw of one seed holds a smaller one.
    """
    return sorted(ids, key=lambda id_: hashlib.sha256(f"{seed}:{id_}".encode()).digest())


def limited(
    questions: Sequence[AskedQuestion], *, refusals: float | None, limit: int | None, seed: int
) -> list[AskedQuestion]:
    """Return a sample of each data set with a share of unanswerable questions, in the given order.

    Args:
        questions: any number.
        refusals: share of a data set's questions that are unanswerable, in [0, 1), where there are
            as many; None keeps the share that they have.
        limit: the most of a data set; None takes every answerable one.
        seed: of the sample.
    """
    taken: set[tuple[str, str]] = set()
    for data in dict.fromkeys(question.data for question in questions):
        of_data = [question for question in questions if question.data == data]
        if refusals is None:
            taken.update((data, id_) for id_ in drawn((q.id for q in of_data), seed)[:limit])
            continue
        answerable = drawn((q.id for q in of_data if not q.unanswerable), seed)
        refused = drawn((q.id for q in of_data if q.unanswerable), seed)
        if limit is not None:
            refused = refused[: round(refusals * limit)]
            answerable = answerable[: limit - len(refused)]
        room = round(len(answerable) * refusals / (1.0 - refusals)) if answerable else len(refused)
        taken.update((data, id_) for id_ in (*answerable, *refused[:room]))
    return [question for question in questions if (question.data, question.id) in taken]


def _gold(question: Question, near: str) -> dict[str, tuple[int, ...]]:
    """Return the documents to read, best known first, with their gold rows."""
    if question.unanswerable:
        return {near: ()} if near else {}
    return {document: question.supporting.get(document, ()) for document in _order(question)}


def _order(question: Question) -> Collection[str]:
    """Return the gold documents in the order of the data, which keeps the order of hops."""
    return list(question.supporting) or sorted(question.gold_documents)


def _written(answers: Sequence[str]) -> tuple[str, ...]:
    return tuple(answer for answer in answers if answer.strip())


def _said(folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return each question's nearest document, and the ids of the paragraphs shown with it."""
    found = {}
    for path in (_file(folder, QUERIES), _file(folder, UNANSWERABLE)):
        for number, line in jsonl_lines(path) if path else ():
            fields: dict[str, Any] = json.loads(line)
            near, context = fields.get("near_doc_id", ""), fields.get("context_ids", [])
            if not isinstance(near, str) or not _are_texts(context):
                raise EvaluationDataError(
                    f"{path}:{number}: near_doc_id must be a string and context_ids a list of "
                    f"strings, got {near!r:.40} and {context!r:.40}"
                )
            found[str(fields.get("id"))] = (near, tuple(dict.fromkeys(context)))
    return found


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _file(folder: Path, name: str) -> Path | None:
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)
