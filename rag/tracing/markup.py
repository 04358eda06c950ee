"""HTML built from parts that are escaped unless they were built here, so that no text can act."""

import html
from collections.abc import Iterable

_VOID = frozenset({"br", "input", "meta"})
_CONTROL = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {
    0x7F: "\u2421",
    0x0D: "&#13;",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}


class Markup(str):
    """HTML that is ready; every other text is escaped where it is put in."""

    __slots__ = ()


Part = Markup | str | None
"""A piece of a page; None is nothing."""


def escaped(text: str) -> Markup:
    """Return a text as HTML that shows exactly it, in an element or in a quoted attribute.

    HTML has no control characters: they are shown by their pictures, half surrogates by their code.
    """
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return Markup(html.escape(whole, quote=True).translate(_CONTROL))


def joined(parts: Iterable[Part]) -> Markup:
    """Return parts one after the other."""
    return Markup(
        "".join(p if isinstance(p, Markup) else escaped(p) for p in parts if p is not None)
    )


def el(tag: str, *parts: Part, **attributes: str | float | bool | None) -> Markup:
    """Return an element.

    Args:
        tag: its name.
        *parts: what is in it.
        **attributes: of it; `_` stands for `-`, and at the end for nothing, as in `class_`. None
            and False leave an attribute out, True writes it without a value.
    """
    shown = []
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            shown.append(f" {name}")
        elif value is not None and value is not False:
            shown.append(f' {name}="{escaped(str(value))}"')
    begin = f"<{tag}{''.join(shown)}>"
    # A line feed right after <pre> is not part of its text, so one is written that may be lost.
    begin += "\n" if tag == "pre" else ""
    return Markup(begin if tag in _VOID else f"{begin}{joined(parts)}</{tag}>")
