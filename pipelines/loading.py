"""Pipeline files and recipes to pipelines: loaded, checked, and refused with every mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pipelines.catalogue.spec import Catalogue
from pipelines.catalogue.table import catalogue as own_catalogue
from pipelines.definition.compose import is_recipe_name
from pipelines.definition.load import Loaded, load_definition, load_text, secrets
from pipelines.flow.blocks import Definition
from pipelines.flow.check import check
from pipelines.flow.diagnostics import InvalidPipelineError, Mistake, in_order
from pipelines.flow.naming import identified

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
    return _pipeline(load_definition(source, sets=sets, environ=environ), catalogue)


def load_answering(
    source: str | Path,
    *,
    sets: Sequence[str] = (),
    catalogue: Catalogue | None = None,
    environ: Mapping[str, str] | None = None,
) -> Pipeline:
    """Return a pipeline that answers: one that ends with passages is continued as `ask` does.

    Its sentences are then pruned, unless it prunes itself, and an answer is generated; `sets` may
    change these steps too. Arguments and errors are those of `load_pipeline`.
    """
    before, _ = load_definition(source, environ=environ)
    if before is None or "answer" in before.outputs or "passages" not in before.outputs:
        return load_pipeline(source, sets=sets, catalogue=catalogue, environ=environ)
    shipped = isinstance(source, str) and is_recipe_name(source)
    uses = [getattr(step, "use", "") for step in identified(before.steps)]
    prunes = any(str(use).startswith("prune.") for use in uses)
    data = {
        "version": 1,
        "extends": str(source) if shipped else Path(source).name,
        "steps": [*([] if prunes else ["prune.features"]), "generate.cached"],
        "outputs": ["answer"],
    }
    loaded = load_text(
        yaml.safe_dump(data, sort_keys=False),
        sets=sets,
        environ=environ,
        file=str(source),
        folder=None if shipped else Path(source).resolve().parent,
    )
    return _pipeline(loaded, catalogue)


def checked_definition(
    source: str | Path,
    *,
    sets: Sequence[str] = (),
    catalogue: Catalogue | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Definition | None, list[Mistake]]:
    """Return what a file defines, if that can be told, and every mistake in it; see `check`."""
    return _checked(load_definition(source, sets=sets, environ=environ), catalogue)


def _pipeline(loaded: Loaded, catalogue: Catalogue | None) -> Pipeline:
    """Return the pipeline of a definition, or raise InvalidPipelineError with what is wrong."""
    from pipelines.flow.pipeline import Pipeline

    definition, mistakes = _checked(loaded, catalogue)
    errors = [mistake for mistake in mistakes if mistake.level == "error"]
    if errors or definition is None:
        raise InvalidPipelineError(errors)
    return Pipeline.of(definition, catalogue=catalogue, secrets=secrets(definition))


def _checked(loaded: Loaded, catalogue: Catalogue | None) -> Loaded:
    definition, mistakes = loaded
    if definition is not None:
        found = check(definition, catalogue or own_catalogue())
        mistakes = in_order([*mistakes, *found.mistakes])
    return definition, mistakes
