"""A model before and after it was adapted to cached passages: rows, then a page that judges both.

    python benchmarks/adaptation.py prepare ../shared/data -o EXAMPLES
    dovetail adapt EXAMPLES/train.jsonl.gz -o FIRST --dev EXAMPLES/dev.jsonl.gz --steps 400
    dovetail adapt EXAMPLES/further.jsonl.gz -o ADAPTER --dev EXAMPLES/dev.jsonl.gz
        --steps 890 --start FIRST --sequential-first 0 --cached-every 3 --patience 10
    python benchmarks/adaptation.py generate EXAMPLES/test.jsonl.gz -o ROWS --adapter none
    python benchmarks/adaptation.py generate EXAMPLES/test.jsonl.gz -o ROWS --adapter auto
    python benchmarks/adaptation.py page ROWS -o docs

`prepare` makes the questions that judge an adapter, those that choose its weights, and those that
it learns, and keeps them apart. `generate` asks every question in every setting and goes on where
it was stopped; base and adapter can share a folder, also at the same time. `page` writes
`adaptation-results.csv`, every measured value of one or several folders, and from it
`adaptation-results.md` and `.svg`, of as many rows as there are; without ROWS it makes them from
the values that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Run one of the commands."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "page":
        from adaptation_page import write_page

        print(write_page(args.rows, args.out))
        return
    if args.command == "prepare":
        from adaptation_data import prepare_all

        from pipelines.cli.terminal import progress

        with progress() as watched:
            print(prepare_all(args.data, args.out, watched))
        return
    from adaptation_rows import Run, generate

    generate(
        Run(
            args.examples,
            args.out,
            args.model,
            args.adapter,
            args.limit,
            args.minutes,
            tuple(args.settings.split(",")) if args.settings else None,
            args.jobs,
            args.block,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="examples to judge by and to learn from")
    prepare.add_argument("data", type=Path, help="folder of the evaluation data sets")
    generate = commands.add_parser("generate", help="rows of a model's answers to examples")
    generate.add_argument("examples", type=Path, help="a .jsonl or .jsonl.gz file")
    generate.add_argument("--model", default="smollm2-135m")
    generate.add_argument(
        "--adapter", default="none", help="none, auto (the shipped one) or a folder (default: none)"
    )
    generate.add_argument("--limit", type=_count, help="questions of each data set and kind")
    generate.add_argument("--minutes", type=float, help="stop after so many")
    generate.add_argument("--settings", help="names with commas between (default: all)")
    generate.add_argument("--jobs", type=_count, default=1, help="processes (default: 1)")
    generate.add_argument(
        "--block", type=_count, default=8, help="questions answered at a time (default: 8)"
    )
    page = commands.add_parser("page", help="values, page and picture")
    page.add_argument("rows", type=Path, nargs="*", help="folders that generate wrote")
    for command in (prepare, generate, page):
        command.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


if __name__ == "__main__":
    main()
