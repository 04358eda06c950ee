"""Resources of a pipeline: created once, when first needed, shared by steps, closed together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from pipelines.catalogue.spec import Need, OperatorSpec, ResourceSpec
from pipelines.catalogue.table import load
from pipelines.flow.checked import Checked
from pipelines.flow.result import UnboundResourceError
from pipelines.flow.settings import OF_INDEX

_GIVE = {
    "index": "-i DIR on the command line, Pipeline.bind(index=...) in Python",
    "lm": "--model NAME on the command line, Pipeline.bind(lm=...) in Python",
}


class Resources:
    """The resources of one pipeline.

    An encoder or a KV store that is not declared is that of the index, where there is one.

    What was given is left open at the end; what was created here is closed, the last one first.
    All methods may be called from several threads.
    """

    def __init__(
        self, checked: Checked, given: Mapping[str, Any], outer: Resources | None = None
    ) -> None:
        """Look at a checked pipeline; nothing is created yet.

        Args:
            checked: says which resources are declared.
            given: objects by name, which go before declared ones.
            outer: those of the pipeline around this one, for names that are not declared here.
        """
        self._declared = checked.resources
        live = {
            name: use.use
            for name, use in checked.definition.resources.items()
            if not isinstance(use.use, str)
        }
        self._given = {**live, **given}
        self._outer = outer
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._closing = ExitStack()

    def knows(self, name: str) -> bool:
        """Return whether a resource of this name is given or declared."""
        return (
            name in self._given
            or name in self._declared
            or (self._outer is not None and self._outer.knows(name))
            or (name in OF_INDEX and self.knows("index"))
        )

    def get(self, name: str) -> Any:
        """Return a resource; it is created if this is the first time.

        Raises:
            UnboundResourceError: if nothing gives or declares it.
        """
        with self._lock:
            if name in self._given:
                return self._given[name]
            if name in self._made:
                return self._made[name]
            if name in self._declared:
                spec, options, named = self._declared[name]
                self._made[name] = self._create(spec, options, named)
                return self._made[name]
        if self._outer is not None and self._outer.knows(name):
            return self._outer.get(name)
        if name in OF_INDEX and self.knows("index"):
            return getattr(self.get("index"), name)
        raise UnboundResourceError(f"the resource {name!r} is not bound; give {how_to_bind(name)}")

    def arguments(
        self, spec: OperatorSpec | ResourceSpec, named: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return what an operator or a resource is given for its needs."""
        found = {}
        for need in spec.needs:
            name = named.get(need.name, need.name)
            if self.knows(name) or not need.optional:
                found[need.name] = self.get(name)
        return found

    @property
    def notes(self) -> list[str]:
        """What resources say about how they were opened."""
        known = [*self._given.values(), *self._made.values()]
        return [note for one in known for note in getattr(one, "notes", ())]

    def close(self) -> None:
        """Close what was created here; twice is harmless."""
        with self._lock:
            self._made.clear()
            self._closing.close()

    def _create(
        self, spec: ResourceSpec, options: Mapping[str, Any], named: Mapping[str, str]
    ) -> Any:
        opened: Callable[..., Any] = load(spec.target)
        made = opened(**self.arguments(spec, named), **options)
        if hasattr(made, "close"):
            self._closing.callback(made.close)
        return made


def how_to_bind(name: str) -> str:
    """Return what a person does about an open resource."""
    return _GIVE.get(name, f"it under resources, or Pipeline.bind({name}=...)")


def fingerprint(resource: Any, need: Need) -> str:
    """Return what cached results depend on in a resource.

    Raises:
        ValueError: if the resource does not say.
    """
    found = getattr(resource, "fingerprint", None)
    if not isinstance(found, str):
        raise ValueError(  # noqa: TRY004
            f"results that depend on {need.name} cannot be cached: "
            f"{type(resource).__name__} has no fingerprint"
        )
    return found
