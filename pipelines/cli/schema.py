"""`dovetail schema`: the JSON Schema of pipeline files, for editors."""

import argparse

from pipelines.cli.pipeline_arguments import add_plugin_argument
from pipelines.cli.terminal import say_json

_EXAMPLE = """\
example:
  dovetail schema > pipeline.schema.json
and as the first line of a pipeline file:
  # yaml-language-server: $schema=./pipeline.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    add_plugin_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the schema (draft-07), installed plugins included."""
    from pipelines.catalogue.plugins import with_plugins
    from pipelines.definition.schema import schema

    say_json(schema(with_plugins(args.plugins)))
    return 0
