"""`dovetail run`: run a pipeline file or a recipe, once or for a file of inputs."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments
from pipelines.cli.pipeline_arguments import (
    add_pipeline_arguments,
    add_resource_arguments,
    loaded,
)
from pipelines.cli.runs import add_trace_arguments, check_trace_arguments, keep_trace, new_trace
from pipelines.cli.terminal import plural, progress, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline
    from pipelines.flow.result import Result

_EXAMPLE = """\
Recipes leave `index` and `lm` open: -i and --model bind them. The steps' options are --set.
With --inputs, items are run together, --batch at a time; what is in --out already is not run again.

examples:
  dovetail run hybrid "What did we decide about backups?" -i notes.idx --model smollm2-135m
  dovetail run mine.yaml --input query="…" --set retrieve.top_k=5 --html run.html
  dovetail run hybrid --inputs questions.jsonl --out answers.jsonl -i notes.idx --model …"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("pipeline", metavar="FILE", help="pipeline file, or name of a recipe")
    parser.add_argument("query", metavar="QUESTION", nargs="?", help="short for --input query=…")
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="inputs",
        help="an input: a text, or JSON for a record; may be repeated",
    )
    parser.add_argument(
        "--inputs", metavar="FILE", type=Path, dest="many", help="JSON lines, one item each"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="JSON lines of results, with --inputs"
    )
    parser.add_argument(
        "--batch", metavar="N", type=int, default=16, help="items run together (default: 16)"
    )
    add_pipeline_arguments(parser)
    add_trace_arguments(parser)
    add_resource_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run, and print or write the outputs."""
    if (args.many is None) != (args.out is None):
        raise UsageError("--inputs and --out belong together, got only one of them")
    if args.many is not None and (args.inputs or args.query):
        raise UsageError("give --inputs, or one item by QUESTION and --input, not both")
    if args.batch < 1:
        raise UsageError(f"--batch must be at least 1, got {args.batch}")
    check_trace_arguments(args)
    with loaded(args, args.pipeline) as pipeline:
        pipeline.require_valid()
        if args.many is not None:
            return _run_many(pipeline, args)
        return _run_one(pipeline, args)


def _run_one(pipeline: "Pipeline", args: argparse.Namespace) -> int:
    given = _inputs(pipeline, args)
    trace = new_trace(pipeline, args)
    try:
        with progress(quiet=args.quiet or args.json):
            result = pipeline.run(trace=trace, **given)
    except ValueError as error:
        raise UsageError(str(error)) from error
    finally:
        keep_trace(trace, args)
    if args.json:
        say_json({"pipeline": pipeline.name, "outputs": outputs_json(result)})
    else:
        _draw(result)
    return 0


def _inputs(pipeline: "Pipeline", args: argparse.Namespace) -> dict[str, Any]:
    types = pipeline.definition.inputs
    given: dict[str, Any] = {} if args.query is None else {"query": args.query}
    for text in args.inputs:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--input must be NAME=VALUE, got {text!r}")
        if name in given:
            raise UsageError(f"input {name!r} is given twice")
        given[name] = value if types.get(name) in ("Query", "str", None) else _json(name, value)
    return given


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"input {name!r} must be JSON: {error}, got {text!r}") from error


def _run_many(pipeline: "Pipeline", args: argparse.Namespace) -> int:
    """Run the lines of a file that are not in the output yet; every batch is written at once."""
    from pipelines.flow.result import StepFailedError

    items = list(_lines(args.many))
    done = {row["id"] for _, row in _lines(args.out)} if args.out.exists() else set()
    waiting = [(id_, row) for id_, row in items if id_ not in done]
    failed = 0
    with (
        progress(quiet=args.quiet or args.json) as watched,
        args.out.open("a", encoding="utf-8") as out,
    ):
        watched.stage("items", len(waiting))
        for start in range(0, len(waiting), args.batch):
            part = waiting[start : start + args.batch]
            inputs = [{name: v for name, v in row.items() if name != "id"} for _, row in part]
            try:
                results = pipeline.batch(inputs, on_error="return")
            except ValueError as error:
                raise UsageError(f"{args.many}: {error}") from error
            for (id_, _), result in zip(part, results, strict=True):
                if isinstance(result, StepFailedError):
                    failed += 1
                    row: dict[str, Any] = {"id": id_, "error": str(result)}
                else:
                    row = {"id": id_, "outputs": outputs_json(result)}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            watched.advance(len(part))
    if args.json:
        say_json(
            {"out": str(args.out), "run": len(waiting), "skipped": len(done), "failed": failed}
        )
    else:
        say(f"{args.out}: {plural(len(waiting), 'item')} run, {len(done)} were there")
    if failed:
        remark(f"{plural(failed, 'item')} failed; the lines say why")
    return 1 if failed else 0


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the fields of each line; without an id, the number of the line is it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path}:{number}: must be a JSON object, got {line.strip()[:40]}")
        yield str(row.get("id", number)), row


def outputs_json(result: "Result") -> dict[str, Any]:
    """Return a run's outputs as plain JSON; an answer has the keys that `dovetail ask` gives it."""
    from pipelines.cli.answers import as_json
    from rag.record_json import to_json
    from rag.records import Answer

    return {
        name: as_json(value) if isinstance(value, Answer) else to_json(value)
        for name, value in result.outputs.items()
    }


def _draw(result: "Result") -> None:
    from pipelines.cli.answers import draw, draw_passages
    from rag.ranking import Ranking
    from rag.record_json import to_json
    from rag.records import Answer, Passage

    for name, value in result.outputs.items():
        if isinstance(value, Answer):
            draw(value)
        elif isinstance(value, Ranking) and not value:
            say("no passage found")
        elif isinstance(value, list) and value and isinstance(value[0], Passage):
            draw_passages(value)
        else:
            say(f"{name}: {json.dumps(to_json(value), ensure_ascii=False)}")
