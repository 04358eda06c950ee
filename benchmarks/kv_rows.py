"""Text against cached rows of what a trained pruner keeps: four commands, from data to a page.

    python benchmarks/quality.py prepare ../shared/data/squad ../shared/data/hotpotqa -o QUESTIONS
    python benchmarks/kv_rows.py prepare QUESTIONS ../shared/data/squad -o DIR
    python benchmarks/kv_rows.py generate DIR -o ROWS --jobs 8
    python benchmarks/kv_rows.py timing DIR -o ROWS
    python benchmarks/kv_rows.py page ROWS -o docs

`prepare` asks the pruners, with the encoder and without a language model. `generate` needs the
language model alone, can run on another machine, and goes on where it was stopped. `timing` times
the first token of every setting, side by side. `page` writes `pruning-kv-results.csv`, every
measured value, and from it `pruning-kv-results.md` and `.svg`, of as many rows as there are;
without ROWS it makes them from the values that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Run one of the commands."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "prepare":
        from quality_kv_data import prepare

        prepare(args.questions, args.data, args.out, limit=args.limit, provence=args.provence)
    elif args.command == "page":
        from quality_kv_page import write_page

        print(write_page(args.rows, args.out))
    elif args.command == "timing":
        from quality_kv_timing import timing

        timing(args.questions, args.out, args.model, rounds=args.rounds, limit=args.limit)
    else:
        from quality_data import read_asked
        from quality_kv_settings import PRUNERS, part_of
        from quality_rows import Run, generate

        known = set.intersection(*(set(one.decisions) for one in read_asked(args.questions)))
        part = part_of([pruner for pruner in PRUNERS if pruner in known])
        generate(
            Run(
                args.questions,
                args.out,
                args.model,
                args.jobs,
                args.minutes,
                args.block,
                args.limit,
                plain=False,
                masses=False,
                parts=(part,),
            )
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="what pruners keep of each question's passages")
    prepare.add_argument("questions", type=Path, help="folder that quality.py prepare wrote")
    prepare.add_argument("data", nargs="*", type=Path, help="data of which contexts are timed")
    prepare.add_argument("--provence", default="minilm", help="its model (default: minilm)")
    generate = commands.add_parser("generate", help="rows from prepared questions")
    generate.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    generate.add_argument("--minutes", type=float, help="stop after so many")
    generate.add_argument("--block", type=int, default=8, help="questions at a time")
    timing = commands.add_parser("timing", help="times to the first token")
    timing.add_argument("--rounds", type=int, default=5, help="of which the least counts")
    for command in (generate, timing):
        command.add_argument("questions", type=Path, help="folder that prepare wrote")
        command.add_argument("--model", default="smollm2-135m")
    page = commands.add_parser("page", help="the page, and the values that it is made from")
    page.add_argument("rows", nargs="?", type=Path, help="folder that generate wrote")
    for command in commands.choices.values():
        command.add_argument("-o", "--out", type=Path, required=True, help="folder")
        if command is not page:
            command.add_argument("--limit", type=int, help="questions of each data set")
    return parser


if __name__ == "__main__":
    main()
