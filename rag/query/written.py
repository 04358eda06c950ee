"""What a language model wrote for an operator: one line, cleaned, or nothing if it is garbage.

Small models parrot their worked examples, repeat a phrase until the limit, or write nothing.
Operators get an empty text for all of these and say themselves what they fall back to.
"""

import re
from collections.abc import Iterable, Sequence

from rag.protocols import TextModel
from rag.records import Completion, Query
from rag.text.normalise import normalised_answer
from rag.text.template import one_line
from rag.text.terms import query_terms

SEPARATOR = "|"
REPETITIVE_FROM = 6  # words; shorter texts repeat none too often
_LABEL = re.compile(
    r"^(?:[-*•]+|\(?\d{1,2}[.)]|(?:question|query|search|answer)\s*:)\s+", re.IGNORECASE
)
_AFTER_QUESTION = re.compile(r"(?<=\?)\s.*")
_QUOTES = "\"'“”‘’`"


def written(lm: TextModel, prompts: Sequence[str], max_tokens: int) -> list[Completion]:
    """Return what the model writes after each prompt, up to the end of the line, greedily.

    Args:
        lm: asked once for all prompts; not at all if there are none.
        prompts: complete texts.
        max_tokens: the most to write, at least 1.
    """
    return lm.complete(prompts, max_tokens=max_tokens, stop=("\n",)) if prompts else []


def question(text: str, instructions: str) -> str:
    """Return the first line of a text up to its first question mark, cleaned; empty for garbage.

    What follows a question mark is another question or the next worked example.
    """
    return cleaned(_AFTER_QUESTION.sub("", _first_line(text)), instructions)


def as_asked(text: str, query: Query, instructions: str) -> str:
    """Return `question(text)`; empty also where the query asks and the text does not."""
    found = question(text, instructions)
    return found if _asks(found) or not _asks(query.text) else ""


def questions(found: Completion, instructions: str) -> list[str]:
    """Return the usable questions of a line that holds several, separated by `|`.

    The last one is dropped if the limit of tokens cut it short and others are there.
    """
    pieces = _first_line(found.text).split(SEPARATOR)
    if found.finish == "length" and len(pieces) > 1:
        pieces.pop()
    return [text for piece in pieces if (text := question(piece, instructions))]


def cleaned(text: str, instructions: str) -> str:
    """Return the first line of a text without label, bullet and quotes; empty for garbage.

    Garbage holds no letter or digit, or is a phrase said over and over (six words or more, fewer
    than half of them different), or stands in the instructions already.
    """
    bare = one_line(_LABEL.sub("", _first_line(text)).strip(_QUOTES))
    words = bare.lower().split()
    repetitive = len(words) >= REPETITIVE_FROM and 2 * len(set(words)) < len(words)
    if not normalised_answer(bare) or repetitive or _parroted(bare, instructions):
        return ""
    return bare


def distinct(texts: Iterable[str], *, known: Iterable[str] = ()) -> list[Query]:
    """Return each text once, in order, without those known already.

    Texts are the same if they differ in case, punctuation, articles or white space only.
    """
    seen = {normalised_answer(text) for text in known}
    queries = []
    for text in texts:
        key = normalised_answer(text)
        if key not in seen:
            seen.add(key)
            queries.append(Query(text))
    return queries


def related(text: str, to: str) -> bool:
    """Return whether two texts share a term that is no stop word."""
    return bool(set(query_terms(text)) & set(query_terms(to)))


def _asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "？", "؟"))


def _first_line(text: str) -> str:
    return one_line(text.strip().partition("\n")[0])


def _parroted(line: str, instructions: str) -> bool:
    """Return whether a line stands in the instructions, as a line, a field or a part of one."""
    texts = re.split(r"[\n|]|: ", instructions)
    return normalised_answer(line) in {normalised_answer(text) for text in texts}
