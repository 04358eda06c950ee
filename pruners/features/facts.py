"""Facts of a passage that no question changes: its terms, its names, the shape of its sentences."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag.records import Passage
from rag.text.terms import STOP_WORDS, terms

_YEAR = re.compile(r"\b(?:1\d|20)\d\d\b")
_DIGIT = re.compile(r"\d")
_NAME = re.compile(r"\b[A-Z][\w'’.-]*")
_BACK = re.compile(
    r"\W*(?:he|she|it|they|this|these|that|those|his|her|its|their|there|however|also)\b",
    re.IGNORECASE,
)
_IS_A = re.compile(r"\b(?:is|was|are|were) (?:an?|the|one)\b", re.IGNORECASE)
_CLOSED = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
# What a title says about its subject rather than calls it: `(1939 film)`, ` - Early life`.
_ASIDE = re.compile(r"\([^)]*\)|\s-\s.*$")
_HEADING = " > "

SHAPE = (
    "is_first",
    "is_last",
    "position",
    "log_sentences",
    "log_terms",
    "has_digit",
    "has_year",
    "log_names",
    "refers_back",
    "defines",
    "is_closed",
)
"""Columns that depend on the passage alone."""


@dataclass(frozen=True, slots=True, eq=False)
class PassageFacts:
    """What the sentences of a passage hold, for any question.

    Attributes:
        counts: of each sentence its terms and how often they occur.
        lines: of each sentence its terms as a `phrase`.
        vocabulary: terms of all sentences.
        names: of each sentence the terms of its capitalised words, the first word aside.
        lengths: terms of each sentence, float32 (n,).
        title: terms of the title and how often they occur.
        subject: what the title calls its subject, as a `phrase`; empty if nothing can be found by
            it.
        columns: `SHAPE`, float32 (n, columns).
    """

    counts: tuple[Mapping[str, int], ...]
    lines: tuple[str, ...]
    vocabulary: frozenset[str]
    names: tuple[frozenset[str], ...]
    lengths: np.ndarray
    title: Mapping[str, int]
    subject: str
    columns: np.ndarray


def passage_facts(passage: Passage) -> PassageFacts:
    """Return the facts of a passage; it may have no sentence."""
    texts = [span.of(passage.text).strip() for span in passage.sentences]
    words = [text_terms(text) for text in texts]
    names = [name_terms(text) for text in texts]
    return PassageFacts(
        counts=tuple(dict(Counter(found)) for found in words),
        lines=tuple(phrase(found) for found in words),
        vocabulary=frozenset(term for found in words for term in found),
        names=tuple(names),
        lengths=np.array([len(found) for found in words], np.float32),
        title=dict(Counter(text_terms(passage.title))),
        subject=subject_of(passage.title),
        columns=_shape(texts, words, names),
    )


def text_terms(text: str) -> tuple[str, ...]:
    """Return `rag.text.terms.terms`, word by word: most words were seen before, and are known."""
    return tuple(term for word in text.split() for term in _word_terms(word))


def name_terms(text: str) -> frozenset[str]:
    """Return the terms of capitalised words; the first word of a text has a capital anyhow."""
    found = (match for match in _NAME.finditer(text) if match.start() > 0)
    return frozenset(term for match in found for term in _word_terms(match[0]))


def phrase(words: Sequence[str]) -> str:
    """Return terms as one text with a space before and after each, so that whole terms match."""
    return f" {' '.join(words)} " if words else ""


def subject_of(title: str) -> str:
    """Return a title as a `phrase`, without headings and asides; empty for stop words alone.

    `Blackbird (song)` gives ` blackbird `.
    """
    document = title.split(_HEADING, maxsplit=1)[0]
    found = text_terms(_ASIDE.sub("", document)) or text_terms(document)
    return phrase(found) if any(term not in STOP_WORDS for term in found) else ""


@functools.lru_cache(maxsize=1 << 16)
def _word_terms(word: str) -> tuple[str, ...]:
    return tuple(terms(word))


def _shape(
    texts: Sequence[str], words: Sequence[Sequence[str]], names: Sequence[frozenset[str]]
) -> np.ndarray:
    last = len(texts) - 1
    rows = [
        (
            row == 0,
            row == last,
            row / max(1, last),
            math.log1p(len(texts)),
            math.log1p(len(words[row])),
            bool(_DIGIT.search(text)),
            bool(_YEAR.search(text)),
            math.log1p(len(names[row])),
            bool(_BACK.match(text)),
            bool(_IS_A.search(text)),
            bool(_CLOSED.search(text)),
        )
        for row, text in enumerate(texts)
    ]
    return np.array(rows, np.float32).reshape(len(texts), len(SHAPE))
