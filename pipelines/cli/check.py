"""`dovetail check`: find every mistake in a pipeline file, without loading anything."""

import argparse

from pipelines.cli.pipeline_arguments import add_pipeline_arguments
from pipelines.cli.terminal import plural, remark, say

FORMATS = ("text", "json", "github")
_EXAMPLE = """\
Operators, options, types and variables are checked through every loop, map and branch, and all
mistakes are reported at once. Nothing is loaded. Exit status: 0 without mistakes, 2 with.

examples:
  dovetail check my-pipeline.yaml
  dovetail check my-pipeline.yaml --set retrieve.top_k=5 --format github"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("files", metavar="FILE", nargs="+", help="pipeline file or recipe")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Check and report."""
    from pipelines.catalogue.table import catalogue
    from pipelines.flow.diagnostics import Mistake, as_github, as_json, as_text
    from pipelines.loading import checked_definition

    known = catalogue()
    if args.plugins:
        from pipelines.catalogue.plugins import with_plugins

        known = with_plugins(args.plugins)
    mistakes: list[Mistake] = []
    for file in args.files:
        _, checked = checked_definition(file, sets=args.sets, catalogue=known)
        mistakes.extend(checked)
        if args.format == "text" and not checked:
            remark(f"{file}: no mistakes")
    errors = [mistake for mistake in mistakes if mistake.level == "error"]
    if args.format == "json":
        say(as_json(mistakes))
    elif mistakes:
        say(as_github(mistakes) if args.format == "github" else as_text(mistakes))
    if errors and args.format == "text":
        remark(f"\n{plural(len(errors), 'mistake')}")
    return 2 if errors else 0
