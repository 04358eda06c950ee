"""Pipeline files and recipes to pipelines: loaded, checked, and refused with every mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.catalogue.spec import Catalogue
from pipelines.catalogue.table import catalogue as own_catalogue
from pipelines.definition.load import load_definition, secrets
from pipelines.flow.blocks import Definition
from pipelines.flow.check import check
from pipelines.flow.diagnostics import InvalidPipelineError, Mistake, in_order

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline


def load_pipeline(
    source: str | Path,
    *,
    sets: Sequence[str] = (),
    catalogue: Catalogue | None = None,
    environ: Mapping[str, str] | None = None,
) -> Pipeline:
    """Return a pipeline; nothing is loaded until it runs.

    Args:
        source: path of a file, or name of a shipped recipe: a text with neither suffix nor slash.
        sets: overrides such as `retrieve.top_k=5`, as of `--set`.
        catalogue: operators that it may name; by default those that come with Dovetail.
        environ: what `${env:NAME}` reads; the environment of the process by default.

    Raises:
        InvalidPipelineError: with every mistake and where it is.
    """
    from pipelines.flow.pipeline import Pipeline

    definition, mistakes = checked_definition(
        source, sets=sets, catalogue=catalogue, environ=environ
    )
    errors = [mistake for mistake in mistakes if mistake.level == "error"]
    if errors or definition is None:
        raise InvalidPipelineError(errors)
    return Pipeline.of(definition, catalogue=catalogue, secrets=secrets(definition))


def checked_definition(
    source: str | Path,
    *,
    sets: Sequence[str] = (),
    catalogue: Catalogue | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Definition | None, list[Mistake]]:
    """Return what a file defines, if that can be told, and every mistake in it; see `check`."""
    definition, mistakes = load_definition(source, sets=sets, environ=environ)
    if definition is not None:
        found = check(definition, catalogue or own_catalogue())
        mistakes = in_order([*mistakes, *found.mistakes])
    return definition, mistakes
