"""Questions with their passages, as the quality page reads them: made once, without the model."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.files import write_atomically
from rag.records import Edge, Passage, Query, Selection, SentenceScore, Span, text_sha

if TYPE_CHECKING:
    import numpy as np

    from pipelines.open_index import OpenIndex
    from pruners import ThresholdPruner
    from rag.evaluation.data import Question
    from rag.protocols import Encoder

SUFFIX = ".questions.jsonl.gz"
REPORTED, CALIBRATING, TOP, PRUNED = 200, 60, 10, 5
MIX_THRESHOLD = 0.4
"""Of the operator `prune.sentences`."""
Kept = tuple[tuple[int, ...], ...]
"""Rows of the sentences that stay, of each passage."""
GRAPH = frozenset({"hotpotqa", "2wiki", "musique"})
"""Sets whose questions need several passages: there the corpus graph finds more of them."""


@dataclass(frozen=True)
class Asked:
    """A question with what retrieval found.

    Attributes:
        data: name of its data set.
        id: unique there.
        query: the question.
        answers: accepted ones, at least one.
        gold: documents with evidence.
        passages: best first, with the pruner's decision on the first `PRUNED`, made among them.
        calibrating: whether it is one of those that weights are chosen on.
        supporting: rows of the gold sentences, by document.
        decisions: what other pruners keep, by their name and how many passages they were given.
    """

    data: str
    id: str
    query: Query
    answers: tuple[str, ...]
    gold: frozenset[str]
    passages: tuple[Passage, ...]
    calibrating: bool
    supporting: Mapping[str, Sequence[int]] = field(default_factory=dict)
    decisions: Mapping[str, Mapping[int, Kept]] = field(default_factory=dict)

    def read(self, count: int, *, pruned: bool, pruner: str = "") -> list[Passage]:
        """Return the best passages, whole or with what a pruner keeps of them."""
        best: Sequence[Passage] = self.passages[:count]
        if pruner:
            kept = self.decisions[pruner][count]
            best = [
                replace(one, kept=_kept(one, rows)) for one, rows in zip(best, kept, strict=True)
            ]
        if pruned or pruner:
            return [passage for passage in best if passage.kept_rows]
        return [replace(passage, kept=None) for passage in best]

    def gold_ranks(self, count: int) -> tuple[int, ...]:
        """Return the ranks of gold passages among the best, from 1."""
        best = enumerate(self.passages[:count], 1)
        return tuple(rank for rank, passage in best if passage.document in self.gold)


def prepare(data: Path, out: Path, *, limit: int | None = None, seed: int = 0) -> Path:
    """Retrieve for a seeded sample of questions and write them as JSON lines.

    The sample is that of `rag.evaluation.data.sample`, in the order in which it is drawn, so that
    the first n lines are the sample of size n. The questions to calibrate on come last.

    Args:
        data: folder of evaluation data; its index is made if it is missing.
        out: folder to write to.
        limit: questions to report and to calibrate on, if not all.
        seed: of the sample.
    """
    from pipelines.cli.index import LateEncoder
    from pipelines.evaluating.data_index import data_index
    from pipelines.open_index import OpenIndex
    from rag.evaluation.data import read_questions

    questions = [q for q in read_questions(data) if q.answers and q.gold_documents]
    drawn = sorted(questions, key=lambda q: hashlib.sha256(f"{seed}:{q.id}".encode()).digest())
    reported = drawn[: min(REPORTED, limit or REPORTED)]
    calibrating = drawn[REPORTED:][: min(CALIBRATING, limit or CALIBRATING)]
    graph = data.name in GRAPH
    path = data_index(data, encoder=LateEncoder("minilm"), sentences=False, graph=graph)
    index = OpenIndex(path)
    asked = [*reported, *calibrating]
    found = _retrieved(index, asked, graph=graph)
    lines = [
        json.dumps(_line(question, passages, row >= len(reported)), ensure_ascii=False)
        for row, (question, passages) in enumerate(zip(asked, found, strict=True))
    ]
    content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
    target = out / f"{data.name}{SUFFIX}"
    write_atomically(target, lambda file: file.write(content), mode=0o644)
    index.close()
    return target


def _retrieved(
    index: OpenIndex, questions: Sequence[Question], *, graph: bool
) -> list[list[Passage]]:
    """Return the passages of each question, the first ones with the pruner's decision."""
    from pipelines.catalogue.graph import compress, expand
    from pipelines.catalogue.retrieval import hybrid

    queries = [Query(question.text) for question in questions]
    found: Any = hybrid(index, top_k=100 if graph else TOP).batch(query=queries)
    if graph:
        found = expand(index, top_k=100).batch(query=queries, passages=found)
        found = compress(index, top_k=TOP).batch(query=queries, passages=found)
    pruner = mix_pruner(index.encoder, vectors_by(index.encoder))
    return [
        [*pruner(query, passages[:PRUNED]), *passages[PRUNED:]]
        for query, passages in zip(queries, found, strict=True)
    ]


def vectors_by(encoder: Encoder) -> Callable[[Passage], np.ndarray]:
    """Return what makes the vectors of a passage's sentences, each once."""
    from pruners import sentence_texts

    vectors = cache(encoder.encode)
    return lambda passage: vectors(tuple(sentence_texts(passage)))


def mix_pruner(
    encoder: Encoder, sentence_vectors: Callable[[Passage], np.ndarray]
) -> ThresholdPruner:
    """Return what the operator `prune.sentences` makes."""
    from pruners import ThresholdPruner
    from pruners.sentences import SentenceMix

    scorer = SentenceMix(encoder, sentence_vectors=sentence_vectors)
    return ThresholdPruner(scorer, threshold=MIX_THRESHOLD, on_error="raise")


def _line(question: Question, passages: Sequence[Passage], calibrating: bool) -> dict[str, Any]:
    rows = {passage.id: row for row, passage in enumerate(passages)}
    edges = [
        [row, rows[edge.target], edge.kind, round(edge.weight, 4)]
        for row, passage in enumerate(passages)
        for edge in passage.edges
        if edge.target in rows
    ]
    return {
        "id": question.id,
        "question": question.text,
        "answers": question.answers,
        "gold": dict(sorted(question.supporting.items())),
        "documents": sorted(question.gold_documents),
        "passages": [
            {
                "id": passage.id,
                "title": passage.title,
                "text": passage.text,
                "ends": [span.end for span in passage.sentences],
                "score": round(passage.score or 0.0, 5),
                **({} if passage.kept is None else {"kept": passage.kept.kept_rows}),
            }
            for passage in passages
        ],
        "edges": edges,
        "calibrating": calibrating,
    }


@cache
def read_asked(folder: Path) -> list[Asked]:
    """Return the questions of all data sets in a folder, in the order of each file.

    Raises:
        ValueError: if there is none.
    """
    found: list[Asked] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            name = path.name.removesuffix(SUFFIX)
            found += [_asked(name, json.loads(line)) for line in file]
    if not found:
        raise ValueError(f"{folder} holds no *{SUFFIX}; make them with `quality.py prepare`")
    return found


def _asked(data: str, line: Mapping[str, Any]) -> Asked:
    ids = [fields["id"] for fields in line["passages"]]
    decisions = {
        name: {int(count): tuple(map(tuple, kept)) for count, kept in of.items()}
        for name, of in line.get("decisions", {}).items()
    }
    return Asked(
        data,
        line["id"],
        Query(line["question"]),
        tuple(line["answers"]),
        frozenset(line["documents"]),
        tuple(
            _passage(fields, [edge for edge in _edges(line, ids) if edge.source == fields["id"]])
            for fields in line["passages"]
        ),
        line["calibrating"],
        line["gold"],
        decisions,
    )


def _edges(line: Mapping[str, Any], ids: Sequence[str]) -> Iterator[Edge]:
    for source, target, kind, weight in line["edges"]:
        yield Edge(ids[source], ids[target], kind, weight)


def _passage(fields: Mapping[str, Any], edges: Sequence[Edge]) -> Passage:
    text = fields["text"]
    spans = tuple(Span(*pair) for pair in pairwise([0, *fields["ends"]]))
    passage = Passage(
        fields["id"],
        fields["id"],
        text,
        Span(0, len(text)),
        spans,
        fields["title"],
        score=fields["score"],
        edges=tuple(edges),
    )
    return replace(passage, kept=_kept(passage, fields["kept"])) if "kept" in fields else passage


def _kept(passage: Passage, rows: Sequence[int]) -> Selection:
    stay = set(rows)
    scores = tuple(
        SentenceScore(span, float(row in stay), row in stay)
        for row, span in enumerate(passage.sentences)
    )
    return Selection(passage.id, text_sha(passage.text), scores, "sentences")
