"""Facts of a question: its terms, its names, and what kind of answer it wants."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from pruners.features.facts import name_terms, phrase, text_terms
from rag.text.terms import query_terms

_PLACES = "city|country|state|place|county|town|region"
_KINDS = {
    "asks_who": r"\b(who|whose|whom)\b",
    "asks_when": r"\b(when|(what|which) (year|date|time|day|month|century))\b",
    "asks_where": rf"\b(where|(what|which) ({_PLACES}))\b",
    "asks_how_many": r"\bhow (many|much|long|old|far|large|big|tall|often)\b",
    "asks_how": r"\b(how|why)\b",
    "asks_whether": r"^\W*(is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b",
    "compares": r"\b(same|both|or|first|older|younger|earlier|later|more|longer|higher|larger"
    r"|between)\b",
    "asks_which": r"\b(which|what)\b",
}
_PATTERNS = [re.compile(kind, re.IGNORECASE) for kind in _KINDS.values()]
ASKED = (*_KINDS, "log_asked_terms", "log_asked_names")
"""Columns that depend on the question alone."""


@dataclass(frozen=True, slots=True, eq=False)
class QuestionFacts:
    """What a question holds.

    Attributes:
        terms: distinct terms without stop words, in order; may be empty.
        names: terms of its capitalised words, the first word aside.
        line: all its terms as a `phrase`.
        columns: `ASKED`, float32 (columns,).
    """

    terms: tuple[str, ...]
    names: frozenset[str]
    line: str
    columns: np.ndarray


def question_facts(question: str) -> QuestionFacts:
    """Return the facts of a question; the kinds of answer are told by words of English."""
    found = tuple(dict.fromkeys(query_terms(question)))
    names = name_terms(question)
    kinds = [float(bool(pattern.search(question))) for pattern in _PATTERNS]
    columns = np.array([*kinds, math.log1p(len(found)), math.log1p(len(names))], np.float32)
    return QuestionFacts(found, names, phrase(text_terms(question)), columns)
