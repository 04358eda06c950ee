"""What the commands that run a pipeline keep of a run: its trace, and a page that shows it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.arguments import UsageError
from pipelines.cli.terminal import remark

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline
    from rag.tracing import Trace


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--trace`, `--trace-content` and `--html`."""
    group = parser.add_argument_group("trace")
    group.add_argument(
        "--trace",
        metavar="FILE",
        help="where to write it; `none` writes none (default: the cache, "
        "`dovetail inspect last` shows it)",
    )
    group.add_argument(
        "--trace-content",
        choices=("all", "none"),
        default="all",
        help="none leaves texts out: ids, names and numbers only",
    )
    group.add_argument("--html", metavar="FILE", type=Path, help="write a page that shows the run")


def check_trace_arguments(args: argparse.Namespace) -> None:
    """Refuse a folder that does not exist, before anything runs.

    Raises:
        UsageError: if there is none.
    """
    for name, path in (("--trace", args.trace), ("--html", args.html)):
        if path not in (None, "none") and not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{name} must be in a folder that exists, got {path}")


def new_trace(pipeline: "Pipeline", args: argparse.Namespace) -> "Trace":
    """Return the trace that the arguments ask for."""
    return pipeline.new_trace(content=args.trace_content == "all")


def keep_trace(trace: "Trace", args: argparse.Namespace) -> None:
    """Write a trace where the arguments say; a run that failed has one too."""
    if args.trace is None:
        trace.save()
    elif args.trace != "none":
        trace.write(Path(args.trace))
    if args.html is not None:
        from rag.files import write_atomically
        from rag.tracing.html import page

        content = page(trace).encode("utf-8", "backslashreplace")
        write_atomically(args.html, lambda file: file.write(content))
        if not args.quiet:
            remark(f"the run as a page: {args.html}")
