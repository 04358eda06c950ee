"""Pipeline files that commands write: what they extend, and options that are tried for them."""

import os
from pathlib import Path
from typing import Any

from pipelines.cli.arguments import UsageError


def check_out(out: Path) -> None:
    """Make sure that a file can be written.

    Raises:
        UsageError: if it is a folder, or in a folder that does not exist.
    """
    if out.is_dir():
        raise UsageError(f"--out must be a file, got the folder {out}")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out must be in a folder that exists, got {out}")


def extended_name(recipe: str, out: Path) -> str:
    """Return what a new file calls the recipe: its name, or its path from the new file.

    Raises:
        UsageError: if a file there cannot extend it.
    """
    from pipelines.definition.compose import is_recipe_name

    if is_recipe_name(recipe):
        return recipe
    path, folder = Path(recipe).resolve(), out.resolve().parent
    if path == out.resolve():
        raise UsageError(f"--out must not be the pipeline itself, got {out}")
    if not path.is_relative_to(folder):
        raise UsageError(
            f"--out must be in the folder of {recipe} or above it, as a file extends files below "
            f"its own folder only, got {out}"
        )
    return os.path.relpath(path, folder)


def tried_options(given: list[str]) -> dict[str, list[Any]] | None:
    """Return the values of each option that `--try OPTION=A,B,…` names; None if there is none.

    Raises:
        UsageError: for another form.
    """
    import yaml

    found: dict[str, list[Any]] = {}
    for one in given:
        name, equals, values = one.partition("=")
        try:
            read = [yaml.safe_load(value) for value in values.split(",")]
        except yaml.YAMLError as error:
            raise UsageError(f"--try {one}: {error}") from error
        if not (name and equals and values) or any(isinstance(v, (list, dict)) for v in read):
            raise UsageError(f"--try takes OPTION=A,B,…, got {one!r}")
        found[name] = read
    return found or None
