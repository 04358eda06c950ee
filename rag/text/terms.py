"""Terms: the normalised words that sparse search, pruning and attribution compare texts by."""

import functools
import re
import unicodedata

# Words of English that say how a sentence is built, not what it is about; apostrophes taken out.
STOP_WORDS = frozenset(
    """
    a about after again all also am an and any are arent as at be because been before being between
    both but by can cannot cant could did didnt do does doesnt doing done dont down during each few
    for from further had has hasnt have havent having he her here hers herself him himself his how i
    if im in into is isnt it its itself ive just me more most my myself no nor not now of off on
    once only or other our ours ourselves out over own same she should so some such than that thats
    the their theirs them themselves then there these they this those through to too under until up
    very was wasnt we were werent what when where which while who whom whose why will with wont
    would wouldnt you your yours yourself yourselves
    """.split()  # noqa: SIM905 (a table of words reads better)
)
_APOSTROPHE_S = re.compile(r"(?<=\w)['’]s\b")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_JOINT = re.compile(r"[._]+")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+")
# Porter's letters: y is a vowel after a consonant, and a consonant elsewhere.
_VOWEL = re.compile(r"[aeiou]|(?<=[^aeiou])y")
_SHORT = re.compile(r"[^aeiou](?:[aeiou]|(?<=[^aeiou])y)[^aeiouwxy]$")
# Where vowels end and consonants begin; whole runs of either would cost the square of their length.
_VOWEL_THEN_CONSONANT = re.compile(r"(?:[aeiou]|(?<=[^aeiou])y)(?:[^aeiouy]|(?<=[aeiou])y)")


def terms(text: str) -> list[str]:
    """Return every term of a text in order, stop words and repetitions included.

    The text is normalised (NFKC), case-folded and cut into Unicode words; apostrophes inside words
    vanish (`don't` is `dont`), a possessive `'s` too; words are stemmed. Technical names count
    twice, whole and in parts: `sys.exit` gives `sys.exit`, `sys`, `exit`, and `__enter__` gives
    `__enter__`, `enter`, so a question may use either, and the exact name matches best; a number
    such as `3.11` stays whole. Chinese and Japanese runs, which have no spaces, give their
    overlapping pairs of characters.

    Args:
        text: any text; may be empty.
    """
    found = []
    for token in _tokens(text):
        parts = [part for part in _JOINT.split(token) if part]
        if parts == [token]:
            found += _words(token)
        elif all(map(str.isdigit, parts)):
            found += [token] if parts else []
        else:
            found += [token, *(word for part in parts for word in _words(part))]
    return found


def query_terms(text: str) -> list[str]:
    """Return the terms that a question is searched by: stop words left out.

    A question of stop words only ("who is it", "while or for") keeps them all: an index holds stop
    words too, and a poor match beats none.

    Args:
        text: any text; may be empty.
    """
    content = " ".join(token for token in _tokens(text) if token not in STOP_WORDS)
    return terms(content) or terms(text)


def stem(word: str) -> str:
    """Return a lower-case English word without plural, `-ed`, `-ing`, and final `-y` or `-e`.

    Steps 1 and 5a of Porter 1980 (doi:10.1108/eb046814), the inflections; derivations such as
    `-ation` stay. Words under three letters, or with anything but `a` to `z`, stay as they are.

    Args:
        word: a case-folded word.
    """
    if len(word) < 3 or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) else word
    elif word.endswith("ed") and _VOWEL.search(word[:-2]):
        word = _mended(word[:-2])
    elif word.endswith("ing") and _VOWEL.search(word[:-3]):
        word = _mended(word[:-3])
    if word.endswith("y") and _VOWEL.search(word[:-1]):
        word = word[:-1] + "i"
    if word.endswith("e"):
        base = word[:-1]
        if _measure(base) > 1 or (_measure(base) == 1 and not _SHORT.search(base)):
            return base
    return word


def _measure(base: str) -> int:
    """Return Porter's m: how often consonants follow vowels."""
    return len(_VOWEL_THEN_CONSONANT.findall(base))


def _mended(base: str) -> str:
    """Return what is left of a word after `-ed` or `-ing`, spelt as its plain form is."""
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if len(base) > 1 and base[-1] == base[-2] and base[-1] not in "aeioulsz":
        return base[:-1]
    return base + "e" if _measure(base) == 1 and _SHORT.search(base) else base


def _tokens(text: str) -> list[str]:
    """Return normalised words, dotted names unbroken."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _token().findall(_APOSTROPHE.sub("", _APOSTROPHE_S.sub("", folded)))


@functools.cache
def _token() -> re.Pattern[str]:
    """Return the pattern of a word; a regex word lacks the combining marks of many scripts."""
    code_points = map(chr, range(0x300, 0x10000))
    marks = "".join(c for c in code_points if unicodedata.category(c).startswith("M"))
    return re.compile(rf"[\w{marks}]+(?:\.[\w{marks}]+)*")


def _words(token: str) -> list[str]:
    """Return the stem of a word, or what ideographs and the rest of it give."""
    if token.isascii():
        return [stem(token)]
    words, end = [], 0
    for run in _IDEOGRAPHS.finditer(token):
        words += [token[end : run.start()]] if end < run.start() else []
        words += [run[0][row : row + 2] for row in range(max(1, len(run[0]) - 1))]
        end = run.end()
    return [*words, token[end:]] if end < len(token) else words
