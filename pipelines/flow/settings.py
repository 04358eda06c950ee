"""Options and resources of steps: looked up, converted, and every mistake in them said."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.catalogue.spec import (
    REQUIRED,
    Catalogue,
    Need,
    OperatorSpec,
    Option,
    ResourceSpec,
)
from pipelines.definition.convert import convert
from pipelines.flow.blocks import ResourceUse, Step
from pipelines.flow.checked import Checked
from pipelines.flow.diagnostics import Place, nearest

UNBOUND = ("index", "lm")
"""Resources that a pipeline may leave open until it runs."""

OF_INDEX = ("encoder", "kv")
"""Resources that are those of the index unless they are declared or given."""

EXTRAS = {"cpu": "faiss", "gpu": "faiss", "docs": "pypdf"}
"""A module of each extra, by which one sees whether it is installed."""


@dataclass(frozen=True)
class Settings:
    """Checks what `with` holds and which resources there are.

    Attributes:
        found: what is known of the pipeline; gets the mistakes.
        catalogue: operators and resources that it may name.
        bound: resources that whoever runs it will give.
    """

    found: Checked
    catalogue: Catalogue
    bound: frozenset[str]

    def declared(self) -> None:
        """Check the resources that the pipeline declares."""
        for name, use in self.found.definition.resources.items():
            if isinstance(use.use, str):
                self._resource(name, use.use, use)
        for name in self.found.resources:
            self._circle(name)

    def of(
        self, spec: OperatorSpec | ResourceSpec, given: Step | ResourceUse
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Convert what `with` holds; return options and, by parameter, names of resources."""
        known = {option.name: option for option in spec.options}
        wanted = {need.name: need for need in spec.needs}
        options: dict[str, Any] = {}
        named: dict[str, str] = {}
        for name, value in given.options.items():
            place = given.place(f"with.{name}", "with")
            if name in known:
                self._option(spec, known[name], value, place, options)
            elif name in wanted:
                self._named(spec, wanted[name], value, place, named)
            else:
                self._unknown(spec, name, place)
        for name, option in known.items():
            if option.default is REQUIRED and name not in given.options:
                message = f"{spec.name} needs the option {name!r}"
                self.found.say("missing-option", message, given.place("use"))
        for need in spec.needs:
            if need.name not in given.options:
                self._right_kind(spec, need, need.name, given.place("use"))
        return options, named

    def needs(self, spec: OperatorSpec, named: Mapping[str, str], id_: str) -> dict[str, str]:
        """Return resources by parameter, and take note of what the step cannot do without."""
        for need in spec.needs:
            if not need.optional:
                self.needed(named.get(need.name, need.name), id_)
        return {need.name: named.get(need.name, need.name) for need in spec.needs}

    def installed(self, spec: OperatorSpec | ResourceSpec, place: Place | None) -> None:
        """Check that the extra is installed."""
        if not spec.extra:
            return
        if importlib.util.find_spec(EXTRAS.get(spec.extra, spec.extra)) is None:
            message = f"{spec.name} needs the extra {spec.extra!r}, which is not installed"
            install = f"pip install 'dovetail-rag[{spec.extra}]'"
            self.found.say("missing-extra", message, place, install)

    def _resource(self, name: str, short_name: str, use: ResourceUse) -> None:
        spec = self.catalogue.resources.get(short_name)
        if spec is None:
            hint = nearest(short_name, self.catalogue.resources)
            self.found.say(
                "unknown-resource", f"no resource {short_name!r}", use.place("use"), hint
            )
            return
        self.installed(spec, use.place("use"))
        self.found.resources[name] = spec, *self.of(spec, use)

    def _circle(self, name: str) -> None:
        """Say so if a resource is made of itself."""
        waiting, seen = self._made_of(name), set[str]()
        while waiting:
            one = waiting.pop()
            if one == name:
                place = self.found.definition.resources[name].place("with", "use")
                message = f"the resource {name!r} is made of itself"
                self.found.say("circular-resource", message, place)
                return
            if one not in seen:
                seen.add(one)
                waiting += self._made_of(one)

    def _made_of(self, name: str) -> list[str]:
        if name not in self.found.resources:
            return []
        spec, _, named = self.found.resources[name]
        return [named.get(need.name, need.name) for need in spec.needs]

    def needed(self, name: str, id_: str) -> None:
        """Take note that a step cannot do without a resource."""
        declared = self.found.definition.resources
        if name in OF_INDEX and name not in declared and name not in self.bound:
            name = "index"
        users = self.found.needed.setdefault(name, [])
        if id_ in users:
            return
        users.append(id_)
        if name in self.found.resources and name not in self.bound:
            spec, _, named = self.found.resources[name]
            for need in spec.needs:
                if not need.optional:
                    self.needed(named.get(need.name, need.name), id_)

    def _option(
        self,
        spec: OperatorSpec | ResourceSpec,
        option: Option,
        value: Any,
        place: Place | None,
        options: dict[str, Any],
    ) -> None:
        what = f"{spec.name}.{option.name}"
        converted, mistakes = convert(option.kind, value, what, place, bounds=option.bounds)
        self.found.mistakes.extend(mistakes)
        if not mistakes:
            options[option.name] = converted

    def _unknown(self, spec: OperatorSpec | ResourceSpec, name: str, place: Place | None) -> None:
        names = [*(option.name for option in spec.options), *(need.name for need in spec.needs)]
        listed = f"options: {', '.join(names)}" if names else "it has none"
        message = f"{spec.name} has no option {name!r}"
        self.found.say("unknown-option", message, place, nearest(name, names) or listed)

    def _named(
        self,
        spec: OperatorSpec | ResourceSpec,
        need: Need,
        value: Any,
        place: Place | None,
        named: dict[str, str],
    ) -> None:
        name, mistakes = convert(str, value, f"{spec.name}.{need.name}", place)
        self.found.mistakes.extend(mistakes)
        if mistakes:
            return
        known = [*self.found.definition.resources, *UNBOUND, *self.bound]
        if name not in known:
            message = f"{spec.name}.{need.name} names the resource {name!r}, which is not declared"
            self.found.say("unknown-resource", message, place, nearest(name, dict.fromkeys(known)))
            return
        self._right_kind(spec, need, name, place)
        named[need.name] = name

    def _right_kind(
        self, spec: OperatorSpec | ResourceSpec, need: Need, name: str, place: Place | None
    ) -> None:
        use = self.found.definition.resources.get(name)
        short_name = use.use if use is not None and isinstance(use.use, str) else ""
        resource = self.catalogue.resources.get(short_name)
        if resource is not None and resource.kind != need.kind:
            message = (
                f"{spec.name}.{need.name} wants a resource of kind {need.kind}, "
                f"but {name!r} is {resource.name}"
            )
            self.found.say("wrong-type", message, place)
