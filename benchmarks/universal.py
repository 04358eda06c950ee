"""Routed retrieval end to end: questions over paragraphs, documents and tables, each in its corpus.

    python benchmarks/universal.py prepare ../shared/data -o DATA
    python benchmarks/universal.py ask DATA --routing ../shared/data/routing -o ROWS
    python benchmarks/universal.py page ROWS -o docs
    python benchmarks/universal.py fit DATA --routing ../shared/data/routing -o ROWS

`prepare` writes three corpora and 200 questions of each. `ask` trains routers on labelled queries
without these questions, and writes what each strategy finds under each token budget: one corpus
alone, all of them merged, one index of everything, and routed retrieval. `page` writes
`universal-results.csv`, every statistic with its interval, and from it `universal-results.md`; with
--json it prints them. `fit` prints the weights of `route.evidence` that fit other questions best.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from pipelines.cli.terminal import progress


def main() -> None:
    """Run one of the commands."""
    args = _parser().parse_args()
    if args.command == "prepare":
        from universal_data import prepare

        prepare(args.data, args.out, seed=args.seed)
        return
    if args.command in ("ask", "fit"):
        from universal_fit import fitted
        from universal_rows import ask

        with progress() as watched:
            if args.command == "ask":
                ask(args.data, args.routing, args.out, watcher=watched)
                return
            found = fitted(args.data, args.routing, args.out, watcher=watched)
        print(json.dumps(found))
        return
    from pruning_values import read_csv
    from universal_page import CSV, write_page

    path = write_page(args.rows, args.out, resamples=args.resamples)
    if args.json:
        for value in read_csv((args.out / CSV).read_text(encoding="utf-8")):
            print(json.dumps(asdict(value)))
    else:
        print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("prepare", help="write corpora and questions")
    made.add_argument("data", type=Path, help="folder of the evaluation data sets")
    made.add_argument("--seed", type=int, default=0, help="of the questions drawn (default: 0)")
    asked = commands.add_parser("ask", help="find passages by every strategy")
    fit = commands.add_parser("fit", help="fit the weights of route.evidence")
    for one in (asked, fit):
        one.add_argument("data", type=Path, help="folder that prepare wrote")
        one.add_argument("--routing", type=Path, required=True, help="labelled queries")
    page = commands.add_parser("page", help="write the page")
    page.add_argument("rows", type=Path, nargs="?", help="folder that ask wrote")
    page.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    page.add_argument("--json", action="store_true", help="print one record a statistic")
    for one, default in ((made, None), (asked, None), (fit, None), (page, Path("docs"))):
        one.add_argument("-o", "--out", type=Path, default=default, required=default is None)
    return parser


if __name__ == "__main__":
    main()
