"""A pipeline file, or a shipped recipe by its name: its definition and all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipelines.definition.compose import Files, Origin, is_recipe_name, recipe, recipes
from pipelines.definition.document import read_text
from pipelines.definition.grammar import Grammar
from pipelines.definition.interpolate import Interpolation
from pipelines.definition.nodes import Fields, Items, Node, Scalar, shape
from pipelines.definition.overrides import Overrides, read_overrides
from pipelines.flow.blocks import Definition, Source
from pipelines.flow.conditions import AllOf, AnyOf, Judged, Negation, Test
from pipelines.flow.diagnostics import Mistake, Place, in_order, nearest
from pipelines.flow.naming import named, repeated

Loaded = tuple[Definition | None, list[Mistake]]


def load_definition(
    source: str | Path, *, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """Return a pipeline, every step with its id, and everything wrong with it, by place.

    The definition is None if a part of it could not be built, so that checking it would only
    report what follows from that; else it can be checked even if there are mistakes.

    Args:
        source: path of a file, or name of a shipped recipe: a text with neither suffix nor slash.
        sets: overrides, `id.option=value`, as of `--set`.
        environ: what `${env:NAME}` reads; the environment of the process by default.
    """
    if isinstance(source, str) and is_recipe_name(source):
        origin = recipe(source)
        if origin is None:
            message = f"there is no recipe {source!r}"
            hint = nearest(source, recipes()) or "a file has a suffix"
            return None, [Mistake("unknown-recipe", message, None, hint)]
    else:
        origin = Origin(Path(source).resolve(), str(source))
    assert origin.path is not None
    loader = _Loader(Files(origin.path.parent), environ)
    return loader.load(origin, None, sets)


def load_text(
    text: str,
    *,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    file: str = "<text>",
    folder: Path | None = None,
) -> Loaded:
    """Return the pipeline that a text describes; otherwise as `load_definition`.

    Args:
        text: YAML.
        sets: overrides.
        environ: what `${env:NAME}` reads.
        file: what places call the text.
        folder: where the files lie that it extends, includes or nests; without it only recipes.
    """
    root, mistakes = read_text(text, file)
    loader = _Loader(Files(None if folder is None else folder.resolve()), environ, mistakes)
    if root is None:
        return None, in_order(mistakes)
    return loader.load(Origin(None, file), root, sets)


def secrets(definition: Definition) -> frozenset[str]:
    """Return the values of the environment inside options, variables and conditions.

    A trace masks them. What came from a default in the file is no secret.
    """
    found: set[str] = set()
    _gather(definition, found)
    return frozenset(found)


def _gather(value: Any, found: set[str]) -> None:
    if isinstance(value, Scalar):
        found.update(value.secrets)
    elif isinstance(value, (Source, Test, AllOf, AnyOf, Negation, Judged)):
        for one in fields(value):
            _gather(getattr(value, one.name), found)
    else:
        for inside in _inside(value):
            _gather(inside, found)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Items):
        return value.items
    if isinstance(value, Fields):
        return value.values.values()
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


@dataclass
class _Loader:
    files: Files
    environ: Mapping[str, str] | None
    mistakes: list[Mistake] = field(default_factory=list)

    def load(self, origin: Origin, root: Node | None, sets: Sequence[str]) -> Loaded:
        overrides = read_overrides(sets)
        try:
            composed = (
                self.files.composed(origin, ())
                if root is None
                else self.files.completed(root, origin, ())
            )
            definition = self._built(composed, (origin,), overrides, {})
        except RecursionError:
            place = Place(origin.file, 1, 1)
            self.mistakes.append(Mistake("too-large", "files and values nest too deep", place))
            definition = None
        if not self.files.whole:
            definition = None
        if definition is not None:
            definition = replace(definition, overrides=tuple(sets))
        return definition, in_order([*self.mistakes, *self.files.mistakes])

    def _built(
        self,
        root: Fields | None,
        chain: tuple[Origin, ...],
        overrides: Overrides,
        given: Mapping[str, Node],
    ) -> Definition | None:
        if root is None:
            self.mistakes.extend(overrides.mistakes)
            return None
        root = overrides.on_variables(root)
        self._check_variables(root, given)
        values = Interpolation(root.values.get("vars"), given=given, environ=self.environ)
        variables = values.all_variables()
        resolved = self._resolved(root, overrides, values)
        if resolved is None:
            return None
        grammar = Grammar(lambda key, target, inner: self._nested(key, target, inner, chain))
        name = Path(chain[-1].file).stem if chain[-1].path is not None else "pipeline"
        definition = grammar.definition(resolved, name, variables)
        self.mistakes.extend([*grammar.mistakes, *repeated(definition)])
        return named(definition) if grammar.whole else None

    def _resolved(self, root: Fields, overrides: Overrides, values: Interpolation) -> Fields | None:
        resolved = values.resolved(root.without("vars"))
        assert isinstance(resolved, Fields)
        resolved = overrides.on_resources(resolved, values)
        resolved = overrides.on_steps(resolved, values)
        fits = values.bounded(resolved)
        self.mistakes.extend([*overrides.mistakes, *values.mistakes])
        return resolved if fits else None

    def _nested(
        self, key: str, target: Scalar, given: Mapping[str, Node], chain: tuple[Origin, ...]
    ) -> Definition | None:
        origin = self.files.find(target, "pipeline", chain, shipped=key == "name")
        if origin is None:
            return None
        root = self.files.composed(origin, chain)
        return self._built(root, (*chain, origin), Overrides(), given)

    def _check_variables(self, root: Fields, given: Mapping[str, Node]) -> None:
        variables = root.values.get("vars")
        if not isinstance(variables, (Fields, type(None))):
            message = f"pipeline.vars wants a map, got {shape(variables)}"
            self.mistakes.append(Mistake("wrong-shape", message, variables.place))
            return
        known = {} if variables is None else variables.values
        for name, node in given.items():
            if name not in known:
                message = f"the pipeline has no vars.{name}"
                hint = nearest(name, known)
                self.mistakes.append(Mistake("unknown-var", message, node.place, hint))
