"""Words of a text in the form in which names are compared, with their places."""

import re
import unicodedata
from typing import NamedTuple

# Marks that stand apart from the letter that they belong to, which \w leaves out: Latin, Hebrew,
# Arabic, Devanagari, Thai.
_MARKS = (
    r"\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0e31-\u0e3a\u0e47-\u0e4e"
)
_WORD = re.compile(rf"\w[\w{_MARKS}]*(?:['’]\w[\w{_MARKS}]*)*")


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
    """Return a word without case, accents and a possessive `'s`; never several words."""
    folded = word.casefold()
    if not folded.isascii():
        letters = unicodedata.normalize("NFKC", word.replace("’", "'")).casefold()
        parts = unicodedata.normalize("NFKD", "".join(letters.split()))
        folded = "".join(sign for sign in parts if not unicodedata.combining(sign))
    return folded[:-2] if folded.endswith("'s") and len(folded) > 2 else folded


def is_capital(word: str) -> bool:
    """Tell whether a word may be a name's: it is not wholly in lower case (`iPhone` is not).

    What begins with a digit, or with a letter of a script without case, counts too: nothing speaks
    against it.
    """
    return not word[0].islower() or any(sign.isupper() for sign in word)
