"""The analyser: a text's terms in a given language, with stemming and stop words as data."""

import difflib
import functools
import hashlib
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import Literal, get_args

from rag.errors import MissingExtraError
from rag.text.terms import stem

Stemmer = Literal["inflections", "snowball", "none"]
LANGUAGES = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque",
    "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian",
    "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
_ALIASES = {"nb": "no", "nn": "no", **{name: code for code, name in LANGUAGES.items()}}
_LISTED = ("da", "de", "en", "es", "fi", "fr", "it", "nl", "no", "pt", "ru", "sv")
_RULES = 1  # raise it with every change below that changes a term
_CACHED_TOKENS = 1 << 16
_LONGEST_STEMMED = 64  # a longer run of letters is data, not a word, and no cache should hold it

_APOSTROPHE_S = re.compile(r"(?<=\w)['’]s\b")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_TURKISH_SUFFIX = re.compile(r"(?<=\w)['’]\w+")
_TURKISH_I = str.maketrans({"I": "ı", "İ": "i"})
_ELIDED = {
    "ca": re.compile(r"\b([dlmnst])['’](?=\w)"),
    "fr": re.compile(r"\b([cdjlmnst]|qu|jusqu|lorsqu|puisqu|quoiqu)['’](?=\w)"),
    "ga": re.compile(r"\b([bdm])['’](?=\w)"),
    "it": re.compile(r"\b([cdlmnstv]|[dn]ell|all|dall|sull|coll|un|quest|quell)['’](?=\w)"),
}
_JOINT = re.compile(r"[._]+")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+")
_ASCII_TOKEN = re.compile(r"\w+(?:\.\w+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Analyser:
    """Cuts texts into terms; an index and the questions put to it must use an equal one.

    A text is normalised (NFKC), case-folded and cut into Unicode words, which are stemmed.
    Technical names count whole and in parts: `sys.exit` gives `sys.exit` and the stems of `sys` and
    `exit`; a number such as `3.11` stays whole. Chinese and Japanese runs give their overlapping
    pairs of characters, in every language. Apostrophes inside words vanish (`don't` is `dont`), a
    possessive `'s` too; French, Italian, Catalan and Irish cut there after an elided word
    (`l'homme` is `l`, `homme`), and Turkish drops what follows (`Ankara'da` is `ankara`). Words
    with a digit, and words over 64 characters, are not stemmed.

    Stop words come as data for Danish, German, English, Spanish, Finnish, French, Italian, Dutch,
    Norwegian, Portuguese, Russian and Swedish; the other languages have stemming without stop
    words. Chinese, Japanese, Korean and whatever else Snowball lacks are served by `none`.

    Safe to share between threads; equal analysers share one bounded cache of words.

    Attributes:
        language: an ISO 639-1 code or an English name (`de`, `german`), kept as the code; `none`
            for no stemming and no stop words.
        stemmer: `inflections`, for English only: plurals, -ed, -ing (see `rag.text.terms.stem`);
            `snowball`: the language's Snowball stemmer (Porter 2001, https://snowballstem.org),
            which also cuts derivations; `none`. By default `inflections` for English, `none` for
            `none`, and `snowball` for the others.
    """

    language: str = "en"
    stemmer: Stemmer | None = None

    def __post_init__(self) -> None:
        language = _code(self.language)
        default: Stemmer = {"en": "inflections", "none": "none"}.get(language, "snowball")  # type: ignore[assignment]
        stemmer = default if self.stemmer is None else self.stemmer
        if stemmer not in get_args(Stemmer):
            raise ValueError(f"stemmer must be one of {get_args(Stemmer)}, got {stemmer!r}")
        if stemmer not in (default, "none") and language != "en":
            allowed = " or ".join(map(repr, dict.fromkeys((default, "none"))))
            raise ValueError(
                f"stemmer must be {allowed} for language {language!r}, got {stemmer!r}"
            )
        if stemmer == "snowball":
            _snowball(language)
        object.__setattr__(self, "language", language)
        object.__setattr__(self, "stemmer", stemmer)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with whatever changes a term.

        That is the language, the stemmer and its version, the stop words and the rules of cutting.
        """
        stemmer = str(self.stemmer)
        version = _snowball_version() if stemmer == "snowball" else "1"
        parts = [str(_RULES), self.language, stemmer, version, *sorted(self.stop_words)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def stop_words(self) -> frozenset[str]:
        """Words left out of questions, case-folded; none for a language without a list."""
        return _stop_words(self.language)

    def terms(self, text: str) -> list[str]:
        """Return every term of a text in order, stop words and repetitions included.

        Args:
            text: any text; may be empty.
        """
        found = _words(self.language, str(self.stemmer))
        return list(chain.from_iterable(map(found.__getitem__, _tokens(text, self.language))))

    def query_terms(self, text: str) -> list[str]:
        """Return the terms that a question is searched by: stop words left out.

        A question of stop words only keeps them all: an index holds them too, and a poor match
        beats none.

        Args:
            text: any text; may be empty.
        """
        found, stop_words = _words(self.language, str(self.stemmer)), self.stop_words
        tokens = _tokens(text, self.language)
        content = [found[token] for token in tokens if token not in stop_words]
        return list(chain.from_iterable(content)) or [t for token in tokens for t in found[token]]

    def query_weights(self, text: str) -> dict[str, float]:
        """Return how often each of the question's terms occurs in it, at least 1 each.

        The order is that of `query_terms`. Empty for a text without a term.

        Args:
            text: any text; may be empty.
        """
        return {term: float(count) for term, count in Counter(self.query_terms(text)).items()}


class _Words(dict[str, tuple[str, ...]]):
    """The terms of each token met so far; looking up a new token works them out.

    When it is full it starts afresh: dictionaries look up several times faster than an LRU cache,
    and frequent words are back at once. What a look-up returns never depends on what is held, so
    threads may share it.
    """

    def __init__(self, stemmed: Callable[[str], str], *, foreign: bool) -> None:
        """Wrap a stemmer.

        Args:
            stemmed: returns a word's stem.
            foreign: whether it knows letters beyond ASCII.
        """
        super().__init__()
        self._stemmed = stemmed
        self._foreign = foreign

    def __missing__(self, token: str) -> tuple[str, ...]:
        parts = [part for part in _JOINT.split(token) if part]
        if parts == [token]:
            terms = tuple(self._parts(token))
        elif all(map(str.isdigit, parts)):
            terms = (token,) if parts else ()
        else:
            terms = (token, *(word for part in parts for word in self._parts(part)))
        if len(token) <= _LONGEST_STEMMED:
            if len(self) >= _CACHED_TOKENS:
                self.clear()
            self[token] = terms
        return terms

    def _parts(self, token: str) -> list[str]:
        """Return the stem of a word, or pairs of ideographs and what stands around them."""
        if token.isascii():
            return [self._stem(token)]
        rest = self._stem if self._foreign else str
        words, end = [], 0
        for run in _IDEOGRAPHS.finditer(token):
            words += [rest(token[end : run.start()])] if end < run.start() else []
            words += [run[0][row : row + 2] for row in range(max(1, len(run[0]) - 1))]
            end = run.end()
        return [*words, rest(token[end:])] if end < len(token) else words

    def _stem(self, word: str) -> str:
        if len(word) > _LONGEST_STEMMED or any(map(str.isdigit, word)):
            return word
        return self._stemmed(word) or word


@functools.cache
def _words(language: str, stemmer: str) -> _Words:
    """Return the one cache of words that equal analysers share."""
    if stemmer == "snowball":
        return _Words(_snowball(language), foreign=True)
    return _Words(stem if stemmer == "inflections" else str, foreign=False)


def _snowball(language: str) -> Callable[[str], str]:
    """Return a language's Snowball stemmer as a function that any thread may call."""
    missing = MissingExtraError(
        f"language {language!r} with the snowball stemmer needs PyStemmer 3.1 or later: "
        "pip install 'dovetail-rag[languages]'"
    )
    try:
        import Stemmer as PyStemmer
    except ImportError:
        raise missing from None
    name = LANGUAGES[language]
    if name not in PyStemmer.algorithms():
        raise missing
    of_thread = threading.local()  # a stemmer works in a buffer of its own: one a thread

    def stemmed(word: str) -> str:
        try:
            stemmer = of_thread.stemmer
        except AttributeError:
            stemmer = of_thread.stemmer = PyStemmer.Stemmer(name, 0)
        return str(stemmer.stemWord(word))

    return stemmed


def _snowball_version() -> str:
    import Stemmer as PyStemmer

    return str(PyStemmer.version())


def _code(language: str) -> str:
    """Return the code of a language.

    Raises:
        ValueError: if there is no such language.
    """
    asked = language.strip().casefold()
    code = _ALIASES.get(asked, asked)
    if code == "none" or code in LANGUAGES:
        return code
    near = difflib.get_close_matches(asked, [*LANGUAGES, *_ALIASES, "none"], 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    allowed = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    raise ValueError(f"language must be none or one of {allowed}; got {language!r}{hint}")


@functools.cache
def _stop_words(language: str) -> frozenset[str]:
    if language not in _LISTED:
        return frozenset()
    file = resources.files("rag.text").joinpath("stop_words", f"{language}.txt")
    lines = file.read_text("utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and line[0] != "#")


def _tokens(text: str, language: str) -> list[str]:
    """Return normalised words, dotted names unbroken."""
    if language == "tr":
        text = unicodedata.normalize("NFC", text).translate(_TURKISH_I)
    if text.isascii():
        folded, token = text.lower(), _ASCII_TOKEN
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        token = _token()
    if "'" in folded or "’" in folded:
        if language == "tr":
            folded = _TURKISH_SUFFIX.sub("", folded)
        elif language in _ELIDED:
            folded = _ELIDED[language].sub(r"\1 ", folded)
        folded = _APOSTROPHE.sub("", _APOSTROPHE_S.sub("", folded))
    return token.findall(folded)


@functools.cache
def _token() -> re.Pattern[str]:
    """Return the pattern of a word; a regex word lacks the combining marks of many scripts."""
    code_points = map(chr, range(0x300, 0x10000))
    marks = "".join(c for c in code_points if unicodedata.category(c).startswith("M"))
    return re.compile(rf"[\w{marks}]+(?:\.[\w{marks}]+)*")
