"""What the engine knows of an operator or a resource without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag.bounds import Bounds


class Required:
    """The default of an option that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = Required()


@dataclass(frozen=True)
class Option:
    """A setting of an operator or resource.

    Attributes:
        name: of the setting.
        kind: its type.
        default: its default, or `REQUIRED`.
        about: what it does, from the docstring.
        bounds: where a number must lie.
    """

    name: str
    kind: Any
    default: Any = REQUIRED
    about: str = ""
    bounds: Bounds | None = None


@dataclass(frozen=True)
class Need:
    """A resource that an operator or another resource is given.

    Attributes:
        name: of the parameter; a resource of that name is taken unless an option names another.
        kind: of the resource: `index`, `lm`, `kv`, `encoder`.
        optional: whether it works without.
        about: what it is for.
    """

    name: str
    kind: str
    optional: bool = False
    about: str = ""


@dataclass(frozen=True)
class Port:
    """An input, or the output, of an operator.

    Attributes:
        name: the variable that it is bound to by default.
        kind: its type.
        optional: whether a step may leave it unbound.
    """

    name: str
    kind: Any
    optional: bool = False


@dataclass(frozen=True)
class OperatorSpec:
    """An operator: its place in Modular RAG's catalogue, its options and its ports.

    Attributes:
        name: short name, `module.operator`.
        target: `module:attribute` that makes it; empty for one that exists already.
        submodule: the paper's sub-module, such as `query expansion`.
        summary: first line of its docstring.
        about: the whole docstring, without its list of attributes.
        options: settings, in order.
        needs: resources, in order.
        inputs: ports, in order.
        output: what it gives; its name is the default variable, or empty if it has none.
        batched: whether it takes many items at once.
        streams: whether it yields pieces of its answer.
        asynchronous: whether a call has to be awaited.
        extra: the extra of the distribution that it needs, or empty.
    """

    name: str
    target: str
    submodule: str
    summary: str
    about: str
    options: tuple[Option, ...]
    needs: tuple[Need, ...]
    inputs: tuple[Port, ...]
    output: Port
    batched: bool = False
    streams: bool = False
    asynchronous: bool = False
    extra: str = ""

    @property
    def module(self) -> str:
        """The paper's module, the part of the name before the dot."""
        return self.name.partition(".")[0]

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names that `with` may hold: settings, and resources by their parameter."""
        return (*(o.name for o in self.options), *(n.name for n in self.needs))


@dataclass(frozen=True)
class ResourceSpec:
    """A resource that a pipeline file may declare.

    Attributes:
        name: short name, such as `lm.transformers`.
        kind: `index`, `lm`, `kv` or `encoder`.
        target: `module:attribute` that opens it.
        summary: first line of its docstring.
        about: the whole docstring, without its list of arguments.
        options: settings.
        needs: other resources.
        extra: the extra of the distribution that it needs, or empty.
    """

    name: str
    kind: str
    target: str
    summary: str
    about: str
    options: tuple[Option, ...]
    needs: tuple[Need, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All operators and resources that a pipeline may name.

    Attributes:
        operators: short name to operator.
        resources: short name to resource.
        plugins: short name to what makes it, for operators that were loaded from plugins.
    """

    operators: Mapping[str, OperatorSpec]
    resources: Mapping[str, ResourceSpec]
    plugins: Mapping[str, Any] = field(default_factory=dict)
