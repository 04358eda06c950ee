"""Names: what a passage is called, and where a text says one of these names."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from rag.records import HEADINGS, Passage
from retrievers.graph.words import Words, is_capital, words

ALIASES = "aliases"
"""Metadata field with more names of a document, separated by semicolons."""

_PARENTHESIS = re.compile(r"\s*\([^()]*\)\s*$")
_LEAD = 400  # code points in which a passage says what it is about
# Up to eight words, an aside in brackets or between commas, and a form of "to be".
_TERM = re.compile(
    r"\s*(?:(?:the|an?)\s+)?(?P<term>(?:[^\s(),.;:]+\s+){0,7}?[^\s(),.;:]+)\s*"
    r"(?:\([^()]*\)\s*|,[^,]{0,80},\s*)?\b(?:is|was|are|were)\b",
    re.IGNORECASE,
)


def names_of(passage: Passage, stop_words: frozenset[str]) -> list[str]:
    """Return what a passage is called, in the form that `Names` compares; ascending, unique.

    These are the title of its document and the headings above it, each also without a remark in
    brackets at its end (`Kiss (band)`), the aliases that its metadata states, and the term that
    its first sentence defines: `Ada` of "Ada (born 1815) was a …". Stop words, numbers and single
    letters are no names.

    Args:
        passage: whose.
        stop_words: words of its language that name nothing.
    """
    stated = str(passage.metadata.get(ALIASES, "")).split(";")
    found = [*stated, defined_term(passage.text, stop_words)]
    said = {name for text in found if (name := _name(text, stop_words))}
    return sorted(said | title_names(passage.title, stop_words))


def title_names(title: str, stop_words: frozenset[str]) -> set[str]:
    """Return the names in a title: of its document and headings, with and without a remark."""
    parts = title.split(HEADINGS)
    found = [*parts, *(_PARENTHESIS.sub("", part) for part in parts)]
    return {name for text in found if (name := _name(text, stop_words))}


def defined_term(text: str, stop_words: frozenset[str]) -> str:
    """Return the term that a text defines in its first words, or an empty text.

    A definition is recognised in English only: "The *Term* (aside) is …".
    """
    match = _TERM.match(text[:_LEAD])
    if match is None:
        return ""
    term = match["term"]
    first = words(term)
    if not first.raw or not is_capital(first.raw[0]) or first.keys[0] in stop_words:
        return ""
    return term


def _name(text: str, stop_words: frozenset[str]) -> str:
    keys = words(text).keys
    if all(word.isdigit() for word in keys):
        return ""
    if len(keys) == 1 and (len(keys[0]) < 2 or keys[0] in stop_words):
        return ""
    return " ".join(keys)


class Names:
    """Which passages each name stands for; finds the names that a text mentions. Immutable."""

    def __init__(self, rows: Mapping[str, Sequence[int] | np.ndarray]) -> None:
        """Take the rows of the passages of each name, ascending."""
        self._rows = rows
        self._longest: dict[str, int] = {}
        for name in rows:
            first, count = name.partition(" ")[0], name.count(" ") + 1
            self._longest[first] = max(count, self._longest.get(first, 0))

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of the passages that a name stands for, ascending, int64."""
        return np.asarray(self._rows[name], np.int64)

    def mentioned(self, text: str | Words) -> list[str]:
        """Return the names that a text mentions, in order of their first mention, unique.

        Of names that begin at the same word the longest counts, and nothing inside it. A mention
        holds a word that is not in lower case, and a name of one word is not in lower case itself:
        the novel *It* is named by "It" and by "IT", never by "it". A text wholly in lower case, as
        people type questions, mentions names of two words and more.
        """
        said = words(text) if isinstance(text, str) else text
        typed = not any(word[0].isupper() for word in said.raw)
        found: dict[str, None] = {}
        place = 0
        while place < len(said.keys):
            name = self._longest_at(said, place, typed)
            if name:
                found[name] = None
            place += name.count(" ") + 1
        return list(found)

    def _longest_at(self, said: Words, place: int, typed: bool) -> str:
        most = min(self._longest.get(said.keys[place], 0), len(said.keys) - place)
        for count in range(most, 0, -1):
            name = " ".join(said.keys[place : place + count])
            if name not in self._rows:
                continue
            raw = said.raw[place : place + count]
            if any(map(is_capital, raw)) or (typed and count > 1):
                return name
        return ""


def rarest_words(names: Sequence[str]) -> frozenset[str]:
    """Return one word of each name, the longest: a text without any of them mentions none."""
    return frozenset(max(name.split(" "), key=len) for name in names)
