"""Words of a passage as units that partition its text, so that any of them can go."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise

from rag.records import Passage, Span

_RUN = re.compile(r"\S+")
_CLOSING = frozenset(".,;:!?…。，、；：！？)]}»”’\"'`）」』】》")
_OPENS = {")": "(", "]": "[", "}": "{", "）": "（", "」": "「", "』": "『", "】": "【", "》": "《"}
_IDEOGRAPH = "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_MARKS = "[\u0300-\u036f\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef]"
_WIDE = "[\u3001-\u3011，；：！？（）]"
_PIECE = re.compile(f"{_IDEOGRAPH}{_MARKS}*|{_WIDE}|(?:(?!{_IDEOGRAPH}|{_WIDE}).)+", re.DOTALL)
_IDENTIFIER = re.compile(
    r"\d|_"
    r"|\w[./\\:@#$+=-]*[./\\:@#$+=]\w"  # sys.exit, a/b, a::b, key=value
    r"|[a-z][A-Z]"
    r"|\w\(|\w[+#]+$"  # f(x), C++
    r"|^(?:--?|[$@#~\\]|\.{0,2}/|\.)\w"  # --flag, $HOME, ./path, .env
)


def word_units(passage: Passage) -> list[list[Span]]:
    """Return the units of each sentence; those of a sentence partition it.

    A word is a run without white space, with the white space before it and the marks that open it:
    whatever goes, its neighbours never grow together. An identifier, such as `sys.exit`, `f(x)`, a
    path, a number or a plate, is one word. Marks that close a run, a comma or a bracket, are units
    of their own, equal ones together; a dot belongs to a word with another dot, as in `U.S.`. Each
    ideograph and kana is a word; runs of other scripts without spaces, such as Thai, are one.

    The white space that ends a sentence is its last unit: it belongs to no word.

    Args:
        passage: its sentences partition its text.
    """
    return [
        [Span(start, end) for start, end in pairwise(_bounds(sentence.of(passage.text), sentence))]
        for sentence in passage.sentences
    ]


def is_identifier(word: str) -> bool:
    """Return whether a word holds what a reader cannot guess: a number, a name of code, a path.

    Args:
        word: without white space.
    """
    return _IDENTIFIER.search(word) is not None


def _bounds(text: str, sentence: Span) -> list[int]:
    """Return where the units of a sentence begin, and where the last one ends."""
    bounds = [sentence.start]
    for run in _RUN.finditer(text):
        bounds += [sentence.start + run.start() + end for end in _ends(run[0])]
    if bounds[-1] < sentence.end:
        bounds.append(sentence.end)
    return bounds


def _ends(run: str) -> Iterator[int]:
    """Yield where the words and closing marks of a run end."""
    core = _core(run)
    for piece in _PIECE.finditer(run, 0, core):
        yield piece.end()
    end = core
    for _, marks in groupby(run[core:]):
        end += len(list(marks))
        yield end


def _core(run: str) -> int:
    """Return where the closing marks of a run begin; a bracket that it opens is none of them."""
    counts, end = Counter(run), len(run)
    while end and run[end - 1] in _CLOSING:
        mark = run[end - 1]
        if mark in _OPENS and counts[_OPENS[mark]] >= counts[mark]:
            break
        counts[mark] -= 1
        end -= 1
    if "." in run[:end].strip(".") and run[end : end + 1] == "." and run[end + 1 : end + 2] != ".":
        end += 1
    return end
