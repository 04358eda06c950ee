"""Loading the packages of a store's extra, and naming a server without its secrets."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from urllib.parse import urlsplit

from rag.errors import MissingExtraError


def need(extra: str, *modules: str) -> tuple[ModuleType, ...]:
    """Return the modules of an extra.

    Raises:
        MissingExtraError: if one is not installed; the message names the extra.
    """
    try:
        return tuple(import_module(module) for module in modules)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; pip install 'dovetail-rag[{extra}]'"
        ) from error


def shown(url: str) -> str:
    """Return an address for messages: scheme, host, port and path, never user, password or query.

    A local path stays as it is.
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return f"{url.split('://', 1)[0]}://…"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
