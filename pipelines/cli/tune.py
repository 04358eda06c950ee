"""`dovetail tune`: choose a retriever's options by judged questions, and write them down."""

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.derived_file import check_out, extended_name, tried_options
from pipelines.cli.metric_table import draw_table, number, p_value
from pipelines.cli.terminal import progress, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.evaluating.tuning import TuningReport

_EXAMPLE = """\
Tries combinations of options on the questions of DATA that have judgements, chooses the best, and
writes a pipeline file that extends RECIPE with them. What it reports is cross-validated: every
question is judged by options that were chosen without it. Interrupted, the next run goes on.

Of retrieve.hybrid it chooses interpolation, sparse_weight, k, alpha and beta; of retrieve.sparse k1
and b, and what an expansion takes; where there is expand.graph, of that alone its weights, damping
and the weight of phrases. With --try it tries what you name, in all combinations.

examples:
  dovetail tune prf-both data/cranfield -o tuned.yaml
  dovetail tune hybrid data/scifact -o tuned.yaml --try sparse_weight=0.1,0.3,0.5
  dovetail eval tuned.yaml data/scifact"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a pipeline file")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of evaluation data")
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=Path, required=True, help="pipeline file to write"
    )
    parser.add_argument(
        "--metric", metavar="NAME", default="nDCG@10", help="what to maximise (default: nDCG@10)"
    )
    parser.add_argument(
        "--try",
        metavar="OPTION=A,B,…",
        action="append",
        default=[],
        dest="tried",
        help="values of an option of the retriever, or STEP.OPTION; may be repeated",
    )
    parser.add_argument("--folds", metavar="N", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of folds and intervals (default: 0)"
    )
    parser.add_argument("--download", action="store_true", help="allow to fetch the encoder")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Tune, write and print."""
    check_out(args.out)
    if args.folds < 2:
        raise UsageError(f"--folds must be at least 2, got {args.folds}")
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    tried = tried_options(args.tried)
    extends = extended_name(args.recipe, args.out)

    from pipelines.cli.index import LateEncoder
    from pipelines.evaluating.tuning import tune, tuned_text
    from pipelines.loading import load_pipeline
    from rag.files import write_atomically

    pipeline = load_pipeline(args.recipe)
    with refused_arguments(), progress(quiet=args.quiet or args.json) as watched:
        report = tune(
            pipeline,
            args.data,
            encoder=LateEncoder("minilm", download=args.download),
            metric=args.metric,
            tried=tried,
            folds=args.folds,
            seed=args.seed,
            progress=watched,
        )
    command = shlex.join(["dovetail", "tune", args.recipe, str(args.data), *_given(args)])
    text = tuned_text(report, extends, command)
    write_atomically(args.out, lambda file: file.write(text.encode()), mode=0o644)
    if args.json:
        say_json(
            {"recipe": args.recipe, "data": str(args.data), "out": str(args.out)} | asdict(report)
        )
    else:
        _draw(report, args)
    return 0


def _given(args: argparse.Namespace) -> list[str]:
    given = [f"--try={one}" for one in args.tried]
    return [*given, f"--metric={args.metric}", f"--folds={args.folds}", f"--seed={args.seed}"]


def _draw(report: "TuningReport", args: argparse.Namespace) -> None:
    draw_table(
        (report.metric, "mean", "low", "high", "n"),
        [
            (name, number(i.mean), number(i.low), number(i.high), str(i.n))
            for name, i in (
                (f"{args.recipe} as it is", report.before),
                ("tuned, on questions left out", report.nested),
            )
        ],
    )
    d = report.difference
    say(
        f"difference {number(d.mean, sign=True)} [{number(d.low, sign=True)}, "
        f"{number(d.high, sign=True)}], p {p_value(report.p)}; {report.tried} configurations"
    )
    chosen = ", ".join(f"{name}={value}" for name, value in report.chosen.items())
    say(f"{report.step}: {chosen or 'nothing better than the recipe as it is'}")
    remark(f"wrote {args.out}")
