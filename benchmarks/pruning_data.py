"""Questions with the passages that scorers of sentences are measured on: made once, and kept."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.progress import Progress
from rag.files import write_atomically
from rag.records import Passage, Query, Span

if TYPE_CHECKING:
    import numpy as np

    from pipelines.open_index import OpenIndex
    from rag.evaluation.data import Question
    from rag.protocols import Encoder

SUFFIX = ".pruning.jsonl.gz"
VECTORS = "vectors"
SHOWN = 5
"""Passages of a question whose data set shows none with it."""
COUNTS = {"hotpotqa": 500, "2wiki": 500}
MOST, UNANSWERABLE, RERANKED, CANDIDATES = 1000, 300, 100, 20
HELD_OUT = "held-out"


@dataclass(frozen=True)
class Asked:
    """A question with passages.

    Attributes:
        id: unique in its data set.
        query: the question.
        answers: accepted ones; may be empty.
        gold: gold sentences by passage, as rows from 0; empty where nothing helps.
        passages: those to prune; none if it is there for its ranking alone.
        unanswerable: whether it is known to have no answer.
        candidates: passages to rank, the best by recipe `hybrid` first; may be empty.
        rankings: scores of the candidates by the index: `bm25` and `cosine`.
        relevant: relevance of judged documents.
    """

    id: str
    query: Query
    answers: tuple[str, ...]
    gold: Mapping[str, tuple[int, ...]]
    passages: tuple[Passage, ...]
    unanswerable: bool = False
    candidates: tuple[Passage, ...] = ()
    rankings: Mapping[str, tuple[float, ...]] | None = None
    relevant: Mapping[str, int] | None = None


def prepare(
    data: Path,
    out: Path,
    *,
    encoder: Encoder,
    progress: Progress,
    limit: int | None = None,
    leave_out: Sequence[Path] = (),
) -> Path:
    """Write the questions of a data folder with their passages, and the vectors of sentences.

    A folder of labelled passages gives its held-out tenth, the passages of a question together.

    Args:
        data: folder of evaluation data, or of labelled passages.
        out: folder to write to.
        encoder: of the index and the sentences.
        progress: watches.
        limit: questions of each kind, if not all.
        leave_out: folders whose passages the training left out; the same ones as there, as what is
            held out depends on them.
    """
    from pruners.training.labelled import TRAIN

    labelled = any((data / f"{TRAIN}{ending}").exists() for ending in ("", ".gz"))
    asked = (
        _held_out(data, limit, leave_out) if labelled else _asked(data, encoder, progress, limit)
    )
    name = HELD_OUT if labelled else data.name
    passages = {p.id: p for one in asked for p in (*one.passages, *one.candidates)}
    lines = [json.dumps(_of_passage(p), ensure_ascii=False) for p in passages.values()]
    lines += [json.dumps(_of_question(one), ensure_ascii=False) for one in asked]
    content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
    target = out / f"{name}{SUFFIX}"
    write_atomically(target, lambda file: file.write(content), mode=0o644)
    sentence_vectors(out, encoder, progress)(list(passages.values()))
    return target


def sentence_vectors(
    out: Path, encoder: Encoder, progress: Progress
) -> Callable[[Sequence[Passage]], Callable[[Passage], np.ndarray]]:
    """Return what gives the vectors of sentences, each text being encoded once for all runs.

    What it returns for some passages gives the vectors of any one of them, (sentences, dim).
    """
    from pipelines.text_vectors import TextVectors, VectorJournal
    from pruners import sentence_texts

    vectors = TextVectors(encoder, VectorJournal(out / VECTORS, encoder.fingerprint))

    def known(passages: Sequence[Passage]) -> Callable[[Passage], np.ndarray]:
        texts = [text for passage in passages for text in sentence_texts(passage)]
        if texts:
            vectors(texts, progress, "encoding sentences")

        def of(passage: Passage) -> np.ndarray:
            from pipelines.progress import Unwatched

            return vectors(sentence_texts(passage), Unwatched(), "")

        return of

    return known


def read_asked(path: Path) -> list[Asked]:
    """Return the questions that `prepare` wrote."""
    passages: dict[str, Passage] = {}
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for fields in map(json.loads, file):
            if "text" in fields:
                passages[fields["id"]] = _passage(fields)
                continue
            found.append(
                Asked(
                    fields["id"],
                    Query(fields["question"]),
                    tuple(fields["answers"]),
                    {id_: tuple(rows) for id_, rows in fields["gold"].items()},
                    tuple(passages[id_] for id_ in fields["passages"]),
                    fields["unanswerable"],
                    tuple(passages[id_] for id_ in fields["candidates"]),
                    {name: tuple(scores) for name, scores in fields["rankings"].items()},
                    fields["relevant"],
                )
            )
    return found


def prepared(folder: Path) -> dict[str, Path]:
    """Return the files that `prepare` wrote, by data set, the held-out one first.

    Raises:
        ValueError: if there is none.
    """
    names = [path.name.removesuffix(SUFFIX) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    names.sort(key=lambda name: name != HELD_OUT)
    found = {name: folder / f"{name}{SUFFIX}" for name in names}
    if not found:
        raise ValueError(f"{folder} holds no *{SUFFIX}; make them with `pruning.py prepare`")
    return found


def moved(one: Asked, place: str) -> tuple[tuple[Passage, ...], dict[str, int]] | None:
    """Return the passages of a question with each gold sentence that stands alone moved.

    A passage counts that has one gold sentence among at least three. Sentences are joined by a
    space; what refers to the one before it may lose its sense, at any place alike.

    Args:
        one: the question.
        place: `first`, `middle` or `last`.

    Returns:
        The passages, and the row of the gold sentence by passage; None if there is none to move.
    """
    rows: dict[str, int] = {}
    found = []
    for passage in one.passages:
        gold = one.gold.get(passage.document, ())
        count = len(passage.sentences)
        if len(gold) != 1 or count < 3:
            found.append(passage)
            continue
        to = {"first": 0, "middle": count // 2, "last": count - 1}[place]
        texts = [span.of(passage.text).strip() for span in passage.sentences]
        texts.insert(to, texts.pop(gold[0]))
        rows[passage.id] = to
        ends = []
        for row, text in enumerate(texts):
            ends.append((ends[-1] if ends else 0) + len(text) + (row < count - 1))
        fields = {"id": passage.id, "title": passage.title, "text": " ".join(texts), "ends": ends}
        found.append(_passage(fields))
    return (tuple(found), rows) if rows else None


def drawn(ids: Iterable[str], seed: int = 0) -> list[str]:
    """Return ids in the order in which `rag.evaluation.data.sample` draws them."""
    return sorted(ids, key=lambda id_: hashlib.sha256(f"{seed}:{id_}".encode()).digest())


def _asked(data: Path, encoder: Encoder, progress: Progress, limit: int | None) -> list[Asked]:
    from pipelines.evaluating.data_index import data_index
    from pipelines.open_index import OpenIndex
    from rag.evaluation.data import UNANSWERABLE as NO_ANSWER
    from rag.evaluation.data import read_questions, sample

    most = min(COUNTS.get(data.name, MOST), limit or MOST)
    questions = read_questions(data)
    labelled = [q for q in questions if any(q.supporting.values())]
    pruned = sample(labelled, most) if labelled else []
    extra: list[Question] = []
    if (data / NO_ANSWER).exists():
        known = {question.id for question in questions}
        others = [q for q in read_questions(data, unanswerable=True) if q.id not in known]
        extra = sample(others, min(UNANSWERABLE, limit or UNANSWERABLE))
    judged = [q for q in questions if max(q.relevant.values(), default=0) > 0]
    ranked = sample(judged, min(RERANKED, limit or RERANKED))
    index = OpenIndex(
        data_index(data, encoder=encoder, sentences=False, progress=progress), encoder=encoder
    )
    shown = _shown_with(data)
    found: dict[str, Asked] = {}
    rankings = _ranked(index, ranked)
    progress.stage(f"{data.name}: passages", len(pruned) + len(extra))
    for question in [*pruned, *extra]:
        ids = shown.get(question.id) or _nearest(index, question, _near(data).get(question.id))
        progress.advance()
        found[question.id] = Asked(
            question.id,
            Query(question.text),
            question.answers,
            {id_: question.supporting[id_] for id_ in ids if question.supporting.get(id_)},
            tuple(index.passages[id_] for id_ in ids),
            question in extra,
            **rankings.pop(question.id, {}),
        )
    for question in ranked:
        if question.id in rankings:
            found[question.id] = Asked(
                question.id, Query(question.text), (), {}, (), **rankings[question.id]
            )
    index.close()
    return list(found.values())


def _ranked(index: OpenIndex, questions: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """Return the candidates of each question, with the scores that the index gives them."""
    from pipelines.catalogue.retrieval import hybrid

    queries = [Query(question.text) for question in questions]
    if not queries:
        return {}
    found: Any = hybrid(index, top_k=CANDIDATES).batch(query=queries)
    vectors = index.encoder.encode_queries([query.text for query in queries])
    return {
        question.id: {
            "candidates": tuple(passages),
            "rankings": {
                "bm25": tuple(index.sparse.scores_of(query, ids).tolist()),
                "cosine": tuple(index.dense.scores_of(vector, ids).tolist()),
            },
            "relevant": dict(question.relevant),
        }
        for question, query, vector, passages in zip(
            questions, queries, vectors, found, strict=True
        )
        for ids in ([passage.id for passage in passages],)
    }


def _nearest(index: OpenIndex, question: Question, near: str | None) -> list[str]:
    """Return the gold passages, or the one that a question without any is near, and others."""
    from pipelines.catalogue.retrieval import hybrid

    first = [near] if near else sorted(question.gold_documents)
    ranking: Any = hybrid(index, top_k=SHOWN)(query=Query(question.text))
    ids = dict.fromkeys([*first, *(passage.id for passage in ranking)])
    # Gold passages are not told by their place: the order is that of the ids.
    return sorted(list(ids)[: max(SHOWN, len(first))])


@cache
def _near(data: Path) -> dict[str, str]:
    return {
        fields["id"]: fields["near_doc_id"]
        for fields in _fields(data, "unanswerable.jsonl")
        if "near_doc_id" in fields
    }


def _shown_with(data: Path) -> dict[str, list[str]]:
    """Return the passages that a data set shows with each question, where it does."""
    return {
        fields["id"]: list(dict.fromkeys(fields["context_ids"]))
        for fields in _fields(data, "queries.jsonl")
        if fields.get("context_ids")
    }


def _fields(data: Path, name: str) -> Iterator[dict[str, Any]]:
    for path, opened in ((data / name, open), (data / f"{name}.gz", gzip.open)):
        if path.exists():
            with opened(path, "rt", encoding="utf-8") as file:
                yield from map(json.loads, file)
            return


def _held_out(data: Path, limit: int | None, leave_out: Sequence[Path]) -> list[Asked]:
    from pruners.training.labelled import LabelledPassage, read_labelled
    from pruners.training.split import split_by_passage

    of_question: dict[str, list[LabelledPassage]] = {}
    for one in split_by_passage(read_labelled(data, leave_out=leave_out))[1]:
        of_question.setdefault(one.question, []).append(one)
    rows = {examples[0].id: examples for examples in of_question.values()}
    return [
        Asked(
            id_,
            Query(rows[id_][0].question),
            tuple(dict.fromkeys(answer for one in rows[id_] for answer in one.answers)),
            {one.id: tuple(sorted(one.gold)) for one in rows[id_] if one.gold},
            tuple(one.passage() for one in rows[id_]),
            not any(one.gold for one in rows[id_]),
        )
        for id_ in drawn(rows)[:limit]
    ]


def _of_passage(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.id,
        "title": passage.title,
        "text": passage.text,
        "ends": [span.end for span in passage.sentences],
    }


def _of_question(one: Asked) -> dict[str, Any]:
    return {
        "id": one.id,
        "question": one.query.text,
        "answers": one.answers,
        "gold": dict(one.gold),
        "passages": [passage.id for passage in one.passages],
        "unanswerable": one.unanswerable,
        "candidates": [passage.id for passage in one.candidates],
        "rankings": dict(one.rankings or {}),
        "relevant": dict(one.relevant or {}),
    }


def _passage(fields: Mapping[str, Any]) -> Passage:
    text = fields["text"]
    spans = tuple(Span(*pair) for pair in pairwise([0, *fields["ends"]]))
    return Passage(fields["id"], fields["id"], text, Span(0, len(text)), spans, fields["title"])
