"""Capitalised phrases: what two passages may share where neither is named after it."""

from typing import NamedTuple

from retrievers.graph.words import Words

_JOINING = "of the de la and du von van del di for in le al el da dos des der den y et und"
_JOINTS = frozenset(_JOINING.split())
_GAPS = frozenset({" ", "-", "–", "'", "’"})
_TITLES = "st dr mr mrs ms jr sr mt"
_SHORTENED = frozenset(_TITLES.split())  # the full stop is theirs, as an initial's
_AFTER_END = frozenset('.!?"“”«(:;•*#|\n')
_MONTHS = "january february march april may june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_CALENDAR = frozenset(f"{_MONTHS} {_DAYS}".split())
_LEAST = 3  # letters of a phrase of one word


class Phrase(NamedTuple):
    """A phrase of a text.

    Attributes:
        key: its words as they are compared, with spaces between.
        initial: whether it is one word at the beginning of a sentence, which is capitalised
            whatever it means.
    """

    key: str
    initial: bool


def phrases(text: str, said: Words, stop_words: frozenset[str]) -> list[Phrase]:
    """Return the longest runs of capitalised words of a text, in order; a key may come twice.

    A run goes on over a space, hyphen or apostrophe, over the full stop of an initial or of a title
    such as `St.`, and over up to two joining words such as `of the`. A stop word at its beginning
    is left out with the joining words behind it, and so are single stop words, words under three
    letters, months and days.

    Args:
        text: the text.
        said: its words.
        stop_words: words of its language that name nothing.
    """
    found: list[Phrase] = []
    place = 0
    while place < len(said.raw):
        if not said.raw[place][0].isupper():
            place += 1
            continue
        end = _end(text, said, place)
        begins = _begins_sentence(text, said.starts[place])
        first = place
        if begins and said.keys[place] in stop_words:
            first += 1
            while first < end and said.raw[first] in _JOINTS:
                first += 1
        keys = said.keys[first:end]
        single = keys[0] if len(keys) == 1 else ""
        weak = single and (len(single) < _LEAST or single in stop_words or single in _CALENDAR)
        if keys and not weak:
            found.append(Phrase(" ".join(keys), begins and len(keys) == 1 and first == place))
        place = end
    return found


def _begins_sentence(text: str, start: int) -> bool:
    before = start - 1
    while before >= 0 and text[before] == " ":
        before -= 1
    return before < 0 or text[before] in _AFTER_END


def _end(text: str, said: Words, place: int) -> int:
    """Return the place after the last word of the run that begins at `place`."""
    last = place
    while True:
        following = last + 1
        while (
            following < len(said.raw)
            and following - last <= 2
            and said.raw[following] in _JOINTS
            and text[said.ends[following - 1] : said.starts[following]] == " "
        ):
            following += 1
        if following >= len(said.raw) or not said.raw[following][0].isupper():
            return last + 1
        gap = text[said.ends[following - 1] : said.starts[following]]
        near = following == last + 1
        initial = near and (len(said.raw[last]) == 1 or said.keys[last] in _SHORTENED)
        if gap not in (_GAPS if near else {" "}) and not (initial and gap == ". "):
            return last + 1
        last = following
