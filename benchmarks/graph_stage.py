"""What graph expansion and compression add to a question, beside dense search alone, in one run.

    OMP_NUM_THREADS=1 python benchmarks/graph_stage.py ../shared/data/2wiki ../shared/data/hotpotqa

Questions are asked one at a time, after a few that warm up. Encoding the question is timed apart:
every system needs it. The index is that of the user's cache, made with its graph where missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import machine, milliseconds

from pipelines.catalogue.graph import compress, expand
from pipelines.catalogue.retrieval import hybrid
from pipelines.cli.index import LateEncoder
from pipelines.cli.terminal import progress
from pipelines.evaluating.data_index import data_index
from pipelines.open_index import OpenIndex
from rag.evaluation.data import read_questions, sample
from rag.records import Query

POOL = 100
WARM = 10


def stages(data: Path, questions: int) -> Iterator[dict[str, Any]]:
    """Yield the time of each stage, and what they add to dense search."""
    with progress() as watched:
        path = data_index(
            data, encoder=LateEncoder("minilm"), sentences=False, graph=True, progress=watched
        )
    index = OpenIndex(path)
    retrieve = hybrid(index, top_k=POOL)
    steps = {
        "expand": expand(index, top_k=POOL),
        "expand, push": expand(index, top_k=POOL, method="push"),
        "expand, two hops": expand(index, top_k=POOL, method="hops"),
    }
    choose = compress(index, top_k=5)
    taken: dict[str, list[float]] = {}
    asked = sample(read_questions(data), questions + WARM)
    for place, question in enumerate(asked):
        query = Query(question.text)
        vector = index.encoder.encode_queries([query.text])
        found = retrieve(query)
        expanded = steps["expand"](query, found)
        works = {
            "encode the question": lambda q=query: index.encoder.encode_queries([q.text]),
            "dense search": lambda v=vector: index.dense.search_vectors(v, POOL),
            "hybrid, its encoding included": lambda q=query: retrieve(q),
            **{name: lambda s=step, q=query, f=found: s(q, f) for name, step in steps.items()},
            "compress": lambda q=query, e=expanded: choose(q, e),
        }
        for name, work in works.items():
            ms = milliseconds(work)
            if place >= WARM:
                taken.setdefault(name, []).append(ms)
    for name, each in taken.items():
        each.sort()
        yield {
            "data": data.name,
            "passages": len(index.passages),
            "edges": sum(index.graph.counts.values()),
            "stage": name,
            "median_ms": round(each[len(each) // 2], 3),
            "p95_ms": round(each[int(0.95 * (len(each) - 1))], 3),
            "best_ms": round(each[0], 3),
        }
    index.close()


def main() -> None:
    """Measure and print one JSON record a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="folders of evaluation data")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    args = parser.parse_args()
    for data in args.data:
        for record in stages(data, args.questions):
            print(json.dumps({**record, **machine()}), flush=True)


if __name__ == "__main__":
    main()
