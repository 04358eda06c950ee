"""What the pipeline engine adds to each step, against calling the same operators by hand.

`python benchmarks/engine_overhead.py --json` prints one record a setting.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

from pipelines.flow.pipeline import Pipeline
from rag.records import Passage, Query, Span

STEPS = 10
ROUNDS = 30


def same(query: Query) -> Query:
    """Return the question."""
    return query


def found(query: Query) -> list[Passage]:
    """Return three short passages for a question, so that the trace has something to record."""
    span = Span(0, 4)
    return [
        Passage(f"p{n}", query.text, "Text", span, (span,), score=1.0 / (n + 1)) for n in range(3)
    ]


def best_us(call: Callable[[], object], times: int) -> tuple[float, float]:
    """Return best and median microseconds of a call over rounds of `times` calls."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            call()
        taken.append((time.perf_counter() - began) / times * 1e6)
    return min(taken), statistics.median(taken)


def measured(name: str, operator: Callable[[Query], object], output: str) -> dict[str, object]:
    """Return the record of one operator: engine and by hand, per step."""
    query = Query("a question")

    def by_hand() -> None:
        for _ in range(STEPS):
            operator(query)

    many = Pipeline("many", [operator] * STEPS, outputs=[output])
    one = Pipeline("one", [operator], outputs=[output])
    many.run(query)
    one.run(query)
    hand = best_us(by_hand, 200)
    whole = best_us(lambda: many.run(query), 20)
    single = best_us(lambda: one.run(query), 20)
    step = [(long - short) / (STEPS - 1) for long, short in zip(whole, single, strict=True)]
    return {
        "operator": name,
        "steps": STEPS,
        "by_hand_us_per_step": round(hand[0] / STEPS, 2),
        "engine_us_per_step": round(step[0], 1),
        "engine_us_per_step_median": round(step[1], 1),
        "overhead_us_per_step": round(step[0] - hand[0] / STEPS, 1),
        "run_us": round(single[0] - step[0], 1),
        "python": sys.version.split()[0],
    }


def main() -> None:
    """Measure and print one JSON record a setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    parser.parse_args()
    for name, operator, output in (("query", same, "query"), ("passages", found, "passages")):
        print(json.dumps(measured(name, operator, output)))


if __name__ == "__main__":
    main()
