"""`dovetail compare`: how two runs of `dovetail eval` differ, and whether it is chance."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.metric_table import draw_table, number, p_value
from pipelines.cli.terminal import plural, remark, say, say_json

if TYPE_CHECKING:
    from rag.evaluation.comparison import Difference

_EXAMPLE = """\
Both files must hold the same questions. Differences are B - A. Their 95 % interval is a paired
bootstrap's, p a paired randomisation test's, p (Holm) is corrected for testing every metric, and
p (t) is a paired t-test's. Robustness is the share of questions whose value rose minus the share
whose value fell.

example:
  dovetail eval naive data/squad --limit 100 --out three.jsonl
  dovetail eval naive data/squad --limit 100 --set retrieve.top_k=5 --out five.jsonl
  dovetail compare three.jsonl five.jsonl"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("a", metavar="A", type=Path, help="--out file of the first run")
    parser.add_argument("b", metavar="B", type=Path, help="--out file of the second run")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of interval and p")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    from pipelines.cli.arguments import UsageError
    from rag.evaluation.comparison import compare_rows
    from rag.evaluation.rows import read_rows

    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    first, second = read_rows(args.a), read_rows(args.b)
    found = compare_rows(first, second, seed=args.seed)
    errors = {
        name: sum(row.error is not None for row in rows)
        for name, rows in (("a", first), ("b", second))
    }
    if args.json:
        say_json(
            {
                "a": str(args.a),
                "b": str(args.b),
                "n": len(first),
                "seed": args.seed,
                "errors": errors,
                "metrics": {name: asdict(difference) for name, difference in found.items()},
            }
        )
        return 0
    say(f"{plural(len(first), 'question')}; A is {args.a}, B is {args.b}")
    _draw(found)
    for name, count in errors.items():
        if count:
            remark(f"{plural(count, 'question')} of {name.upper()} failed and count as 0")
    return 0


def _draw(found: Mapping[str, "Difference"]) -> None:
    draw_table(
        ("metric", "A", "B", "B - A", "low", "high", "p", "p (Holm)", "n"),
        [
            (
                name,
                number(d.a),
                number(d.b),
                number(d.difference, sign=True),
                number(d.low, sign=True),
                number(d.high, sign=True),
                p_value(d.p),
                p_value(d.p_holm),
                str(d.n),
            )
            for name, d in found.items()
        ],
    )
    say()
    draw_table(
        ("metric", "p (t)", "robustness"),
        [(name, p_value(d.p_t), number(d.robustness, sign=True)) for name, d in found.items()],
    )
