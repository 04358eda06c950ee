"""Rows of the routing benchmark: what every router says of every query, in every way to split."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from routing_routers import CLASSIFIER, ENSEMBLES, Make, Replayed, ensembles, learned_routers

from rag.evaluation.router_validation import (
    BatchRouter,
    Train,
    routed_by_folds,
    routed_by_source,
    shared_sources,
)
from rag.evaluation.routing import RoutedQuery
from rag.files import write_atomically
from rag.protocols import Encoder
from rag.records import Query, Route
from rag.routing.labelled_queries import LabelledQuery
from rag.training.watching import Watcher

FOLDS = 5
SPLITS = ("folds", "left out", "unseen")
"""Five folds; sources left out whose labels others have; sources left out with their label."""
TIMING = "timing.json"
TIMED = 200


def route(
    queries: Sequence[LabelledQuery],
    encoder: Encoder,
    out: Path,
    *,
    names: Sequence[str] = (),
    splits: Sequence[str] = SPLITS,
    watcher: Watcher | None = None,
) -> None:
    """Write a file for each router and split that has none yet; ensembles replay their members.

    Args:
        queries: labelled.
        encoder: of queries.
        out: folder.
        names: routers to train, by default all.
        splits: ways to split.
        watcher: sees the stages.
    """
    for split in splits:
        for name, make in learned_routers().items():
            if (not names or name in names) and not _path(out, name, split).exists():
                _write(_path(out, name, split), _routed(queries, encoder, make, split, watcher))
        members = {
            name: read(_path(out, name, split))
            for name in learned_routers()
            if _path(out, name, split).exists()
        }
        replayed = {name: _replayed(queries, rows) for name, rows in members.items()}
        for name, router in ensembles(replayed).items():
            asked = members[CLASSIFIER]
            text = {one.id: one.text for one in queries}
            routes = router.batch([Query(text[one.id]) for one in asked])
            _write(
                _path(out, name, split),
                [
                    RoutedQuery(one.id, one.truth, route, one.source)
                    for one, route in zip(asked, routes, strict=True)
                ],
            )


def _routed(
    queries: Sequence[LabelledQuery],
    encoder: Encoder,
    make: Make,
    split: str,
    watcher: Watcher | None,
) -> list[RoutedQuery]:
    def train(some: Sequence[LabelledQuery]) -> BatchRouter:
        return make(some, encoder)

    known: Train = train
    if split == "folds":
        return routed_by_folds(queries, known, folds=FOLDS, watcher=watcher)
    shared = set(shared_sources(queries))
    others = {one.source for one in queries} - shared
    sources = shared if split == "left out" else others
    return routed_by_source(queries, known, sources=sources, watcher=watcher)


def timing(
    queries: Sequence[LabelledQuery], encoder: Encoder, out: Path, *, about: Mapping[str, str]
) -> None:
    """Write how long the classifier learns from all queries, and routes one.

    Vectors are at hand. Times of the processor stand beside those of the clock: on a machine with
    other work the clock says little.
    """
    encoder.encode_queries([one.text for one in queries])
    wall, cpu = time.perf_counter(), time.process_time()
    router = learned_routers()[CLASSIFIER](queries, encoder)
    told: dict[str, Any] = {
        "train_s": time.perf_counter() - wall,
        "train_cpu_s": time.process_time() - cpu,
    }
    asked = [Query(one.text) for one in queries[:: max(1, len(queries) // TIMED)]]
    router.batch(asked[:1])
    told["route_ms"] = sorted(_each(router, asked, time.perf_counter))
    told["route_cpu_ms"] = sorted(_each(router, asked, time.process_time))
    content = json.dumps({**told, **about}).encode()
    write_atomically(out / TIMING, lambda file: file.write(content), mode=0o644)


def _each(
    router: BatchRouter, asked: Sequence[Query], clock: Callable[[], float]
) -> Iterator[float]:
    for query in asked:
        began = clock()
        router.batch([query])
        yield 1e3 * (clock() - began)


def read_rows(folder: Path) -> dict[tuple[str, str], list[RoutedQuery]]:
    """Return the rows of a folder by router and split, in the order of the page."""
    found = {}
    for split in SPLITS:
        for name in (*learned_routers(), *ENSEMBLES):
            if _path(folder, name, split).exists():
                found[name, split] = read(_path(folder, name, split))
    return found


def read(path: Path) -> list[RoutedQuery]:
    """Return the rows of a file."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        RoutedQuery(
            row["id"],
            tuple(row["truth"]),
            Route(tuple(row["labels"]), row["probs"], row["by"], row["fallback"]),
            row["source"],
        )
        for row in rows
    ]


def _write(path: Path, routed: Sequence[RoutedQuery]) -> None:
    lines = [
        json.dumps(
            {
                "id": one.id,
                "truth": one.truth,
                "source": one.source,
                "labels": one.route.labels,
                "probs": {name: round(p, 6) for name, p in one.route.probs.items()},
                "by": one.route.source,
                "fallback": one.route.fallback,
            }
        )
        for one in routed
    ]
    content = "".join(line + "\n" for line in lines).encode()
    write_atomically(path, lambda file: file.write(content), mode=0o644)


def _replayed(queries: Sequence[LabelledQuery], rows: Sequence[RoutedQuery]) -> Replayed:
    text = {one.id: one.text for one in queries}
    return Replayed({text[one.id]: one.route for one in rows})


def _path(folder: Path, name: str, split: str) -> Path:
    return folder / f"{name.replace(' ', '-')}-{split.replace(' ', '-')}.jsonl"
