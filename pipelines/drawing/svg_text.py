"""Text in SVG images: about how wide it is, cut to fit, and escaped."""

import unicodedata


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is, rather too wide: fonts differ from machine to machine."""
    return size * sum(map(_char_width, text))


def _char_width(char: str) -> float:
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in "iljtfr.,:;|!'()[]{} ":
        return 0.4
    return 0.95 if char in "mwMW@%" else 0.74 if char.isupper() else 0.62


_NAMES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def escaped(text: str) -> str:
    """Return a text for XML; what XML cannot hold is shown as `�`."""
    return "".join(_NAMES.get(char, char if _allowed(char) else "�") for char in text)


def _allowed(char: str) -> bool:
    code = ord(char)
    return (
        code >= 32
        and not 0x7F <= code <= 0x9F
        and not 0xD800 <= code <= 0xDFFF
        and code not in (0xFFFE, 0xFFFF)
    )


def text_at(x: float, y: float, text: str, kind: str) -> str:
    """Return a text that begins at a place, of the class `kind` if it has one."""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escaped(text)}</text>'


def fitted(text: str, size: float, width: float) -> str:
    """Return a text on one line, cut with an ellipsis where it would be wider than `width`."""
    line = " ".join(text.split())
    if text_width(line, size) <= width:
        return line
    while line and text_width(line + "…", size) > width:
        line = line[:-1]
    return line.rstrip() + "…"
