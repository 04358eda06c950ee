"""Quality of routers: where each sends labelled queries, by folds and with sources left out.

    python benchmarks/routing.py route ../shared/data/routing -o ROWS
    python benchmarks/routing.py timing ../shared/data/routing -o ROWS
    python benchmarks/routing.py page ROWS -o docs

`route` trains every router on some queries, asks it about the others, and writes a file a router;
the same command goes on where it was stopped. `timing` measures how long the classifier takes.
`page` writes `routing-results.csv`, every statistic with its interval, and from it
`routing-results.md` and `.svg`; without ROWS it makes these from the statistics that are there, and
with --json it prints them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from measuring import machine
from routing_rows import SPLITS

from pipelines.cli.terminal import progress


def main() -> None:
    """Run one of the commands."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "page":
        from pruning_values import read_csv
        from routing_page import write_page
        from routing_values import CSV

        path = write_page(args.rows, args.out, resamples=args.resamples)
        if args.json:
            for value in read_csv((args.out / CSV).read_text(encoding="utf-8")):
                print(json.dumps({key: getattr(value, key) for key in value.__dataclass_fields__}))
        else:
            print(path)
        return
    from routing_rows import route, timing
    from routing_vectors import FILE, KeptVectors

    from rag.models.encoder import load_encoder
    from rag.routing.labelled_queries import read_labelled_queries

    queries = read_labelled_queries(args.data)
    encoder = KeptVectors(args.out / FILE, lambda: load_encoder("minilm"))
    if args.command == "timing":
        timing(queries, encoder, args.out, about=machine())
        return
    with progress() as watched:
        route(
            queries,
            encoder,
            args.out,
            names=args.router,
            splits=args.split or SPLITS,
            watcher=watched,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("route", "timing"):
        command = commands.add_parser(name, help=f"{name} labelled queries")
        command.add_argument("data", type=Path, help="labelled queries, or their folder")
        if name == "route":
            command.add_argument("--router", action="append", default=[], help="only this one")
            command.add_argument("--split", action="append", choices=SPLITS, help="only this one")
    page = commands.add_parser("page", help="the page, and the statistics that it is made from")
    page.add_argument("rows", nargs="?", type=Path, help="folder that route wrote")
    page.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    page.add_argument("--json", action="store_true", help="print the statistics")
    for command in commands.choices.values():
        command.add_argument("-o", "--out", type=Path, required=True, help="folder")
    return parser


if __name__ == "__main__":
    main()
