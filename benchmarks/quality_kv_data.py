"""Decisions of pruners on the questions of the quality page, and larger contexts to time."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quality_data import GRAPH, SUFFIX, Asked, mix_pruner, read_asked, vectors_by
from quality_kv_settings import CAREFUL, FEATURES, MIX, ORACLE, PASSAGES, PROVENCE, QUESTIONS, SIZES

from rag.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from pruners import ThresholdPruner
    from rag.protocols import Encoder
    from rag.records import Passage

TIMING = "timing"
OF_AUTHORS = 0.1
"""Threshold of a model that does not say."""
TIMED = 12
"""Questions whose first token is timed."""
Decide = Callable[[Asked, int], Sequence[Sequence[int]]]


def prepare(
    questions: Path, data: Sequence[Path], out: Path, *, limit: int | None, provence: str
) -> None:
    """Write questions with what every pruner keeps of their passages.

    Args:
        questions: folder that `quality.py prepare` wrote.
        data: folders of evaluation data; of one whose questions need one passage larger contexts
            are retrieved too, to be timed.
        out: folder to write to.
        limit: questions of each data set, if not all.
        provence: name or folder of the model of that pruner; it is left out if it is not there.
    """
    from pipelines.cli.index import LateEncoder

    encoder = LateEncoder("minilm")
    deciders = _deciders(encoder, provence)
    by_set: dict[str, list[Asked]] = {}
    for asked in read_asked(questions):
        if not asked.calibrating and len(by_set.setdefault(asked.data, [])) < (limit or QUESTIONS):
            by_set[asked.data].append(asked)
    for name, of_set in by_set.items():
        lines = _lines(questions / f"{name}{SUFFIX}")
        _write(out, name, of_set, [lines[one.id] for one in of_set], deciders, (PASSAGES,))
    for folder in data:
        if folder.name not in GRAPH and folder.name in by_set:
            timed = by_set[folder.name][: min(TIMED, limit or TIMED)]
            larger = _larger(folder, timed, encoder)
            made = {name: of for name, of in deciders.items() if name in (FEATURES, PROVENCE)}
            lines_of = [line for _, line in larger]
            _write(out / TIMING, folder.name, [one for one, _ in larger], lines_of, made, SIZES)


def _write(
    out: Path,
    name: str,
    asked: Sequence[Asked],
    lines: Sequence[dict[str, Any]],
    deciders: dict[str, Decide],
    sizes: Sequence[int],
) -> None:
    told = []
    for one, line in zip(asked, lines, strict=True):
        decisions = {
            pruner: {size: decide(one, size) for size in sizes}
            for pruner, decide in deciders.items()
        }
        told.append(json.dumps({**line, "decisions": decisions}, ensure_ascii=False) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    content = gzip.compress("".join(told).encode(), mtime=0)
    target = out / f"{name}{SUFFIX}"
    write_atomically(target, lambda file: file.write(content), mode=0o644)
    print(target, len(told), "questions,", ", ".join(deciders), flush=True)


def _lines(path: Path) -> dict[str, dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {line["id"]: line for line in map(json.loads, file)}


def _larger(
    folder: Path, asked: Sequence[Asked], encoder: Encoder
) -> list[tuple[Asked, dict[str, Any]]]:
    """Return questions with as many passages as the largest context has."""
    from quality_data import _asked, _line

    from pipelines.catalogue.retrieval import hybrid
    from pipelines.evaluating.data_index import data_index
    from pipelines.open_index import OpenIndex
    from rag.evaluation.data import read_questions

    index = OpenIndex(data_index(folder, encoder=encoder, sentences=False, graph=False))
    known = {question.id: question for question in read_questions(folder)}
    queries = [one.query for one in asked]
    found = hybrid(index, top_k=max(SIZES)).batch(query=queries)
    index.close()
    lines = [
        _line(known[one.id], passages, calibrating=False)
        for one, passages in zip(asked, found, strict=True)
    ]
    return [(_asked(folder.name, line), line) for line in lines]


def _deciders(encoder: Encoder, provence: str) -> dict[str, Decide]:
    from pruners import ThresholdPruner
    from pruners.provence.load import load_provence
    from rag.errors import ModelNotFoundError

    vectors = vectors_by(encoder)
    made = {
        FEATURES: _by(feature_pruner(encoder, vectors)),
        CAREFUL: _by(feature_pruner(encoder, vectors, recall="0.98")),
    }
    try:
        tier_2 = load_provence(provence, encoder=encoder, sentence_vectors=vectors)
        threshold = getattr(tier_2, "threshold", None) or OF_AUTHORS
        made[PROVENCE] = _by(ThresholdPruner(tier_2, threshold=threshold, on_error="raise"))
    except (ModelNotFoundError, OSError) as error:
        print(f"without {PROVENCE}: {error}", flush=True)
    return {**made, MIX: _by(mix_pruner(encoder, vectors)), ORACLE: oracle}


def _by(pruner: ThresholdPruner) -> Decide:
    def decide(asked: Asked, count: int) -> list[tuple[int, ...]]:
        found = pruner(asked.query, asked.read(count, pruned=False))
        return [passage.kept_rows for passage in found]

    return decide


def oracle(asked: Asked, count: int) -> list[tuple[int, ...]]:
    """Return the gold sentences of each passage and one more, drawn by the question's id."""
    kept = []
    for passage in asked.passages[:count]:
        gold = set(asked.supporting.get(passage.document, ()))
        others = [row for row in range(len(passage.sentences)) if row not in gold]
        draw = random.Random(f"{asked.id}/{passage.id}")  # noqa: S311 - no secret
        kept.append(tuple(sorted(gold | set(draw.sample(others, min(1, len(others)))))))
    return kept


def feature_pruner(
    encoder: Encoder, sentence_vectors: Callable[[Passage], np.ndarray], recall: str = "0.95"
) -> ThresholdPruner:
    """Return the default pruner at the threshold for a share of the gold sentences."""
    from pruners import ThresholdPruner
    from pruners.features.head import FeatureHead
    from pruners.features.scorer import FeatureScorer

    head = FeatureHead.load()
    scorer = FeatureScorer(encoder, head, sentence_vectors)
    return ThresholdPruner(scorer, threshold=head.thresholds[recall], on_error="raise")
