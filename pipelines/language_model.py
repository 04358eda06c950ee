"""What a person calls a language model, and the resource that opens it."""

from typing import Any

from pipelines.flow.blocks import ResourceUse
from rag.errors import AdapterError, ModelNotFoundError
from rag.models.http_service import checked_url

_SCHEMES = ("http://", "https://")


def is_remote(name: str) -> bool:
    """Return whether a name is the URL of a service."""
    return name.lower().startswith(_SCHEMES)


def language_model(name: str, **local: Any) -> ResourceUse:
    """Return how to open a language model; nothing is loaded or asked.

    Args:
        name: `http://127.0.0.1:8000/v1#MODEL` for a model that a service runs; otherwise what
            `lm.transformers` takes.
        **local: options of `lm.transformers`.

    Raises:
        AdapterError: for a URL with an adapter, as nothing can be merged into a service's model.
        ModelNotFoundError: for a URL that names no model, or that nothing may be sent to.
    """
    if not is_remote(name):
        return ResourceUse(use="lm.transformers", options={"model": name, **local})
    adapter = local.get("adapter", "auto")
    if adapter not in ("none", "auto"):
        raise AdapterError(
            "an adapter is merged into a model that runs here; for a service it must be none or "
            f"auto, got {adapter!r}"
        )
    base_url, _, model = name.partition("#")
    if not model:
        raise ModelNotFoundError(
            "the URL of a service must end with #MODEL, as the service calls it, such as "
            f"http://127.0.0.1:8000/v1#qwen3-4b; got {_shown(name)!r}"
        )
    try:
        checked_url(base_url)
    except ValueError as error:
        raise ModelNotFoundError(f"model {model!r} cannot be asked: {error}") from error
    return ResourceUse(use="lm.openai_compatible", options={"base_url": base_url, "model": model})


def _shown(url: str) -> str:
    """Return a URL without a user and a password before its host."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
