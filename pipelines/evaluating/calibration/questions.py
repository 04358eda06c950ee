"""Questions for calibration: of a data folder, or made from an index's headings and sentences."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rag.errors import DovetailError
from rag.evaluation.data import Question, read_questions, sample
from rag.records import HEADINGS, Passage

_FUNCTION_WORDS: Final = re.compile(
    r"(?:an?|and|are|as|at|be|by|can|for|from|has|have|if|in|is|it|not|of|on|or|that|the|this|to"
    r"|was|were|which|will|with)"
)
_LEAST_SHARE: Final = 0.15
"""Part of the words of English prose that are among these; in other languages far fewer are."""
_PRONOUNS: Final = re.compile(
    r"(?:another|both|each|he|her|here|his|how|i|if|in|it|its|our|see|she|some|such|that|their|them"
    r"|there|these|they|this|those|what|when|where|which|who|why|you|your|we)"
)
_NUMBERING: Final = re.compile(r"^(?:[A-Z]?\d+(?:\.\d+)*[.):]?|[IVX]+\.|[§•*#-]+)\s+")
_WORDS: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_DEFINITION: Final = re.compile(r"((?:[^\s.,;:!?()]+\s+){1,4}?)(is|are|was|were)\s+(?:an?|the)\s")
_NUMBER: Final = re.compile(r"(?<![\w.])\d[\d.,]*(?!\w)")
_NAME: Final = re.compile(r"(?:(?<![^\W\d_])[a-z]+|,) ([A-Z][a-z]+)")
"""A word with a capital where a sentence goes on: the first one of a name."""
_ASKED: Final = re.compile(r"(?:who|what|when|where|why|how|which)\b.*", re.IGNORECASE)
_GENERAL: Final = re.compile(
    r"(?:about|appendix|background|conclusions?|contents|description|details|examples?|faq|index"
    r"|introduction|notes?|overview|references|summary)"
)
_PLURAL: Final = re.compile(r".*[^\W\d_][^\Wius_]s")
_SHORTEST, _LONGEST = 6, 40
"""Words of a sentence that is asked about."""
_FIRST_WORDS: Final = 8


class QuestionsError(DovetailError):
    """Data or an index that gives too few questions to calibrate by."""


def questions_of_data(data: Path, limit: int | None, seed: int = 0) -> list[Question]:
    """Return a sample of the questions of a data folder whose answer is known.

    Raises:
        EvaluationDataError: if the folder is not in the layout of evaluation data.
        QuestionsError: if no question has an answer.
        ValueError: if limit is below 1.
    """
    known = [question for question in read_questions(data) if any(map(str.strip, question.answers))]
    if not known:
        raise QuestionsError(
            f"{data} has no question with `answers`; without --data questions are made from the "
            "index"
        )
    return sample(known, limit, seed)


def questions_of_passages(
    passages: Mapping[str, Passage], limit: int, seed: int = 0
) -> list[Question]:
    """Return questions made from passages, by rule; answers are not known.

    Passages are drawn by the SHA-256 of `seed:id`, one of each document before a second one of any.
    Every other one is asked about its heading, the rest about a sentence; where there is no
    heading, or no sentence fits, about the other. English texts are asked in English. Of other
    languages the heading, or the first words of a sentence, is the question itself.

    Args:
        passages: by id; those that are not drawn are not read.
        limit: the most questions, at least 1.
        seed: of the draw.

    Raises:
        ValueError: if limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    found: dict[str, Question] = {}
    for passage in _drawn(passages, seed):
        asked = _heading_question(passage), _sentence_question(passage)
        first, second = asked if len(found) % 2 == 0 else asked[::-1]
        for text in (first, second):
            if text and text not in found:
                found[text] = Question(f"made-{len(found) + 1}", text)
                break
        if len(found) == limit:
            break
    return list(found.values())


def _drawn(passages: Mapping[str, Passage], seed: int) -> Iterator[Passage]:
    """Yield passages in the order of the draw, later ones of a document after all first ones."""
    left = sorted(passages, key=lambda id_: hashlib.sha256(f"{seed}:{id_}".encode()).digest())
    while left:
        used: set[str] = set()
        later = []
        for id_ in left:
            passage = passages[id_]
            if passage.document in used:
                later.append(id_)
            else:
                used.add(passage.document)
                yield passage
        left = later


def _heading_question(passage: Passage) -> str | None:
    """Return a question about the innermost heading that says something, or about the title."""
    for part in reversed(passage.title.split(HEADINGS)):
        heading = _NUMBERING.sub("", " ".join(part.replace("`", "").split())).strip(" .:¶")
        words = _WORDS.findall(heading)
        if not words or (len(words) == 1 and _GENERAL.fullmatch(words[0].lower())):
            continue
        if heading.endswith("?"):
            return heading
        if not _is_english(passage.text):
            return heading
        if _ASKED.fullmatch(heading):
            # A heading such as "How to quote" is not a question, but what is asked is plain.
            return f"{heading}?"
        if len(words) == 1 or heading[:1].islower():
            return f"What {'are' if _PLURAL.fullmatch(heading.lower()) else 'is'} {heading}?"
        article = words[0] in {"A", "An", "The"} and heading.startswith(words[0])
        about = heading[0].lower() + heading[1:] if article else heading
        return f"What does the text say about {about}?"
    return None


def _sentence_question(passage: Passage) -> str | None:
    """Return a question about the first sentence that one can be made from."""
    english = _is_english(passage.text)
    for span in passage.sentences:
        sentence = " ".join(span.of(passage.text).replace("**", "").split())
        words = _WORDS.findall(sentence)
        spaced = len(sentence.split())
        if len(words) < min(_SHORTEST, spaced) or not words or spaced > _LONGEST:
            continue
        if spaced < _SHORTEST and len(sentence) < 3 * _SHORTEST:
            continue
        if english and _PRONOUNS.fullmatch(words[0].lower()):
            continue  # nobody knows what it is about without the one before
        if not english:
            return " ".join(sentence.split()[:_FIRST_WORDS])[:120]
        made = _defined(sentence) or _cloze(sentence)
        if made:
            return made
    return None


def _defined(sentence: str) -> str | None:
    """Return what a sentence such as `X is a …` answers."""
    found = _DEFINITION.match(sentence)
    if found is None:
        return None
    subject, verb = found[1].strip(), found[2]
    first, *others = subject.split()
    article = first.lower() in {"a", "an", "the"}
    if _PRONOUNS.fullmatch(first.lower()) or (article and not others):
        return None
    if article:
        subject = " ".join([first.lower(), *others])
    return f"What {verb} {subject}?"


def _cloze(sentence: str) -> str | None:
    """Return a sentence up to its last number or name, for the model to go on from."""
    places = [found.start() for found in _NUMBER.finditer(sentence)]
    places += [found.start(1) for found in _NAME.finditer(sentence)]
    for place in sorted(places, reverse=True):
        before = sentence[:place].rstrip(" (\"'“‘")
        if len(before.split()) >= _SHORTEST:
            return f"{before} …?"
    return None


def _is_english(text: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(text[:2000])]
    common = sum(_FUNCTION_WORDS.fullmatch(word) is not None for word in words)
    return bool(words) and common >= _LEAST_SHARE * len(words)
