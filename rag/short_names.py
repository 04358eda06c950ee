"""Giving an operator of one's own a short name, so that pipeline files can use it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_NAMED: dict[int, tuple[Any, str]] = {}


def operator(name: str) -> Callable[[Made], Made]:
    """Return a decorator that names a function or an operator class, which it leaves as it is.

    `@operator("query.shorten")` before an annotated function makes its parameters ports; before a
    frozen dataclass its fields are options and the parameters of `__call__` ports.

    Args:
        name: `module.operator`, lower case.

    Raises:
        ValueError: for another form.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be module.operator in lower case, got {name!r}")

    def named(found: Made) -> Made:
        _NAMED[id(found)] = found, name
        return found

    return named


def name_of(found: Any) -> str:
    """Return the short name that was given to an operator; empty if none was."""
    return _NAMED.get(id(found), (None, ""))[1]
