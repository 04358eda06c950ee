"""One pipeline out of several files: `extends`, `include`, and where files may lie.

`extends: base.yaml` takes another pipeline and changes it. Maps merge key by key; scalars and lists
replace what was there. The list `steps` is different: an entry that is a step, and that has the
name of a step anywhere in the base, blocks inside blocks included, is merged into that step; every
other entry, blocks among them, comes after the base's. The name is the `id`, or what the step is
called without one; a step that becomes another operator loses the options of the one before, and
so does a resource.

`include: part.yaml` as an entry of any list of blocks stands for the blocks of that file. Its
`vars` and `resources` come along beneath those of the including file; its `inputs` and `outputs`
do not, for they speak of a whole pipeline.

Both name a shipped recipe (no suffix, no slash) or a file relative to the file they stand in,
inside the folder of the first one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.definition.document import read_file
from pipelines.definition.keys import unknown_keys
from pipelines.definition.nodes import Fields, Items, Node, Scalar, shape
from pipelines.definition.steps import (
    Rewriting,
    as_fields,
    block_of,
    merged,
    merged_step,
    patched,
    step_names,
)
from pipelines.flow.diagnostics import Mistake, Place, nearest

RECIPES = Path(__file__).parents[1] / "recipes"
_RECIPE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MOST_FILES = 100


@dataclass(frozen=True)
class Origin:
    """A file of a pipeline.

    Attributes:
        path: where it is, resolved; None for a text that is no file.
        file: what messages call it.
    """

    path: Path | None
    file: str


def recipes() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def is_recipe_name(source: str) -> bool:
    """Return whether a text names a recipe, and not a file."""
    return _RECIPE_NAME.fullmatch(source) is not None


class Files:
    """The files of one pipeline: found, read and put together; collects what is wrong.

    Attributes:
        mistakes: in the order found.
        whole: whether every file could be found and read.
    """

    def __init__(self, folder: Path | None) -> None:
        """Read nothing yet.

        Args:
            folder: the only one that files may lie in, apart from recipes; None for none.
        """
        self.mistakes: list[Mistake] = []
        self.whole = True
        self._folder = folder
        self._origins: dict[str, Origin] = {}
        self._opened = 0

    def find(
        self, target: Scalar, key: str, chain: Sequence[Origin], *, shipped: bool
    ) -> Origin | None:
        """Return the file that a value names, or None and a mistake.

        Args:
            target: recipe name, or path relative to the file that the value stands in.
            key: what the value is for: `extends`, `include`, `pipeline`.
            chain: files that are being read; naming one of them again would never end.
            shipped: whether the value names a recipe, and not a file.
        """
        origin = self._recipe(target) if shipped else self._file(target, key, chain[0])
        if origin is None:
            return None
        if any(origin.path == one.path for one in chain):
            way = " -> ".join(one.file for one in (*chain, origin))
            self.note("cycle", f"{key} goes round in a circle: {way}", target.place)
            return None
        return origin

    def composed(self, origin: Origin, chain: Sequence[Origin]) -> Fields | None:
        """Return a file with everything it extends and includes, or None and a mistake."""
        self._opened += 1
        assert origin.path is not None
        if self._opened > _MOST_FILES:
            place = Place(chain[-1].file if chain else origin.file, 1, 1)
            self.note("too-large", f"more than {_MOST_FILES} files", place)
            return None
        root, mistakes = read_file(origin.path, origin.file)
        self.mistakes.extend(mistakes)
        self.whole = self.whole and root is not None
        return None if root is None else self.completed(root, origin, chain)

    def completed(self, root: Node, origin: Origin, chain: Sequence[Origin]) -> Fields | None:
        """Return what was read, with everything it extends and includes."""
        self._origins[origin.file] = origin
        chain = (*chain, origin)
        if isinstance(root, Items) and len(chain) > 1:
            root = Fields({"steps": root}, {"steps": root.place}, root.place)
        if isinstance(root, Fields):
            self.mistakes.extend(unknown_keys("pipeline", root))
        else:
            what = f"a pipeline is a map with steps, got {shape(root)}"
            self.note("wrong-shape", what, root.place)
            return None
        return self._extended(self._included(root, chain), chain)

    def _included(self, root: Fields, chain: Sequence[Origin]) -> Fields:
        beneath: list[Fields] = []

        def splice(items: Items) -> Items:
            found: list[Node] = []
            for item in items.items:
                if isinstance(item, Fields) and list(item.values) == ["include"]:
                    found.extend(self._part(item.values["include"], chain, beneath))
                else:
                    found.append(item)
            return replace(items, items=tuple(found))

        if "steps" not in root.values:
            return root
        steps = Rewriting(lambda node, _: node, splice).of(root.values["steps"])
        root = root.having("steps", steps)
        for part in beneath:
            for key in ("vars", "resources"):
                root = _beneath(root, part, key)
        return root

    def _part(
        self, target: Node, chain: Sequence[Origin], beneath: list[Fields]
    ) -> tuple[Node, ...]:
        part = self._named_file(target, "include", chain)
        if part is None:
            return ()
        beneath.append(part)
        steps = part.values.get("steps")
        if not isinstance(steps, Items):
            self.note("wrong-shape", "an included file needs a list of steps", part.place)
            return ()
        return steps.items

    def _extended(self, root: Fields, chain: Sequence[Origin]) -> Fields | None:
        target = root.values.get("extends")
        if target is None:
            return root
        base = self._named_file(target, "extends", chain)
        return None if base is None else _changed(base, root.without("extends"))

    def _named_file(self, target: Node, key: str, chain: Sequence[Origin]) -> Fields | None:
        if not isinstance(target, Scalar):
            self.note("wrong-type", f"{key} wants a file, got {shape(target)}", target.place)
            return None
        origin = self.find(target, key, chain, shipped=is_recipe_name(target.text))
        return None if origin is None else self.composed(origin, chain)

    def _recipe(self, target: Scalar) -> Origin | None:
        origin = recipe(target.text)
        if origin is None:
            hint = nearest(target.text, recipes())
            message = f"there is no recipe {target.text!r}"
            self.note("unknown-recipe", message, target.place, hint or "a file has a suffix")
        return origin

    def _file(self, target: Scalar, key: str, top: Origin) -> Origin | None:
        if self._folder is None:
            message = f"{key} names the file {target.text!r}, but this pipeline is no file"
            self.note("no-such-file", message, target.place, "name a recipe")
            return None
        around = self._origins.get(target.place.file, top)
        beside = around.path.parent if around.path is not None else self._folder
        path = Path(os.path.normpath(beside / target.text)).resolve()
        if not (path.is_relative_to(self._folder) or path.is_relative_to(RECIPES.resolve())):
            message = f"{key} names {target.text!r}, outside the folder of the pipeline"
            self.note("outside-folder", message, target.place, "copy the file into it")
            return None
        if not path.is_file():
            names = [f"{one.name}" for one in path.parent.glob("*.y*ml")]
            message = f"{key} names {target.text!r}, which is no file"
            self.note("no-such-file", message, target.place, nearest(path.name, names))
            return None
        return Origin(path, os.path.normpath(Path(around.file).parent / target.text))

    def note(self, code: str, message: str, place: Place | None, hint: str = "") -> None:
        """Keep a mistake that leaves something of the pipeline out."""
        self.whole = False
        self.mistakes.append(Mistake(code, message, place, hint))


def recipe(name: str) -> Origin | None:
    """Return the file of a shipped recipe, or None if there is none of that name."""
    path = RECIPES / f"{name}.yaml"
    return Origin(path.resolve(), str(path)) if path.is_file() else None


def _beneath(root: Fields, part: Fields, key: str) -> Fields:
    below, above = part.values.get(key), root.values.get(key)
    if not isinstance(below, Fields) or not isinstance(above, (Fields, type(None))):
        return root
    if above is None:
        return root.having(key, below, part.key_places[key])
    places = below.key_places | above.key_places
    return root.having(key, replace(above, values=below.values | above.values, key_places=places))


def _changed(base: Fields, change: Fields) -> Fields:
    """Return a pipeline with what another that extends it says."""
    result = merged(base, change.without("steps").without("resources"))
    resources = change.values.get("resources")
    if resources is not None:
        result = _with_resources(result, resources, change.key_places["resources"])
    steps = change.values.get("steps")
    if steps is not None:
        before = base.values.get("steps")
        both = isinstance(before, Items) and isinstance(steps, Items)
        after = _with_steps(before, steps) if both else steps  # type: ignore[arg-type]
        result = result.having("steps", after, change.key_places["steps"])
    return replace(result, place=change.place)


def _with_resources(base: Fields, resources: Node, place: Place) -> Fields:
    before = base.values.get("resources")
    if not isinstance(before, Fields) or not isinstance(resources, Fields):
        return base.having("resources", resources, place)
    for name, value in resources.values.items():
        known = before.values.get(name)
        if isinstance(known, Fields) and isinstance(value, Fields):
            value = merged_resource(known, value)  # noqa: PLW2901
        before = before.having(name, value, resources.key_places[name])
    return base.having("resources", before)


def merged_resource(resource: Fields, patch: Fields) -> Fields:
    """Return a resource with what another says; another `use` begins without options."""
    kinds = [one.values.get("use") for one in (resource, patch)]
    if kinds[1] is not None and kinds[0] != kinds[1]:
        resource = resource.without("with")
    return merged(resource, patch)


def _with_steps(base: Items, change: Items) -> Items:
    known = set(step_names(base))
    patches: dict[str, Fields] = {}
    added: list[Node] = []
    for entry, name in zip(change.items, _entry_names(change), strict=True):
        if name is None or name not in known:
            added.append(entry)
        elif name in patches:
            patches[name] = merged_step(patches[name], as_fields(entry), name)
        else:
            patches[name] = as_fields(entry)
    changed = patched(base, patches)
    assert isinstance(changed, Items)
    return replace(changed, items=(*changed.items, *added))


def _entry_names(steps: Items) -> list[str | None]:
    """Return the name of each entry that is a step, counted through the whole list."""
    names = iter(step_names(steps))
    found: list[str | None] = []
    for entry in steps.items:
        alone = replace(steps, items=(entry,))
        mine = [next(names) for _ in step_names(alone)]
        found.append(mine[-1] if mine and block_of(entry) is None else None)
    return found
