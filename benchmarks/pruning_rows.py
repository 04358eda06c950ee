"""Rows of the pruning page: every scorer's scores of every question, kept as they are made."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning_data import Asked, moved, prepared, read_asked, sentence_vectors
from pruning_scorers import SCORERS, Sources, identity, made

from pipelines.progress import Progress
from rag.evaluation.judged_sentences import scores_of_scorer
from rag.models.remembering import Remembering
from rag.protocols import Encoder, SentenceScorer
from rag.records import Passage, Query

PLACES = ("first", "middle", "last")
PROBED, TIMED = 100, 30
BATCH = 8
TIMING = "timing.jsonl"
Row = dict[str, Any]


class RowsError(ValueError):
    """Rows of other questions or of another scorer."""


@dataclass(frozen=True)
class Work:
    """Passages to score for a question.

    Attributes:
        part: `sentences`, `ranking`, or the place of moved gold sentences.
        id: of the question.
        query: the question.
        passages: to score.
        gold: rows of moved sentences by passage.
    """

    part: str
    id: str
    query: Query
    passages: tuple[Passage, ...]
    gold: dict[str, int]


def works(asked: Sequence[Asked], *, ranking: bool) -> Iterator[Work]:
    """Yield all that a scorer is asked about a data set."""
    for one in asked:
        if one.passages:
            yield Work("sentences", one.id, one.query, one.passages, {})
    probed = 0
    for one in asked:
        places = [(place, moved(one, place)) for place in PLACES] if probed < PROBED else []
        for place, found in places:
            if found is not None:
                yield Work(place, one.id, one.query, *found)
        probed += bool(places and places[0][1])
    for one in asked if ranking else ():
        if one.candidates:
            yield Work("ranking", one.id, one.query, one.candidates, {})


def score(
    folder: Path,
    out: Path,
    *,
    encoder: Encoder,
    progress: Progress,
    names: Sequence[str] = tuple(SCORERS),
    data: Sequence[str] = (),
    provence: str = "minilm",
) -> None:
    """Write every scorer's rows of every data set; rows that are there are not made again.

    Args:
        folder: that `prepare` wrote.
        out: folder of the rows.
        encoder: the one that `prepare` used.
        progress: watches.
        names: of scorers.
        data: data sets; all if none is named.
        provence: name or folder of that scorer's model.
    """
    known = sentence_vectors(folder, encoder, progress)
    for set_, path in prepared(folder).items():
        if data and set_ not in data:
            continue
        asked = read_asked(path)
        passages = [p for one in asked for p in (*one.passages, *one.candidates)]
        sources = Sources(Remembering(encoder), known(passages), provence)
        for name in names:
            scorer = made(name, sources)
            if isinstance(scorer, str):
                print(f"{set_}: no {name}: {scorer}", flush=True)
                continue
            _score_one(scorer, name, set_, asked, path, out, progress)


def _score_one(
    scorer: SentenceScorer,
    name: str,
    data: str,
    asked: Sequence[Asked],
    path: Path,
    out: Path,
    progress: Progress,
) -> None:
    depends = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    target = out / f"{data}-{name.replace(' ', '-')}.jsonl"
    about = {"data": data, "scorer": name, "questions": depends, "of": identity(name, scorer)}
    rows = _resumed(target, about)
    done = {(row["part"], row["id"]) for row in rows}
    ranks = _ranks(scorer, asked)
    pending = [w for w in works(asked, ranking=ranks) if (w.part, w.id) not in done]
    progress.stage(f"{data}: {name}", len(pending))
    with target.open("a", encoding="utf-8") as file:
        for start in range(0, len(pending), BATCH):
            batch = pending[start : start + BATCH]
            for row in _rows(scorer, batch):
                file.write(json.dumps(row) + "\n")
            file.flush()
            progress.advance(len(batch))


def _ranks(scorer: SentenceScorer, asked: Sequence[Asked]) -> bool:
    """Return whether a scorer gives passages scores of their own."""
    for one in asked:
        if shown := (one.passages or one.candidates)[:1]:
            return scorer(one.query, shown)[0].rerank_score is not None
    return False


def _rows(scorer: SentenceScorer, batch: Sequence[Work]) -> Iterator[Row]:
    queries, passages = [work.query for work in batch], [work.passages for work in batch]
    of_batch = getattr(scorer, "score_batch", None)
    found = (
        of_batch(queries, passages)
        if of_batch is not None
        else [scorer(query, of) for query, of in zip(queries, passages, strict=True)]
    )
    for work, scores in zip(batch, found, strict=True):
        row: Row = {"part": work.part, "id": work.id}
        if work.part == "ranking":
            row["ranks"] = [_short(one.rerank_score) for one in scores]
        else:
            of_sentences = [
                scores_of_scorer(passage, one)
                for passage, one in zip(work.passages, scores, strict=True)
            ]
            if work.gold:
                row["gold"] = [
                    _short(of_passage[work.gold[passage.id]])
                    for passage, of_passage in zip(work.passages, of_sentences, strict=True)
                    if passage.id in work.gold
                ]
            else:
                row["scores"] = [[_short(score) for score in of] for of in of_sentences]
        yield row


def _short(score: float | None) -> float | None:
    """Return a score to nine digits, which tell all float32 numbers apart."""
    return None if score is None else float(f"{score:.9g}")


def _resumed(target: Path, about: Row) -> list[Row]:
    """Return the rows that are there; a last line that was cut off is dropped.

    Raises:
        RowsError: if they are of other questions or of another scorer.
    """
    if not target.exists():
        target.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return []
    content = target.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(target, whole)
    lines = [json.loads(line) for line in content[:whole].splitlines()]
    if not lines or lines[0] != about:
        raise RowsError(
            f"{target} holds rows of other questions or another scorer; delete it, or name "
            "another folder"
        )
    return lines[1:]


def read_rows(out: Path) -> dict[tuple[str, str], list[Row]]:
    """Return the rows by data set and scorer, in the order of the table of scorers."""
    found: dict[tuple[str, str], list[Row]] = {}
    for path in sorted(out.glob("*.jsonl")):
        if path.name == TIMING:
            continue
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[lines[0]["data"], lines[0]["scorer"]] = lines[1:]
    order = {name: place for place, name in enumerate(SCORERS)}
    return dict(sorted(found.items(), key=lambda item: (item[0][0], order.get(item[0][1], 99))))


def timing(
    folder: Path,
    out: Path,
    *,
    encoder: Encoder,
    progress: Progress,
    about: dict[str, str],
    names: Sequence[str] = tuple(SCORERS),
    data: Sequence[str] = (),
    provence: str = "minilm",
    limit: int = TIMED,
) -> None:
    """Write how long scorers take for a question's passages, question by question, side by side.

    The vectors of sentences are looked up, those of queries are made each time.
    """
    known = sentence_vectors(folder, encoder, progress)
    rows = []
    for set_, path in prepared(folder).items():
        if data and set_ not in data:
            continue
        asked = [one for one in read_asked(path) if one.passages][:limit]
        if not asked:
            continue
        sources = Sources(encoder, known([p for one in asked for p in one.passages]), provence)
        scorers = {
            name: scorer for name in names if not isinstance(scorer := made(name, sources), str)
        }
        for scorer in scorers.values():
            scorer(asked[0].query, asked[0].passages)
        taken: dict[str, list[float]] = {name: [] for name in scorers}
        progress.stage(f"{set_}: times", len(asked))
        for one in asked:
            for name, scorer in scorers.items():
                began = time.perf_counter()
                scorer(one.query, one.passages)
                spent = 1e3 * (time.perf_counter() - began)
                taken[name].append(round(spent / len(one.passages), 4))
            progress.advance()
        rows += [{"data": set_, "scorer": name, "ms": ms, **about} for name, ms in taken.items()]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (out / TIMING).write_text(text, encoding="utf-8")
