"""`dovetail graph`: draw a pipeline."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.arguments import UsageError
from pipelines.cli.terminal import remark, say

if TYPE_CHECKING:
    from pipelines.drawing import Form

_EXAMPLE = """\
This draws a pipeline; recipe `graph` is corpus-graph retrieval; --mode graph is Graph-KV.
Nothing is loaded but the file; no network is needed.

examples:
  dovetail graph advanced
  dovetail graph my.yaml --form svg -o my.svg
  dovetail graph my.yaml --form mermaid       for Markdown that renders Mermaid"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("pipeline", metavar="FILE|RECIPE", help="pipeline file, or a recipe's name")
    parser.add_argument(
        "--form",
        choices=("text", "svg", "mermaid"),
        help="what to draw (default: by the name of -o, else text)",
    )
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="write it to a file")


def run(args: argparse.Namespace) -> int:
    """Draw."""
    from pipelines.catalogue.table import catalogue
    from pipelines.definition.load import load_definition
    from pipelines.drawing import draw
    from pipelines.flow.diagnostics import InvalidPipelineError
    from rag.files import write_atomically

    form: Form = args.form or _form_of(args.out)
    if args.out is not None and not args.out.absolute().parent.is_dir():
        raise UsageError(f"--out must be in a folder that exists, got {args.out}")
    definition, mistakes = load_definition(args.pipeline)
    if definition is None:
        raise InvalidPipelineError(mistakes)
    for mistake in mistakes:
        remark(str(mistake))
    drawing = draw(definition, form, catalogue().operators).rstrip("\n")
    if args.out is None:
        say(drawing)
    else:
        content = f"{drawing}\n".encode("utf-8", "backslashreplace")
        write_atomically(args.out, lambda file: file.write(content), mode=0o644)
    return 0


def _form_of(out: Path | None) -> "Form":
    suffixes: dict[str, Form] = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid"}
    return "text" if out is None else suffixes.get(out.suffix.lower(), "text")
