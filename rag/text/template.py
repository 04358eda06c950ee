"""Prompt templates: texts with named places such as `{question}`, filled in one pass."""

import re
from collections.abc import Sequence

_PLACE = re.compile(r"\{([a-z_]+)\}")


def check_template(template: str, *, needed: Sequence[str], allowed: Sequence[str] = ()) -> None:
    """Check the places of a template that a user may have written.

    Args:
        template: the text, as an option named `instructions`.
        needed: places that must occur.
        allowed: places that may occur besides.

    Raises:
        ValueError: naming a place that is missing or unknown.
    """
    found = _PLACE.findall(template)
    known = [*needed, *allowed]
    for name in needed:
        if name not in found:
            raise ValueError(f"instructions must contain {{{name}}}, got {_short(template)}")
    for name in found:
        if name not in known:
            places = ", ".join(f"{{{place}}}" for place in known)
            raise ValueError(f"instructions may contain {places}, got {{{name}}}")


def filled(template: str, **values: str) -> str:
    """Return the template with each `{name}` replaced by its value.

    Values are not read again: a question that holds `{answer}` stays as it is, and so does any
    brace of the template that is no place.

    Args:
        template: checked by `check_template`.
        values: texts by name of their place.
    """
    return _PLACE.sub(lambda place: values.get(place[1], place[0]), template)


def one_line(text: str) -> str:
    """Return a text with every run of white space as one space, none at its ends."""
    return " ".join(text.split())


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
