"""Examples of the shipped adapter: questions to judge it, to choose its weights, and to learn."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipelines.adapting.held_out import held_out
from pipelines.adapting.prepare import prepare
from rag.adaptation.examples import ReadingExample, write_examples
from rag.files import write_atomically
from rag.training.watching import Watcher

SUFFIX: Final = ".jsonl.gz"
SHOWN: Final[Mapping[str, Any]] = {"shown": True, "passages": 10}
"""HotpotQA and 2Wiki come with ten paragraphs a question."""
LEARNED: Final[Mapping[tuple[str, bool], int]] = {
    ("squad", False): 1400,
    ("squad", True): 690,
    ("newwiki", False): 1500,
    ("hotpotqa", False): 549,
    ("2wiki", False): 700,
    ("nq", False): 600,
}
"""Examples to learn by data set and whether they are unanswerable, at most: more of the kinds that
are hard."""
FURTHER: Final[Mapping[tuple[str, bool], int]] = {
    ("squad", False): 2036,
    ("squad", True): 350,
    ("newwiki", False): 3000,
    ("hotpotqa", False): 549,
    ("2wiki", False): 850,
    ("nq", False): 500,
}
"""The same for a second training that starts where the first one ended: what that one was not
offered comes first."""
SEED: Final = 8


def prepare_all(data: Path, out: Path, watcher: Watcher) -> dict[str, int]:
    """Write `test`, `dev`, `train` and `further`; return how many examples each has.

    Their licences stand in `meta.json`. No article, gold passage or question stands in two of them,
    but for `train` and `further`, which are to be learned one after the other. In `test` and `dev`
    a question of SQuAD has its gold passage among the five that search brings, as it brings them.

    Args:
        data: folder of the sets `squad`, `hotpotqa`, `2wiki`, `nq` and `pruner_train`.
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
        ("dev", dev_ids, dev_hops, (20, 10, 14)),
    ):
        found = make([data / "squad"], only=set(ids), gold_always=False, leave_out=left_out)
        single = _first(found.examples, ids, sizes[:2])
        found = make([data / "hotpotqa"], only=set(hops), leave_out=left_out, **SHOWN)
        chosen = [*single, *_first(found.examples, hops, (sizes[2], 0))]
        counts[name] = _write(out, name, chosen)
        left_out.append(out / f"{name}{SUFFIX}")
    learned: list[ReadingExample] = []
    for names, options in (
        (("hotpotqa", "2wiki"), {**SHOWN, "search": "bm25"}),
        (("squad", "nq"), {"refusals": 0.3}),
        (("pruner_train",), {"limit": 4200}),
    ):
        found = make([data / name for name in names], leave_out=left_out, **options)
        licences |= set(found.licences)
        asked = {one.query.text.lower() for one in learned}
        learned += [one for one in found.examples if one.query.text.lower() not in asked]
    first = mixed(learned, LEARNED, seed=SEED)
    offered = {(one.data, one.id) for one in first}
    counts["train"] = _write(out, "train", first)
    further = mixed(learned, FURTHER, seed=SEED + 1, offered=offered)
    counts["further"] = _write(out, "further", further)
    about = json.dumps({"licence": "; ".join(sorted(licences))}, indent=1).encode()
    write_atomically(out / "meta.json", lambda file: file.write(about), mode=0o644)
    return counts


def mixed(
    examples: Sequence[ReadingExample],
    wanted: Mapping[tuple[str, bool], int],
    *,
    seed: int,
    offered: Collection[tuple[str, str]] = (),
) -> list[ReadingExample]:
    """Return a sample, shuffled, of examples that show what they ask for.

    Where a pruner took the answer away, only guessing could be learned.

    Args:
        examples: any.
        wanted: the most by data set and whether they are unanswerable.
        seed: of the sample and of its order.
        offered: data sets and ids that are taken only where there are not enough others.
    """
    rng = random.Random(seed)  # noqa: S311 (no secret)
    taken: list[ReadingExample] = []
    for (data, unanswerable), most in wanted.items():
        of_kind = [
            one
            for one in examples
            if (one.data, one.unanswerable) == (data, unanswerable) and shows_answer(one)
        ]
        rng.shuffle(of_kind)
        of_kind.sort(key=lambda one: (one.data, one.id) in offered)
        taken += of_kind[:most]
    rng.shuffle(taken)
    return taken


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
