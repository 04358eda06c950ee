"""Quality of every way to read passages: four commands, from data to a page.

    python benchmarks/quality.py prepare ../shared/data/squad ../shared/data/hotpotqa -o DIR
    python benchmarks/quality.py generate DIR -o ROWS --jobs 8
    python benchmarks/quality.py timing DIR -o ROWS --limit 20
    python benchmarks/quality.py page ROWS -o docs

`prepare` retrieves and prunes, with the encoder and without a language model. `generate` and
`timing` need the language model alone, and can run on another machine. They append a row as soon as
they have it, and the same command goes on where it was stopped, on another device too; there the
exact mode is asked again, so that differences have both sides from one device. `page` writes
`generation-results.csv`, every measured value, and from it `generation-results.md` and `.svg`;
without ROWS it makes them from the values that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("grid", "five", "ten", "repairs", "places")


def main() -> None:
    """Run one of the commands."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "prepare":
        from quality_data import prepare

        for data in args.data:
            print(prepare(data, args.out, limit=args.limit, seed=args.seed), flush=True)
        return
    if args.command == "page":
        from quality_page import write_page

        print(write_page(args.rows, args.out))
        return
    from quality_rows import Run, generate, timing

    run = Run(
        args.questions,
        args.out,
        args.model,
        getattr(args, "jobs", 1),
        getattr(args, "minutes", None),
        getattr(args, "block", 1),
        args.limit,
        args.plain,
        getattr(args, "masses", False),
        getattr(args, "part", None),
    )
    (generate if args.command == "generate" else timing)(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="questions with their passages")
    prepare.add_argument("data", nargs="+", type=Path, help="folders of evaluation data")
    prepare.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    for name in ("generate", "timing"):
        command = commands.add_parser(name, help=f"{name} rows from prepared questions")
        command.add_argument("questions", type=Path, help="folder that prepare wrote")
        command.add_argument("--model", default="smollm2-135m")
        command.add_argument("--plain", action="store_true", help="copy passages side by side")
        if name == "generate":
            command.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
            command.add_argument("--minutes", type=float, help="stop after so many")
            command.add_argument("--block", type=int, default=8, help="questions at a time")
            command.add_argument(
                "--part", action="append", choices=PARTS, help="only this one; may be repeated"
            )
            command.add_argument(
                "--masses", action="store_true", help="write attention masses beside the rows"
            )
    page = commands.add_parser("page", help="the page, and the values that it is made from")
    page.add_argument("rows", nargs="?", type=Path, help="folder that generate wrote")
    for command in commands.choices.values():
        command.add_argument("-o", "--out", type=Path, required=True, help="folder")
        if command is not page:
            command.add_argument("--limit", type=int, help="questions of each part")
    return parser


if __name__ == "__main__":
    main()
