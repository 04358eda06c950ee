"""Data of the benchmark of routed retrieval: one folder a corpus, and questions with their corpus.

Paragraphs are those of SQuAD and the passages that OTT-QA's tables link to, tables those of OTT-QA.
A document is what one HotpotQA question needs in one piece: its supporting paragraphs and those
that stand beside them where the data set shows them, joined.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.evaluation.data import Question, jsonl_lines, read_questions
from rag.files import write_atomically

CORPORA = ("paragraph", "document", "table")
"""Labels of the corpora, each a folder in the layout of the evaluation data."""
WHOLE = "together"
"""The folder that holds what all corpora do."""
PER_CORPUS, TUNING = 200, 100
_SETS = {"paragraph": "squad", "document": "hotpotqa", "table": "ottqa_tables"}
ASKED, TUNED = "questions.jsonl", "tuning.jsonl"
"""Questions that are asked, and others that weights are fitted on."""


@dataclass(frozen=True)
class Asked:
    """A question, the corpus that answers it, and what it must find there.

    Attributes:
        id: of the question.
        text: the question.
        label: of its corpus.
        gold: ids of documents, any of which is what is looked for.
    """

    id: str
    text: str
    label: str
    gold: frozenset[str]


def prepare(data: Path, out: Path, *, seed: int = 0) -> None:
    """Write the corpora and the questions.

    Args:
        data: folder of the evaluation data sets.
        out: folder to write.
        seed: of the questions drawn.
    """
    ottqa = list(_lines(data / "ottqa_tables"))
    documents, gold_of = _joined(data / "hotpotqa")
    linked = [line for line in ottqa if line.get("modality") != "table"]
    lines: dict[str, list[dict[str, Any]]] = {
        "paragraph": [*_lines(data / "squad"), *linked],
        "document": documents,
        "table": [line for line in ottqa if line.get("modality") == "table"],
    }
    for label, of in lines.items():
        _write(out / label / "corpus.jsonl", of)
    _write(out / WHOLE / "corpus.jsonl", [line for of in lines.values() for line in of])
    rng = random.Random(seed)  # noqa: S311 (a sample, no secret)
    known = _routed(data / "routing")
    drawn = {
        label: _drawn(label, read_questions(data / name), gold_of, known, rng)
        for label, name in _SETS.items()
    }
    for name, start, end in ((ASKED, 0, PER_CORPUS), (TUNED, PER_CORPUS, PER_CORPUS + TUNING)):
        some = [one for of in drawn.values() for one in of[start:end]]
        _write(
            out / name,
            [{"id": q.id, "text": q.text, "label": q.label, "gold": sorted(q.gold)} for q in some],
        )


def read_asked(folder: Path, name: str = ASKED) -> list[Asked]:
    """Return questions that `prepare` wrote."""
    records = [json.loads(line) for _, line in jsonl_lines(folder / name)]
    return [Asked(r["id"], r["text"], r["label"], frozenset(r["gold"])) for r in records]


def folded(text: str) -> str:
    """Return a question as it is compared with others: case and white space do not count."""
    return " ".join(text.casefold().split())


def _drawn(
    label: str,
    questions: Sequence[Question],
    documents: Mapping[str, frozenset[str]],
    known: frozenset[str],
    rng: random.Random,
) -> list[Asked]:
    """Return the questions of one corpus; those that routers usually learn from come last."""
    found = []
    for one in questions:
        gold = {
            "paragraph": one.gold_documents,
            "document": documents.get(one.id, frozenset()),
            "table": frozenset(id_ for id_ in one.gold_documents if id_.startswith("tab-")),
        }[label]
        if gold and not one.unanswerable:
            found.append(Asked(one.id, one.text, label, gold))
    rng.shuffle(found)
    found.sort(key=lambda one: folded(one.text) in known)
    return found


def _routed(data: Path) -> frozenset[str]:
    path = next(data.glob("queries.jsonl*"))
    return frozenset(folded(json.loads(line)["question"]) for _, line in jsonl_lines(path))


def _joined(data: Path) -> tuple[list[dict[str, Any]], dict[str, frozenset[str]]]:
    """Return one document for each question, and by question those that hold all its evidence."""
    paragraphs = {line["id"]: line for line in _lines(data)}
    path = next(data.glob("queries.jsonl*"))
    documents: dict[tuple[str, ...], str] = {}
    needs: dict[str, frozenset[str]] = {}
    for _, line in jsonl_lines(path):
        record = json.loads(line)
        gold = {one["doc_id"] for one in record["supporting"]}
        shown: list[str] = record["context_ids"]
        near = {
            place
            for row, id_ in enumerate(shown)
            if id_ in gold
            for place in (row - 1, row, row + 1)
            if 0 <= place < len(shown)
        }
        parts = tuple(shown[row] for row in sorted(near))
        documents.setdefault(parts, f"doc-{record['id']}")
        needs[record["id"]] = frozenset(gold)
    lines = [_document(id_, [paragraphs[p] for p in parts]) for parts, id_ in documents.items()]
    holders = {
        question: frozenset(id_ for parts, id_ in documents.items() if gold <= set(parts))
        for question, gold in needs.items()
    }
    return lines, holders


def _document(id_: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return paragraphs as one document, each below its title."""
    sentences = [one for part in parts for one in (f"{part['title']}.", *part["sentences"])]
    text = "\n\n".join(f"{part['title']}.\n{part['text']}" for part in parts)
    title = ", ".join(part["title"] for part in parts)
    return {"id": id_, "title": title, "text": text, "sentences": sentences}


def _lines(data: Path) -> Iterable[dict[str, Any]]:
    for _, line in jsonl_lines(next(data.glob("corpus.jsonl*"))):
        yield json.loads(line)


def _write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content), mode=0o644)
