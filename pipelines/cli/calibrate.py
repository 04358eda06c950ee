"""`dovetail calibrate`: choose how cached passages are read, and write it down."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.derived_file import check_out, extended_name, tried_options
from pipelines.cli.metric_table import draw_table, number
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.terminal import progress, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.evaluating.calibration.report import CalibrationReport
    from pipelines.flow.pipeline import Pipeline
    from pipelines.progress import Progress

_EXAMPLE = """\
Measures how long each way of reading cached passages takes to the first token on this machine, and
how far it moves the answers of this model: modes first, then the weights of ape and serial
positions, then repairs of the best two there. With --try it tries what you name, in all
combinations.

Without --data, questions are made from headings and sentences of the index, and what counts is the
divergence (KL) from mode sequential, which computes every passage. With --data it is the likelihood
of the accepted answers, and F1. One half of the questions chooses, the other half is reported: of
what is close enough to sequential, and within --budget, the fastest. Close enough is an F1 of 98 %
of sequential's, or no more than 0.05 nats a token at the 95 % bound. Where no cached mode is, it
says so. Interrupted, the next run goes on.

The file that it writes extends RECIPE and stands wherever a recipe does.

examples:
  dovetail calibrate -i notes.idx -o calibrated.yaml
  dovetail calibrate -i notes.idx --data data/mine -o calibrated.yaml --picture front.svg
  dovetail calibrate -i notes.idx -o fast.yaml --budget 200 --try mode=ape,block
  dovetail ask "What did we decide about backups?" -i notes.idx -p calibrated.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("-i", "--index", metavar="DIR", type=Path, required=True, help="index")
    parser.add_argument(
        "--data", metavar="DATA", type=Path, help="folder of evaluation data, for its questions"
    )
    parser.add_argument(
        "-p",
        "--pipeline",
        metavar="RECIPE",
        default="ask",
        help="recipe or pipeline file; one that ends with passages is continued as ask does "
        "(default: ask)",
    )
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=Path, required=True, help="pipeline file to write"
    )
    parser.add_argument(
        "--budget",
        metavar="MS",
        type=float,
        help="the most that the first token may take, retrieval not counted (default: none)",
    )
    parser.add_argument(
        "--try",
        metavar="OPTION=A,B,…",
        action="append",
        default=[],
        dest="tried",
        help="values of an option of the generator; may be repeated",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, default=40, help="questions, at least 4 (default: 40)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the questions (default: 0)"
    )
    parser.add_argument("--picture", metavar="FILE", type=Path, help="write an SVG image too")
    add_model_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Calibrate, write and print."""
    check_out(args.out)
    if args.picture is not None and (
        args.picture.is_dir() or not args.picture.absolute().parent.is_dir()
    ):
        raise UsageError(f"--picture must be a file in a folder that exists, got {args.picture}")
    if args.limit < 4:
        raise UsageError(f"--limit must be at least 4, got {args.limit}")
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.budget is not None and not args.budget > 0:
        raise UsageError(f"--budget must be above 0 ms, got {args.budget:g}")
    tried = tried_options(args.tried)
    extends = extended_name(args.pipeline, args.out)
    from pipelines.language_model import is_remote

    if is_remote(args.model):
        raise UsageError("calibrate needs a model that runs here, as a service keeps no KV cache")

    from pipelines.evaluating.calibration.calibrate import generator_of, stages_of
    from pipelines.evaluating.calibration.picture import front_svg
    from pipelines.evaluating.calibration.report import as_json, calibrated_text
    from pipelines.loading import load_answering, load_pipeline
    from rag.files import write_atomically

    recipe = load_pipeline(args.pipeline)
    pipeline = load_answering(args.pipeline)
    _, step = generator_of(pipeline.require_valid())
    with refused_arguments():
        stages_of(pipeline, step, tried)
    with refused_arguments(), progress(quiet=args.quiet or args.json) as watched:
        report = _measured(args, pipeline, tried, watched)
    command = shlex.join(["dovetail", "calibrate", *_given(args)])
    text = calibrated_text(report, extends, command, _added(recipe, pipeline, report.step))
    write_atomically(args.out, lambda file: file.write(text.encode()), mode=0o644)
    if args.picture is not None:
        image = front_svg(report)
        write_atomically(args.picture, lambda file: file.write(image.encode()), mode=0o644)
    if args.json:
        told = {"index": str(args.index), "pipeline": args.pipeline, "out": str(args.out)}
        say_json(told | as_json(report))
    else:
        _draw(report, args)
    return 0


def _measured(
    args: argparse.Namespace,
    pipeline: "Pipeline",
    tried: dict[str, list[Any]] | None,
    watched: "Progress",
) -> "CalibrationReport":
    """Open what is needed, ask and measure."""
    from pipelines.evaluating.calibration.calibrate import calibrate
    from pipelines.evaluating.calibration.questions import questions_of_data, questions_of_passages
    from pipelines.open_index import OpenIndex
    from rag.generation.local_model import LocalModel

    index = OpenIndex(args.index, download=args.download, kv_ram=args.kv_ram, kv_disk=args.kv_disk)
    try:
        if args.data is None:
            questions = questions_of_passages(index.passages, args.limit, args.seed)
        else:
            questions = questions_of_data(args.data, args.limit, args.seed)
        if not args.quiet and not args.json:
            remark("loading the model …")
        budget = args.kv_ram // 2
        lm = LocalModel.open(args.model, args.dtype, args.download, budget, args.adapter)
        with pipeline.bind(index=index, lm=lm) as bound:
            report = calibrate(
                bound,
                questions,
                lm,
                fingerprint=index.fingerprint,
                tried=tried,
                budget_ms=args.budget,
                seed=args.seed,
                progress=watched,
            )
            if not args.quiet and not args.json:
                for note in bound.notes:
                    remark(note)
            return report
    finally:
        index.close()


def _given(args: argparse.Namespace) -> list[str]:
    """Return the arguments that the outcome depends on."""
    given = ["-i", str(args.index), "-p", args.pipeline, f"--model={args.model}"]
    if args.data is not None:
        given.append(f"--data={args.data}")
    if args.budget is not None:
        given.append(f"--budget={args.budget:g}")
    if args.adapter != "auto":
        given.append(f"--adapter={args.adapter}")
    return [*given, *(f"--try={one}" for one in args.tried), f"--limit={args.limit}",
            f"--seed={args.seed}"]  # fmt: skip


def _added(recipe: "Pipeline", answering: "Pipeline", step: str) -> list[str] | None:
    """Return the operators that come between a recipe that ends with passages and its generator."""
    if step in recipe.checked.steps:
        return None
    found = answering.checked.steps.items()
    return [
        bound.spec.name for id_, bound in found if id_ not in recipe.checked.steps and id_ != step
    ]


def _draw(report: "CalibrationReport", args: argparse.Namespace) -> None:
    """Print a table of the best settings, and the outcome in words."""
    loss = ("NLL", "+NLL") if report.labelled else ("KL",)
    header = ("", "TTFT ms", *loss, "low", "high", *(("F1",) if report.labelled else ()))
    rows = []
    for tried in report.results:
        one = tried.compared
        mark = "> " if one.name == report.chosen else "* " if tried.on_front else "  "
        cells = [f"{mark}{one.name}", f"{one.ttft_ms:.1f}"]
        if report.labelled:
            cells.append(number(one.loss))
        signed = report.labelled
        cells += [number(value, sign=signed) for value in (one.gap.mean, one.gap.low, one.gap.high)]
        if report.labelled:
            cells.append("" if one.f1 is None else number(one.f1))
        rows.append(cells)
    draw_table(header, rows)
    say("> chosen, * nothing is both faster and closer to sequential; nats a token, 95 % intervals")
    say()
    for sentence in report.says:
        say(sentence)
    remark(f"wrote {args.out}" + (f" and {args.picture}" if args.picture else ""))
