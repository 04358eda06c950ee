"""Examples to learn reading from: questions with the passages that are read, and the answers.

A file holds one JSON object a line: `{"id", "data", "question", "passages": […], "answers": […],
"unanswerable", "gold": {document: [rows]}}`. A passage is `{"id", "document", "title", "text",
"ends": […], "start", "score", "kept": {"rows", "scores", "method", "threshold"}, "edges": […]}`:
`ends` are where its sentences end, `start` is where it begins in its document, `kept` is missing
where nobody pruned, and an edge is `[target, kind, weight]`. What is empty or 0 is left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rag.errors import DovetailError
from rag.evaluation.data import unique_lines
from rag.files import write_atomically
from rag.record_json import from_json
from rag.records import Edge, Passage, Query, Selection, SentenceScore, Span, text_sha

_DECIMALS = 4


class ExampleError(DovetailError):
    """A file of examples, or a line in it, that is not in the layout; the message says where."""


@dataclass(frozen=True, slots=True)
class ReadingExample:
    """A question with the passages that are read for it, and what the answer should be.

    Attributes:
        id: unique in its data set.
        data: name of the data set.
        query: the question.
        passages: best first, at least one; `kept` is the pruner's decision, None is the whole
            passage. One of which nothing is kept stays here: the generator drops it.
        answers: accepted ones; the first is learned. Empty for an unanswerable question, and where
            nobody wrote an answer.
        unanswerable: whether the passages hold no answer, so that a refusal is learned.
        gold: rows of the gold sentences by document, for figures; may be empty. Of an unanswerable
            question it is the document that comes nearest, without rows.

    Raises:
        ValueError: without a passage, for passages that share an id, for an empty answer, or for
            answers of an unanswerable question.
    """

    id: str
    data: str
    query: Query
    passages: tuple[Passage, ...]
    answers: tuple[str, ...] = ()
    unanswerable: bool = False
    gold: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.passages:
            raise ValueError("passages must be at least one, got none")
        ids = [passage.id for passage in self.passages]
        if len(set(ids)) < len(ids):
            raise ValueError(f"passages must have different ids, got {ids}")
        if not all(answer.strip() for answer in self.answers):
            raise ValueError(f"answers must not be empty, got {list(self.answers)!r:.60}")
        if self.unanswerable and self.answers:
            raise ValueError(
                f"answers of an unanswerable question must be none, got {list(self.answers)!r:.60}"
            )

    @property
    def target(self) -> str | None:
        """The answer to learn: the first one, or a refusal; None is whatever a teacher answers."""
        if self.unanswerable:
            from rag.generation.refusal import REFUSAL

            return REFUSAL
        return self.answers[0] if self.answers else None

    @property
    def gold_passages(self) -> tuple[Passage, ...]:
        """Passages of documents in `gold`, best first."""
        return tuple(passage for passage in self.passages if passage.document in self.gold)


def read_examples(path: Path) -> list[ReadingExample]:
    """Return the examples of a `.jsonl` or `.jsonl.gz` file, in its order.

    Raises:
        ExampleError: if it cannot be read, a line is not in the layout, or an id occurs twice in a
            data set.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")) or not path.is_file():
        raise ExampleError(f"{path} must be a .jsonl or .jsonl.gz file of examples")
    return unique_lines(
        path,
        lambda line: _example(json.loads(line)),
        lambda one: f"{one.id!r} of {one.data!r}",
        ExampleError,
    )


def write_examples(path: Path, examples: Iterable[ReadingExample]) -> None:
    """Write examples, compressed if the name ends with `.gz`; equal examples give equal bytes.

    All that reading and figures need comes back from `read_examples`, scores of sentences rounded
    to four decimals. Page, links, metadata and neighbours of a passage are not kept.

    Args:
        path: a `.jsonl` or `.jsonl.gz` file; it is replaced as a whole or left as it was.
        examples: any number.

    Raises:
        ValueError: for another name, a pruner's decision on words, or spans that do not partition
            the text.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"path must end with .jsonl or .jsonl.gz, got {path.name!r}")
    lines = (json.dumps(_line(example), ensure_ascii=False) for example in examples)
    content = "".join(f"{line}\n" for line in lines).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    write_atomically(path, lambda file: file.write(content), mode=0o644)


def _line(example: ReadingExample) -> dict[str, Any]:
    fields = {
        "id": example.id,
        "data": example.data,
        "question": example.query.text,
        "passages": [_written(passage) for passage in example.passages],
        "answers": list(example.answers),
        "unanswerable": example.unanswerable,
        "gold": {document: list(example.gold[document]) for document in sorted(example.gold)},
    }
    return {name: value for name, value in fields.items() if value}


def _written(passage: Passage) -> dict[str, Any]:
    ends = [span.end for span in passage.sentences]
    if passage.sentences != _spans(ends) or (ends or [0])[-1] != len(passage.text):
        raise ValueError(f"sentences of passage {passage.id!r} must partition its text")
    fields = {
        "id": passage.id,
        "document": passage.document,
        "title": passage.title,
        "text": passage.text,
        "ends": ends,
        "start": passage.span.start,
        "edges": [[e.target, e.kind, e.weight] for e in passage.edges if e.source == passage.id],
    }
    written = {name: value for name, value in fields.items() if value or name == "text"}
    if passage.score is not None:
        written["score"] = passage.score
    if passage.kept is not None:
        written["kept"] = _decision(passage, passage.kept)
    return written


def _decision(passage: Passage, kept: Selection) -> dict[str, Any]:
    if tuple(one.span for one in kept.sentences) != passage.sentences:
        raise ValueError(f"kept of passage {passage.id!r} must decide on its sentences, not words")
    return {
        "rows": list(kept.kept_rows),
        "scores": [round(one.score, _DECIMALS) for one in kept.sentences],
        "method": kept.method,
        "threshold": kept.threshold,
    }


def _example(fields: Any) -> ReadingExample:
    if not isinstance(fields, dict):
        raise ValueError(f"a line must be a JSON object, got {fields!r:.60}")  # noqa: TRY004
    passages = from_json(list[dict[str, Any]], fields.get("passages"), where="passages")
    return ReadingExample(
        id=from_json(str, fields.get("id"), where="id"),
        data=from_json(str, fields.get("data"), where="data"),
        query=Query(from_json(str, fields.get("question"), where="question")),
        passages=tuple(_passage(one, f"passages[{row}]") for row, one in enumerate(passages)),
        answers=from_json(tuple[str, ...], fields.get("answers", []), where="answers"),
        unanswerable=from_json(bool, fields.get("unanswerable", False), where="unanswerable"),
        gold=from_json(dict[str, tuple[int, ...]], fields.get("gold", {}), where="gold"),
    )


def _passage(fields: Mapping[str, Any], where: str) -> Passage:
    def value(kind: Any, name: str, default: Any = None) -> Any:
        return from_json(kind, fields.get(name, default), where=f"{where}.{name}")

    id_, text, start = value(str, "id"), value(str, "text"), value(int, "start", 0)
    ends = value(list[int], "ends", [])
    if sorted(ends) != ends or (ends or [0])[-1] != len(text):
        raise ValueError(f"{where}.ends must rise to the {len(text)} code points, got {ends}")
    spans = _spans(ends)
    passage = Passage(
        id=id_,
        document=value(str, "document", id_),
        text=text,
        span=Span(start, start + len(text)),
        sentences=spans,
        title=value(str, "title", ""),
        score=value(float | None, "score"),
        edges=tuple(Edge(id_, *edge) for edge in value(list[tuple[str, str, float]], "edges", [])),
    )
    if "kept" not in fields:
        return passage
    return replace(passage, kept=_selection(passage, value(dict[str, Any], "kept"), where))


def _selection(passage: Passage, fields: Mapping[str, Any], where: str) -> Selection:
    rows = from_json(list[int], fields.get("rows"), where=f"{where}.kept.rows")
    scores = from_json(list[float], fields.get("scores"), where=f"{where}.kept.scores")
    count = len(passage.sentences)
    if len(scores) != count or not all(0 <= row < count for row in rows):
        raise ValueError(
            f"{where}.kept must hold {count} scores and rows of as many sentences, got "
            f"{len(scores)} scores and rows {rows}"
        )
    return Selection(
        passage_id=passage.id,
        text_sha=text_sha(passage.text),
        sentences=tuple(
            SentenceScore(span, score, row in rows)
            for row, (span, score) in enumerate(zip(passage.sentences, scores, strict=True))
        ),
        method=from_json(str, fields.get("method"), where=f"{where}.kept.method"),
        threshold=from_json(float | None, fields.get("threshold"), where=f"{where}.kept.threshold"),
    )


def _spans(ends: Sequence[int]) -> tuple[Span, ...]:
    return tuple(Span(*pair) for pair in pairwise([0, *ends]))
