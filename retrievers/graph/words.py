"""Words of a text in the form in which names are compared, with their places."""

import re
import unicodedata
from typing import NamedTuple

_WORD = re.compile(r"\w+(?:['’]\w+)*")


class Words(NamedTuple):
    """The words of a text, in order.

    Attributes:
        raw: as they stand in the text.
        keys: as they are compared: without case, accents and a possessive `'s`.
        starts: where each begins, in code points.
        ends: where each ends.
    """

    raw: list[str]
    keys: list[str]
    starts: list[int]
    ends: list[int]


def words(text: str) -> Words:
    """Return the words of a text: runs of letters and digits, apostrophes inside included."""
    found = list(_WORD.finditer(text))
    raw = [match.group() for match in found]
    return Words(
        raw,
        [key(word) for word in raw],
        [match.start() for match in found],
        [match.end() for match in found],
    )


def key(word: str) -> str:
    """Return a word without case, accents and a possessive `'s`."""
    folded = word.casefold()
    if not folded.isascii():
        parts = unicodedata.normalize("NFKD", folded.replace("’", "'"))
        folded = "".join(sign for sign in parts if not unicodedata.combining(sign))
    return folded[:-2] if folded.endswith("'s") and len(folded) > 2 else folded


def is_capital(word: str) -> bool:
    """Tell whether a word may be a name's: it does not begin in lower case.

    Digits and letters of scripts without case count: nothing speaks against them.
    """
    return not word[0].islower()
