"""Examples of the shipped adapter: questions to judge it, to choose its weights, and to learn."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipelines.adapting.held_out import held_out
from pipelines.adapting.prepare import prepare
from rag.adaptation.examples import ReadingExample, write_examples
from rag.files import write_atomically
from rag.generation.context_plan import keeps
from rag.training.watching import Watcher

SUFFIX: Final = ".jsonl.gz"
SHOWN: Final[Mapping[str, Any]] = {"shown": True, "passages": 10}
"""Sets with several hops come with the paragraphs of a question, MuSiQue with more than ten."""
MOST: Final[Mapping[str, int]] = {"newwiki": 6000}
"""Examples to learn of a data set that would outweigh the others; of those all are learned."""
ROBBED: Final[Mapping[str, int]] = {"newwiki": 1200, "nq": 300}
"""How many answerable examples of a data set are also learned without what answers them."""
SEED: Final = 8


def prepare_all(data: Path, out: Path, watcher: Watcher) -> dict[str, int]:
    """Write `test`, `dev` and `train`; return how many examples each has.

    Their licences stand in `meta.json`. No article, gold passage or question stands in two of them.
    In `test` and `dev` a question of SQuAD has its gold passage among the five that search brings,
    as it brings them.

    Args:
        data: folder of the sets `squad`, `hotpotqa`, `2wiki`, `musique`, `nq` and `pruner_train`.
        out: exists.
        watcher: sees the stages.
    """
    make = partial(prepare, watcher=watcher)
    test_ids, articles = held_out(data / "squad", 500, unanswerable=120)
    dev_ids, _ = held_out(
        data / "squad", 300, unanswerable=70, seed=1, share=1 / 8, apart_from=articles
    )
    test_hops, hop_articles = held_out(data / "hotpotqa", 200)
    dev_hops, _ = held_out(data / "hotpotqa", 80, seed=1, apart_from=hop_articles)
    left_out: list[Path] = []
    licences: set[str] = set()
    counts = {}
    for name, ids, hops, sizes in (
        ("test", test_ids, test_hops, (200, 100, 200)),
        ("dev", dev_ids, dev_hops, (100, 40, 60)),
    ):
        found = make([data / "squad"], only=set(ids), gold_always=False, leave_out=left_out)
        single = _first(found.examples, ids, sizes[:2])
        found = make([data / "hotpotqa"], only=set(hops), leave_out=left_out, **SHOWN)
        chosen = [*single, *_first(found.examples, hops, (sizes[2], 0))]
        counts[name] = _write(out, name, chosen)
        left_out.append(out / f"{name}{SUFFIX}")
    learned: list[ReadingExample] = []
    for names, options in (
        (("hotpotqa", "2wiki", "musique"), {**SHOWN, "search": "bm25"}),
        (("squad", "nq"), {"refusals": 0.45}),
        (("pruner_train",), {}),
    ):
        found = make([data / name for name in names], leave_out=left_out, **options)
        licences |= set(found.licences)
        asked = {one.query.text.lower() for one in learned}
        learned += [one for one in found.examples if one.query.text.lower() not in asked]
    taken = sample(learned)
    counts["train"] = _write(out, "train", shuffled([*taken, *robbed(taken)]))
    about = json.dumps({"licence": "; ".join(sorted(licences))}, indent=1).encode()
    write_atomically(out / "meta.json", lambda file: file.write(about), mode=0o644)
    return counts


def sample(examples: Sequence[ReadingExample]) -> list[ReadingExample]:
    """Return the examples that show what they ask for, shuffled; of some data sets a sample.

    Where a pruner took the answer away, only guessing could be learned.
    """
    seen: Counter[str] = Counter()
    taken = []
    for one in shuffled([one for one in examples if shows_answer(one)]):
        seen[one.data] += 1
        if seen[one.data] <= MOST.get(one.data, len(examples)):
            taken.append(one)
    return taken


def robbed(examples: Sequence[ReadingExample]) -> list[ReadingExample]:
    """Return answerable examples of `ROBBED` anew, without the passages that answer them.

    Beside the same question with its answer they teach when to refuse: search brought what is left
    as well, but it says something else. Where the pruner kept nothing of it, nothing is learned.
    """
    found: list[ReadingExample] = []
    seen: Counter[str] = Counter()
    for one in examples:
        left = tuple(
            passage
            for passage in one.passages
            if passage.document not in one.gold
            and not any(answer.lower() in passage.text.lower() for answer in one.answers)
        )
        if one.answers and seen[one.data] < ROBBED.get(one.data, 0) and any(map(keeps, left)):
            seen[one.data] += 1
            refused = replace(one, passages=left, answers=(), unanswerable=True, gold={})
            found.append(replace(refused, id=f"{one.id} robbed"))
    return found


def shuffled(examples: Sequence[ReadingExample]) -> list[ReadingExample]:
    """Return examples in an order that a seed gives."""
    mixed = list(examples)
    random.Random(SEED).shuffle(mixed)  # noqa: S311 (no secret)
    return mixed


def shows_answer(example: ReadingExample) -> bool:
    """Tell whether what is kept holds the answer to learn, or need not: a refusal, yes, no."""
    target = (example.target or "").lower()
    if example.unanswerable or target in {"yes", "no"}:
        return True
    kept = " ".join(
        one.sentences[row].of(one.text) for one in example.passages for row in one.kept_rows
    )
    return target in kept.lower()


def _first(
    examples: Sequence[ReadingExample], ids: Sequence[str], sizes: tuple[int, int]
) -> list[ReadingExample]:
    """Return the first answerable and unanswerable examples, in the order of the ids."""
    place = {id_: row for row, id_ in enumerate(ids)}
    drawn = sorted(examples, key=lambda one: place[one.id])
    return [
        one
        for unanswerable, size in zip((False, True), sizes, strict=True)
        for one in [e for e in drawn if e.unanswerable == unanswerable][:size]
    ]


def _write(out: Path, name: str, examples: Sequence[ReadingExample]) -> int:
    write_examples(out / f"{name}{SUFFIX}", examples)
    return len(examples)
