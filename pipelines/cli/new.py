"""`dovetail new`: a copy of a recipe, to edit."""

import argparse
from pathlib import Path

from pipelines.cli.arguments import UsageError
from pipelines.cli.terminal import remark, say

_EXAMPLE = """\
examples:
  dovetail new mine --from iter-retgen      writes mine.yaml
  dovetail new --list                       the recipes"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("name", metavar="NAME", nargs="?", help="the file is NAME.yaml, here")
    parser.add_argument(
        "--from", metavar="RECIPE", dest="recipe", default="ask", help="default: ask"
    )
    parser.add_argument("--list", action="store_true", help="list the recipes")


def run(args: argparse.Namespace) -> int:
    """Write the copy."""
    from pipelines.definition.compose import recipes
    from pipelines.definition.recipes import about, recipe_path

    if args.list or args.name is None:
        for name in recipes():
            say(f"{name:<26} {about(name)}")
        return 0 if args.list else _refuse("give the new pipeline a NAME, or --list")
    path = Path(args.name if args.name.endswith((".yaml", ".yml")) else f"{args.name}.yaml")
    text = recipe_path(args.recipe).read_text(encoding="utf-8")
    text = text.replace("$schema=../", "$schema=./")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; choose another name") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    say(str(path))
    remark("for completion in your editor: dovetail schema > pipeline.schema.json")
    remark(f"check it with `dovetail check {path}`, run it with `dovetail run {path} …`")
    return 0


def _refuse(message: str) -> int:
    raise UsageError(message)
