"""`dovetail eval`: ask a pipeline the questions of a data folder, and score what it does."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.metric_table import draw_table, number
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.terminal import plural, progress, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.evaluating.asking import PipelineAsker
    from pipelines.evaluating.curve import CurveAsker, CurvePoint
    from pipelines.progress import Progress
    from rag.evaluation.data import Question
    from rag.evaluation.pruning_curve import PruningCurve
    from rag.evaluation.rows import Row
    from rag.evaluation.statistics import Interval

_EXAMPLE = """\
DATA is a folder with corpus.jsonl, queries.jsonl (each may end in .gz) and qrels.tsv. Its index is
made the first time, in the cache; the folder itself is only read. Interrupted with --out, the next
run goes on. --limit draws the same questions for every recipe.

examples:
  dovetail eval naive data/squad --limit 100
  dovetail eval naive data/squad --limit 100 --set retrieve.top_k=5 --out five.jsonl
  dovetail eval my-pipeline.yaml data/squad --trec run.txt --json
  dovetail eval ask data/hotpotqa --curve curve.svg"""
_LISTED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a pipeline file")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of evaluation data")
    parser.add_argument(
        "--limit", metavar="N", type=int, help="ask a random sample of N questions (default: all)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the sample and the intervals"
    )
    parser.add_argument(
        "--set",
        metavar="STEP.OPTION=VALUE",
        action="append",
        default=[],
        dest="sets",
        help="change an option of a step; may be given several times",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write a JSON line a question")
    parser.add_argument("--trec", metavar="FILE", type=Path, help="write rankings as a TREC run")
    parser.add_argument(
        "--curve",
        metavar="FILE.svg",
        nargs="?",
        const="",
        help="what other thresholds of the pruner would keep, also as a picture",
    )
    parser.add_argument(
        "--unanswerable",
        action="store_true",
        help="ask the questions of unanswerable.jsonl too",
    )
    parser.add_argument(
        "--answers",
        action="store_true",
        help="generate answers even if the data knows none (default: end at the passages then)",
    )
    add_model_arguments(parser)
    parser.set_defaults(model=None)  # a pipeline file may name its own
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, score and print."""
    _check(args)
    from rag.evaluation.data import read_questions, sample
    from rag.evaluation.rows import summarise

    questions = sample(
        read_questions(args.data, unanswerable=args.unanswerable), args.limit, args.seed
    )
    rows, model, left_out, curve = _rows(args, questions)
    if args.trec is not None:
        from pipelines.evaluating.runner import write_run

        with refused_arguments():
            write_run(args.trec, rows, tag="-".join(Path(args.recipe).stem.split()))
    summary = summarise(rows, seed=args.seed)
    points: list[CurvePoint] = []
    if curve is not None:
        from pipelines.evaluating.curve import curve_metrics, curve_points

        summary |= curve_metrics(curve, seed=args.seed)
        points = curve_points(curve)
        if args.curve:
            _write_picture(args, curve)
    failed = [row for row in rows if row.error is not None]
    if args.json:
        told = {"curve": [asdict(point) for point in points]} if points else {}
        say_json(as_json(args, rows, summary, model) | {"left_out": left_out} | told)
    else:
        say(f"{args.recipe} on {args.data}: {plural(len(rows), 'question')}, seed {args.seed}")
        _draw(summary)
        if points:
            _draw_points(points)
    for row in failed[:_LISTED]:
        remark(f"failed {row.id}: {row.error}")
    if failed:
        remark(f"{plural(len(failed), 'question')} of {len(rows):,} failed and count as 0")
    return 1 if len(failed) == len(rows) else 0


def as_json(
    args: argparse.Namespace,
    rows: Sequence["Row"],
    summary: Mapping[str, "Interval"],
    model: str | None,
) -> dict[str, Any]:
    """Return what programs may rely on: the keys that the documentation lists."""
    return {
        "recipe": args.recipe,
        "data": str(args.data),
        "n": len(rows),
        "seed": args.seed,
        "limit": args.limit,
        "set": args.sets,
        "model": model,
        "errors": sum(row.error is not None for row in rows),
        "metrics": {name: asdict(interval) for name, interval in summary.items()},
    }


def _check(args: argparse.Namespace) -> None:
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit must be at least 1, got {args.limit}")
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.curve and Path(args.curve).suffix != ".svg":
        raise UsageError(
            f"--curve must name a file that ends in .svg, got {args.curve}; without one it stands "
            "after RECIPE and DATA"
        )
    for name in ("out", "trec", "curve"):
        if not getattr(args, name):
            continue
        path = Path(getattr(args, name))
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--{name} must be in a folder that exists, got {path}")
        if path.is_dir():
            raise UsageError(f"--{name} must be a file, got the folder {path}")
        if path.resolve().is_relative_to(args.data.resolve()):
            raise UsageError(f"--{name} must not be in the data folder, got {path}")


def _rows(
    args: argparse.Namespace, questions: Sequence["Question"]
) -> tuple[list["Row"], str | None, tuple[str, ...], "PruningCurve | None"]:
    """Return the rows of all questions, the model's name, steps that were left out, the curve."""
    from pipelines.evaluating.runner import run_questions
    from rag.evaluation.rows import RowLog

    quiet = args.quiet or args.json
    with ExitStack() as stack:
        watched = stack.enter_context(progress(quiet=quiet))
        judged = args.answers or any(q.answers or q.unanswerable for q in questions)
        asker = stack.enter_context(_asker(args, watched, answers=judged))
        if asker.left_out and not quiet:
            remark(
                f"no question has a known answer: {', '.join(asker.left_out)} left out "
                "(--answers runs all)"
            )
        ask, log = _scored(args, asker), None
        if args.out is not None:
            ids = [question.id for question in questions]
            log = stack.enter_context(RowLog(args.out, config=asker.config, ids=ids))
            if log.done and not quiet:
                remark(f"{args.out}: {plural(len(log.done), 'question')} asked before")
            if ask is not None:
                _refuse_unscored(args, ask, [q for q in questions if q.id in log.done])

        def projected(seconds: float) -> None:
            if not quiet:
                remark(f"{plural(len(questions), 'question')}: about {duration(seconds)} to go")

        rows = run_questions(
            questions,
            asker if ask is None else ask,
            config=asker.config,
            log=log,
            progress=watched,
            projected=projected,
        )
        with refused_arguments():
            curve = None if ask is None else ask.curve(questions)
        return rows, asker.model, asker.left_out, curve


def _scored(args: argparse.Namespace, asker: "PipelineAsker") -> "CurveAsker | None":
    """Return what asks and keeps the scores of sentences, if they are wanted."""
    if args.curve is None:
        return None
    from pipelines.evaluating.curve import SUFFIX, CurveAsker

    log = None if args.out is None else args.out.with_name(args.out.name + SUFFIX)
    return CurveAsker(asker, config=asker.config, log=log)


def _refuse_unscored(
    args: argparse.Namespace, ask: "CurveAsker", done: Sequence["Question"]
) -> None:
    """Refuse to go on with rows that were written without the scores of their sentences."""
    if missing := ask.missing(done):
        raise UsageError(
            f"{args.out} holds {plural(len(missing), 'question')} asked without --curve, such as "
            f"{missing[0]!r}; give another --out, or delete it"
        )


def _write_picture(args: argparse.Namespace, curve: "PruningCurve") -> None:
    from pipelines.drawing.line_chart import Panel, line_chart
    from pipelines.evaluating.curve import RECALL, curve_line, curve_point
    from rag.files import write_atomically

    name = Path(args.recipe).stem
    at = curve_point(curve, curve.threshold(RECALL))
    panel = Panel(
        f"{name} on {args.data.name}",
        {name: curve_line(curve)},
        {name: (at.kept, at.sentence_recall)},
    )
    image = line_chart(
        [panel],
        title="Gold sentences kept against tokens kept, over all thresholds",
        across="tokens kept",
        up="gold sentences kept",
    )
    with refused_arguments():
        write_atomically(Path(args.curve), lambda file: file.write(image.encode()), mode=0o644)


def _asker(args: argparse.Namespace, watched: "Progress", *, answers: bool) -> "PipelineAsker":
    from pipelines.cli.index import LateEncoder
    from pipelines.evaluating.asking import ModelChoice, pipeline_asker

    return pipeline_asker(
        args.recipe,
        args.data,
        encoder=LateEncoder("minilm", download=args.download),
        sets=args.sets,
        choice=ModelChoice(
            args.model, args.dtype, args.download, args.kv_ram, args.kv_disk, args.adapter
        ),
        answers=answers,
        progress=watched,
    )


def duration(seconds: float) -> str:
    """Return a time as a person reads it: `40 s`, `12 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _draw_points(points: Sequence["CurvePoint"]) -> None:
    say()
    draw_table(
        ("threshold", "SentR", "SentP", "Kept", "AllGold", "AnswerKept"),
        [
            (
                f"{point.threshold:.4g}",
                number(point.sentence_recall),
                number(point.sentence_precision),
                number(point.kept),
                number(point.all_gold),
                "" if point.answer_kept is None else number(point.answer_kept),
            )
            for point in points
        ],
    )


def _draw(summary: Mapping[str, "Interval"]) -> None:
    draw_table(
        ("metric", "mean", "low", "high", "n"),
        [
            (name, number(i.mean), number(i.low), number(i.high), str(i.n))
            for name, i in summary.items()
        ],
    )
