"""`dovetail schema`: the JSON Schema of pipeline files, for editors."""

import argparse
from pathlib import Path

from pipelines.cli.terminal import say_json

_EXAMPLE = """\
example:
  dovetail schema > pipeline.schema.json
and as the first line of a pipeline file:
  # yaml-language-server: $schema=./pipeline.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        dest="plugins",
        help="a Python file with operators of your own; it is run",
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema (draft-07), installed plugins included."""
    from pipelines.catalogue.plugins import with_plugins
    from pipelines.definition.schema import schema

    say_json(schema(with_plugins(args.plugins)))
    return 0
