"""Quality of scorers of sentences: what one threshold prunes and keeps, on several data sets.

    python benchmarks/pruning.py prepare ../shared/data/hotpotqa ../shared/data/squad -o DIR
    python benchmarks/pruning.py score DIR -o ROWS
    python benchmarks/pruning.py timing DIR -o ROWS
    python benchmarks/pruning.py page ROWS --questions DIR -o docs

`prepare` finds the passages of each question and encodes their sentences; of training data it takes
the tenth that is held out, for which it needs the `--leave-out` of the training. `score` asks every
scorer about every question, for its sentences, for gold sentences moved to other places, and, of
scorers that rerank, for a ranking; it appends rows as it has them, and the same command goes on
where it was stopped. `timing` measures all scorers side by side. `page` writes
`pruning-results.csv`, every statistic with its interval, and from it `pruning-results.md` and
`.svg`; without ROWS it makes these from the statistics that are there, and with --json it prints
them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measuring import machine
from pruning_scorers import SCORERS

from pipelines.cli.terminal import progress


def main() -> None:
    """Run one of the commands."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "page":
        from pruning_page import write_page
        from pruning_values import read_values

        if args.questions is None and args.rows is not None:
            raise SystemExit("page needs --questions DIR, the folder that prepare wrote")
        path = write_page(args.rows, args.questions, args.out, resamples=args.resamples)
        if args.json:
            for value in read_values(args.out):
                print(json.dumps(value))
        else:
            print(path)
        return
    from rag.models.encoder import load_encoder

    with progress() as watched:
        shared: dict[str, Any] = {"encoder": load_encoder("minilm"), "progress": watched}
        if args.command == "prepare":
            from pruning_data import prepare

            for data in args.data:
                path = prepare(data, args.out, limit=args.limit, leave_out=args.leave_out, **shared)
                print(path, flush=True)
            return
        from pruning_rows import score, timing

        shared |= {"data": args.data, "provence": args.provence}
        shared["names"] = args.scorer or tuple(SCORERS)
        if args.command == "score":
            score(args.questions, args.out, **shared)
        else:
            timing(args.questions, args.out, about=machine(), limit=args.limit, **shared)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="questions with their passages")
    prepare.add_argument("data", nargs="+", type=Path, help="folders of data")
    prepare.add_argument("--limit", type=int, help="questions of each kind")
    prepare.add_argument(
        "--leave-out",
        action="append",
        type=Path,
        default=[],
        metavar="DATA",
        help="data whose passages the training left out, as given there",
    )
    for name in ("score", "timing"):
        command = commands.add_parser(name, help=f"{name} scorers on prepared questions")
        command.add_argument("questions", type=Path, help="folder that prepare wrote")
        command.add_argument("--data", action="append", default=[], help="only this set")
        command.add_argument("--scorer", action="append", choices=SCORERS, help="only this one")
        command.add_argument("--provence", default="minilm", help="its model, or a folder of one")
        if name == "timing":
            command.add_argument("--limit", type=int, default=30, help="questions (default: 30)")
    page = commands.add_parser("page", help="the page, and the statistics that it is made from")
    page.add_argument("rows", nargs="?", type=Path, help="folder that score wrote")
    page.add_argument("--questions", type=Path, help="folder that prepare wrote")
    page.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    page.add_argument("--json", action="store_true", help="print the statistics")
    for command in commands.choices.values():
        command.add_argument("-o", "--out", type=Path, required=True, help="folder")
    return parser


if __name__ == "__main__":
    main()
