"""Evaluation data: folders of passages, questions and judgements, read and checked line by line."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from rag.errors import DovetailError
from rag.records import Passage, Span
from rag.text.sentences import split_sentences

CORPUS = "corpus.jsonl"
QUERIES = "queries.jsonl"
QRELS = "qrels.tsv"
UNANSWERABLE = "unanswerable.jsonl"

Line = TypeVar("Line")
Record = TypeVar("Record", "Passage", "Question")


class EvaluationDataError(DovetailError):
    """A data folder, or a line in it, that is not in the layout; the message says where."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what is known about its answer.

    Attributes:
        id: unique in its data.
        text: the question.
        answers: accepted answers; empty where none are known, or there is none.
        supporting: id of each document with evidence to its gold sentences, as rows from 0; no
            rows where only the document is known.
        relevant: relevance of judged documents, by id; 0 and below is not relevant.
        unanswerable: whether the corpus is known to hold no answer.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    supporting: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    relevant: Mapping[str, int] = field(default_factory=dict)
    unanswerable: bool = False

    @property
    def gold_documents(self) -> frozenset[str]:
        """Documents that hold evidence: those of `supporting`, or else all relevant ones."""
        judged = (id_ for id_, relevance in self.relevant.items() if relevance > 0)
        return frozenset(self.supporting or judged)


def read_corpus(folder: Path) -> list[Passage]:
    """Return the passages of a data folder, one a line of its corpus, in its order.

    A passage is its own document. Its sentences are those of the line; a table without any has
    one a row, and another text without any is split by rule. An object `metadata` of a line is what
    filters look at.

    Raises:
        EvaluationDataError: if there is no corpus, no line in it, or a line is not in the layout.
    """
    passages = _unique(_required(folder, CORPUS), _passage)
    if not passages:
        raise EvaluationDataError(f"{folder} has an empty {CORPUS}")
    return passages


def read_questions(folder: Path, *, unanswerable: bool = False) -> list[Question]:
    """Return the questions of a data folder in its order, with their judgements.

    Judgements of other questions are passed over: they are often published for more.

    Args:
        folder: in the layout of the evaluation data.
        unanswerable: whether to read the questions without an answer too, from their own file.

    Raises:
        EvaluationDataError: if there are no questions, or a line is not in the layout.
    """
    relevant = _judgements(folder)
    files = [_required(folder, QUERIES)]
    if unanswerable:
        files.append(_required(folder, UNANSWERABLE))
    questions: list[Question] = []
    for path in files:
        asked = {question.id for question in questions}
        questions += _unique(path, lambda fields: _question(fields, relevant), asked)
    if not questions:
        raise EvaluationDataError(f"{folder} has an empty {QUERIES}")
    return questions


def sample(questions: Sequence[Question], limit: int | None, seed: int = 0) -> list[Question]:
    """Return a random sample in the given order; it depends on the ids and the seed alone.

    Ids are ordered by the SHA-256 of `seed:id` and the first `limit` taken, so a larger sample of
    one seed holds every smaller one.

    Args:
        questions: unique by id.
        limit: how many, at least 1; None takes all.
        seed: of the sample.

    Raises:
        ValueError: if limit is below 1.
    """
    if limit is None:
        return list(questions)
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    drawn = sorted(
        (question.id for question in questions),
        key=lambda id_: hashlib.sha256(f"{seed}:{id_}".encode()).digest(),
    )
    taken = set(drawn[:limit])
    return [question for question in questions if question.id in taken]


def corpus_sha(folder: Path) -> str:
    """Return the SHA-256 of the corpus, as it reads uncompressed.

    Raises:
        EvaluationDataError: if there is none, or it cannot be read.
    """
    return _content_sha(_required(folder, CORPUS))


def data_sha(folder: Path) -> str:
    """Return the SHA-256 of everything that an evaluation reads: corpus, questions, judgements."""
    whole = hashlib.sha256()
    for name in (CORPUS, QUERIES, QRELS, UNANSWERABLE):
        path = _find(folder, name)
        whole.update(f"{name} {_content_sha(path) if path else 'absent'}\n".encode())
    return whole.hexdigest()


def has_corpus(folder: Path) -> bool:
    """Tell whether a data folder has a corpus; some hold questions only."""
    return _find(folder, CORPUS) is not None


def _find(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _required(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise EvaluationDataError(f"{folder} {state}; give a folder of evaluation data")
    path = _find(folder, name)
    if path is None:
        raise EvaluationDataError(f"{folder} has no {name} or {name}.gz")
    return path


def _content_sha(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, EOFError) as error:
        raise EvaluationDataError(f"{path} cannot be read: {error}") from error
    return digest.hexdigest()


def jsonl_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a `.jsonl` or `.jsonl.gz` file that are not blank, numbered from 1.

    Raises:
        EvaluationDataError: if it cannot be read.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.decode().rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise EvaluationDataError(f"{path} cannot be read: {error}") from error


def unique_lines(
    path: Path,
    parse: Callable[[str], Line],
    named: Callable[[Line], str],
    error: type[Exception],
) -> list[Line]:
    """Return what `parse` makes of each line of a `.jsonl` or `.jsonl.gz` file, in order.

    Args:
        path: of the file.
        parse: takes the text of a line; a ValueError of it gets file and line in front.
        named: says what must not come twice, as a message shows it.
        error: what is raised.

    Raises:
        Exception: an `error`, if the file cannot be read, or for the first line that is wrong.
    """
    found: dict[str, Line] = {}
    try:
        for number, line in jsonl_lines(path):
            try:
                one = parse(line)
                if named(one) in found:
                    raise ValueError(f"id must be unique, got {named(one)} twice")  # noqa: TRY301
            except ValueError as wrong:
                raise error(f"{path}:{number}: {wrong}") from wrong
            found[named(one)] = one
    except EvaluationDataError as wrong:
        raise error(str(wrong)) from wrong
    return list(found.values())


def _unique(
    path: Path, parse: Callable[[dict[str, Any]], Record], known: set[str] | None = None
) -> list[Record]:
    """Return what `parse` makes of each line; an error of it gets file and line in front."""
    seen = set(known or ())
    found = []
    for number, line in jsonl_lines(path):
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("must be a JSON object")  # noqa: TRY004, TRY301
            record = parse(fields)
            if record.id in seen:
                raise ValueError(f"id {record.id!r} occurs twice")  # noqa: TRY301
        except ValueError as error:
            raise EvaluationDataError(f"{path}:{number}: {error}") from error
        seen.add(record.id)
        found.append(record)
    return found


def _passage(fields: dict[str, Any]) -> Passage:
    id_, text = _text(fields, "id"), _text(fields, "text", empty=True)
    modality = _text(fields, "modality") if "modality" in fields else "text"
    return Passage(
        id=id_,
        document=id_,
        text=text,
        span=Span(0, len(text)),
        sentences=_sentences(fields, text, modality),
        title=_text(fields, "title", empty=True) if "title" in fields else "",
        modality=modality,
        metadata=_metadata(fields.get("metadata", {})),
    )


def _metadata(facts: Any) -> dict[str, str | int | float | bool]:
    if not isinstance(facts, dict):
        raise ValueError(f"metadata must be an object, got {facts!r:.60}")  # noqa: TRY004
    wrong = [name for name, one in facts.items() if not isinstance(one, (str, int, float, bool))]
    if wrong:
        found = facts[wrong[0]]
        raise ValueError(f"metadata.{wrong[0]} must be text, a number or a flag, got {found!r:.60}")
    return facts


def _sentences(fields: dict[str, Any], text: str, modality: str) -> tuple[Span, ...]:
    """Return spans that partition the text, from the stripped pieces of it that a line names."""
    if not text:
        return ()
    if "sentences" not in fields:
        if modality != "table":
            return tuple(split_sentences(text))
        pieces = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        pieces = _texts(fields["sentences"], "sentences")
    starts = []
    end = 0
    for number, piece in enumerate(pieces):
        start = text.find(piece, end)
        if not piece or start < 0 or text[end:start].strip():
            raise ValueError(f"sentences[{number}] must follow in text, got {piece[:40]!r}")
        starts.append(start)
        end = start + len(piece)
    if text[end:].strip():
        raise ValueError(f"sentences must cover text, left out {text[end:].strip()[:40]!r}")
    borders = [0, *starts[1:], len(text)]
    return tuple(Span(*pair) for pair in pairwise(borders))


def _question(fields: dict[str, Any], relevant: Mapping[str, Mapping[str, int]]) -> Question:
    id_ = _text(fields, "id")
    return Question(
        id=id_,
        text=_text(fields, "question"),
        answers=tuple(_texts(fields.get("answers", []), "answers")),
        supporting=_supporting(fields.get("supporting", [])),
        relevant=relevant.get(id_, {}),
        unanswerable=bool(fields.get("unanswerable", False)),
    )


def _supporting(entries: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"supporting must be a list of objects, got {entries!r:.60}")
    found: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        document, rows = _text(entry, "doc_id"), entry.get("sentence_ids", [])
        if not isinstance(rows, list) or not all(type(row) is int and row >= 0 for row in rows):
            raise ValueError(f"sentence_ids must be a list of rows from 0, got {rows!r:.60}")
        found[document] = tuple(sorted({*found.get(document, ()), *rows}))
    return found


def _judgements(folder: Path) -> dict[str, dict[str, int]]:
    """Return the relevance of documents by question; none where there is no such file."""
    path = _find(folder, QRELS)
    found: dict[str, dict[str, int]] = {}
    for number, line in jsonl_lines(path) if path else ():
        columns = line.split()
        try:
            question, _, document, relevance = columns
            found.setdefault(question, {})[document] = int(relevance)
        except ValueError:
            wanted = "question id, 0, document id and a whole number"
            raise EvaluationDataError(f"{path}:{number}: must be {wanted}, got {line!r}") from None
    return found


def _text(fields: dict[str, Any], name: str, *, empty: bool = False) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not (empty or value.strip()):
        kind = "a string" if empty else "a string that is not empty"
        raise ValueError(f"{name} must be {kind}, got {value!r:.60}")
    return value


def _texts(values: Any, name: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} must be a list of strings, got {values!r:.60}")
    return values
