"""What a foreign object is called, and what sets it apart from others of its kind."""

from typing import Any

_NAMES = ("model_name", "model", "model_id", "deployment_name")


def model_name(thing: Any) -> str:
    """Return the name of the model that an object talks to, else the name of its class."""
    found = (getattr(thing, name, None) for name in _NAMES)
    return next((name for name in found if isinstance(name, str) and name), type(thing).__name__)


def needs(thing: Any, role: str, *methods: str) -> None:
    """Check that an object has methods.

    Raises:
        ValueError: naming its role, the methods that it must have, and its class.
    """
    if not all(callable(getattr(thing, method, None)) for method in methods):
        raise ValueError(f"{role} must have {' and '.join(methods)}, got {class_path(thing)}")


def class_path(thing: Any) -> str:
    """Return the full name of an object's class."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
