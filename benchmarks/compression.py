"""Compression: what choosing a compact set costs, beside maximal marginal relevance, in one run.

Vectors are drawn with a seed: unit vectors around 30 topics, some of them near copies. Every way to
choose gets the same ones, one thread each, warm. Two figures stand for each greedy: `whole` is
`compress` from vectors to the record, its similarity of all pairs included; `apart` is the choice
alone, that similarity being there. langchain-core's `maximal_marginal_relevance` is timed with the
rows of an array, its fastest form, and with the lists of numbers that its signature names.

    OMP_NUM_THREADS=1 python benchmarks/compression.py
    OMP_NUM_THREADS=1 python benchmarks/compression.py --json --repeats 20
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from measuring import machine, times

from retrievers.compression.chosen import Chosen
from retrievers.compression.coverage import Coverage
from retrievers.compression.greedy import block, lazy, plain, stochastic
from retrievers.compression.objective import Objective
from retrievers.compression.selection import compress
from retrievers.cosines import unit
from retrievers.rerank.mmr import mmr_order

SIZES = ((100, 10), (1_000, 20), (1_000, 100))
TOPICS = 30
EPSILON = 0.1
BASELINE = "langchain-core MMR, rows of an array"


def drawn(count: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a query (dim,), passages (count, dim), both float32 and unit, and relevance (count,).

    A tenth of the passages differs from another one by little.
    """
    rng = np.random.default_rng(seed)
    topics = unit(rng.normal(size=(TOPICS, dim)))
    passages = topics[rng.integers(0, TOPICS, count)] + rng.normal(size=(count, dim)) / dim**0.5
    copies = rng.integers(0, count, count // 10)
    near = passages[copies] + 0.1 * rng.normal(size=(len(copies), dim)) / dim**0.5
    passages[rng.integers(0, count, len(copies))] = near
    passages = unit(passages).astype(np.float32)
    query = unit(topics[0] + topics[1] / 2).astype(np.float32)
    cosines = (passages @ query).astype(np.float64)
    return query, passages, (cosines - cosines.min()) / (cosines.max() - cosines.min())


def marginal(count: int, k: int, dim: int, seed: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield maximal marginal relevance, ours and langchain-core's; the choices are compared."""
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

    query, passages, _ = drawn(count, dim, seed)
    theirs = maximal_marginal_relevance(query, list(passages), lambda_mult=0.5, k=k)
    rows, _ = mmr_order(query, passages, k, 0.5)
    for name, given in ((BASELINE, list(passages)), ("lists of numbers", passages.tolist())):
        work = partial(maximal_marginal_relevance, query, given, lambda_mult=0.5, k=k)
        yield {
            "choice": name if name == BASELINE else f"langchain-core MMR, {name}",
            "version": version("langchain-core"),
            **times([work] * max(3, repeats // 3), warm=True),
        }
    yield {
        "choice": "mmr_order",
        "same_rows": rows == theirs,
        **times([lambda: mmr_order(query, passages, k, 0.5)] * repeats, warm=True),
    }


def submodular(count: int, k: int, dim: int, seed: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield each greedy with its objective over that of plain greedy."""
    _, passages, relevance = drawn(count, dim, seed)
    objective = Objective(relevance=1.0, coverage=1.0)
    coverage = Coverage(passages, relevance)
    coverage.gains(np.arange(count))  # the similarity of all pairs is there from now on
    ways: dict[str, Callable[[Chosen], None]] = {
        "plain": lambda chosen: plain(chosen, k),
        "lazy": lambda chosen: lazy(chosen, k),
        "block": lambda chosen: block(chosen, k),
        "stochastic": lambda chosen: stochastic(chosen, k, np.random.default_rng(seed), EPSILON),
    }

    def apart(way: Callable[[Chosen], None]) -> Chosen:
        chosen = Chosen(objective, relevance, coverage, None)
        chosen.restart()
        way(chosen)
        return chosen

    best = apart(ways["plain"]).value
    for name, way in ways.items():
        whole = partial(
            compress, passages, relevance, k=k, objective=objective, greedy=name, seed=seed
        )
        found = whole()
        shown = {
            "objective_to_plain": round(found.objective / best, 6),
            "coverage_ratio": round(found.coverage_ratio, 4),
            "objective": repr(objective),
        }
        yield {"choice": f"{name}, whole", **times([whole] * repeats, warm=True), **shown}
        yield {
            "choice": f"{name}, apart",
            **times([partial(apart, way)] * repeats, warm=True),
            **shown,
        }


def records(count: int, k: int, dim: int, seed: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield one record a way to choose, each with its speed as a multiple of langchain-core's."""
    baseline = 0.0
    for run in (marginal, submodular):
        for record in run(count, k, dim, seed, repeats):
            if record["choice"] == BASELINE:
                baseline = record["median_ms"]
            times_as_fast = round(baseline / record["median_ms"], 2)
            yield record | {"passages": count, "k": k, "times_as_fast": times_as_fast}


def main() -> None:
    """Measure and print a table, or one JSON record a setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one record a line")
    args = parser.parse_args()
    about = {
        **machine(),
        "numpy": np.__version__,
        "dim": args.dim,
        "seed": args.seed,
        "repeats": args.repeats,
    }
    for count, k in SIZES:
        for record in records(count, k, args.dim, args.seed, args.repeats):
            if args.json:
                print(json.dumps(record | about), flush=True)
                continue
            quality = record.get("objective_to_plain", "")
            print(
                f"{k:4} of {count:5}  {record['choice']:38} {record['median_ms']:10.3f} ms "
                f"{record['times_as_fast']:8.2f}x  {quality}",
                flush=True,
            )


if __name__ == "__main__":
    main()
