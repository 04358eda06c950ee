"""Normalised answers: the form in which two short answers count as the same."""

import re
import string

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised_answer(text: str) -> str:
    """Return an answer in lower case, without ASCII punctuation, articles and extra white space.

    The steps and their order are those of SQuAD's evaluation script, so that exact match and F1 are
    comparable: punctuation goes before articles, hence `U.S.` is `us`, and `a-ha` is `aha`. The
    result is empty for an answer of articles and punctuation only.
    Source: Rajpurkar et al. 2016, arXiv:1606.05250.

    Args:
        text: any text; may be empty.
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())
