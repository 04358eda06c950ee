"""Third-party operators: from a file that the user names, or from installed distributions."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.catalogue.describe import describe
from pipelines.catalogue.spec import Catalogue, OperatorSpec
from pipelines.catalogue.table import catalogue
from rag.errors import DovetailError
from rag.records import text_sha
from rag.short_names import name_of

GROUP = "dovetail.operators"


class PluginError(DovetailError):
    """A plugin that cannot be loaded, or that takes a name which is taken."""


def with_plugins(files: Iterable[Path] = (), *, installed: bool = True) -> Catalogue:
    """Return the catalogue with third-party operators.

    A file runs as Python: it is code that the user names on the command line, never one that a
    pipeline file names. Everything in it that `rag.short_names.operator` named becomes an operator.

    Args:
        files: plugin files.
        installed: whether to add operators of installed distributions, entry points in the group
            `dovetail.operators` whose names are short names.

    Raises:
        PluginError: naming the file or distribution and what is wrong.
    """
    own = catalogue()
    added: dict[str, OperatorSpec] = {}
    loaded: dict[str, Callable[..., Any]] = {}
    for name, found, source in _found(files, installed=installed):
        if name in own.operators or name in added:
            raise PluginError(f"{source}: the operator name {name!r} is taken")
        added[name] = _described(name, found, source)
        loaded[name] = found
    return Catalogue({**own.operators, **added}, own.resources, loaded)


def _found(files: Iterable[Path], *, installed: bool) -> Iterator[tuple[str, Any, str]]:
    """Yield the short name of each operator, what makes it, and where it is from."""
    for file in files:
        for found in _of_file(file):
            yield name_of(found), found, str(file)
    if not installed:
        return
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
        except Exception as error:
            raise PluginError(
                f"the operator {entry.name!r} of {entry.value} cannot be loaded: {error}"
            ) from error
        yield entry.name, found, entry.value


def _of_file(file: Path) -> list[Any]:
    if not file.is_file():
        raise PluginError(f"no plugin file {file}")
    # Two files may have the same name, in different folders.
    known_as = f"dovetail_plugin_{text_sha(str(file.resolve()))[:12]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(known_as, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[known_as] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[known_as]
        raise PluginError(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
    named = {id(found): found for found in vars(module).values() if name_of(found)}
    if not named:
        raise PluginError(f'{file} names no operator; put @operator("module.name") before one')
    return list(named.values())


def _described(name: str, found: Any, source: str) -> OperatorSpec:
    try:
        return describe(found, name, target=_target(found), submodule="plugin")
    except ValueError as error:
        raise PluginError(f"{source}: {error}") from error


def _target(found: Any) -> str:
    of = found if inspect.isroutine(found) or inspect.isclass(found) else type(found)
    return f"{of.__module__}:{of.__qualname__}"
