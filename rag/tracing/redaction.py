"""What a trace must not keep: secrets, and on request every text a person or document wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

_NAMES = frozenset(
    (
        *("kind", "name", "id", "started", "use", "path", "step", "pipeline", "pipeline_sha"),
        *("passage", "passage_id", "document", "forced", "method", "mode", "model", "adapter"),
        *("finish", "source", "index", "device", "dtype"),
    )
)
_WHOLE = frozenset({"versions", "overrides", "segments", "labels"})


def without_secrets(value: Any, secrets: Sequence[str]) -> Any:
    """Return plain data with each of the secrets replaced by `***`, keys of objects included.

    Args:
        value: objects, lists and scalars; anything else is returned as it is.
        secrets: texts to hide, longest first, none of them empty.
    """
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {
            without_secrets(key, secrets): without_secrets(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, secrets) for item in value]
    return value


def without_content(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its numbers, names and ids only.

    A text stays if its key says that it is a name: whatever an operator adds under a key of its
    own is taken for content. Of an error the type stays.
    """
    kept: dict[str, Any] = {}
    for key, value in record.items():
        if key == "error":
            kept[key] = str(value).partition(":")[0]
        elif key in _NAMES or key in _WHOLE:
            kept[key] = value
        elif not isinstance(value, str):
            kept[key] = _numbers(value)
    return kept


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_content(value)
    if isinstance(value, (list, tuple)):
        return [_numbers(item) for item in value if not isinstance(item, str)]
    return value if value is None or isinstance(value, (bool, int, float)) else None
