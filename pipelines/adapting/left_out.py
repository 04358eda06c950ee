"""What must not be learned from: questions that are reported, their passages, their articles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from pruners.training.labelled import passage_key
from pruners.training.split import question_key
from rag.adaptation.examples import read_examples
from rag.evaluation.data import UNANSWERABLE, read_corpus, read_questions
from rag.records import HEADINGS, Passage

_text_key = lru_cache(maxsize=1 << 16)(passage_key)
"""Passages are looked at again and again, question by question."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Questions, passages and articles of data that figures are reported on.

    Attributes:
        questions: `question_key` of each.
        passages: `passage_key` of each text.
        articles: `article_key` of each; of examples only the articles of gold passages, since
            retrieval brings passages from anywhere.
    """

    questions: frozenset[str] = frozenset()
    passages: frozenset[str] = frozenset()
    articles: frozenset[str] = frozenset()

    @classmethod
    def read(cls, paths: Iterable[Path]) -> LeftOut:
        """Return what data folders and files of examples hold.

        Raises:
            EvaluationDataError: if a folder is not in the layout.
            ExampleError: if a file is not.
        """
        questions: set[str] = set()
        passages: list[Passage] = []
        named: list[Passage] = []
        for path in paths:
            if path.is_dir():
                corpus = read_corpus(path)
                asked = read_questions(path, unanswerable=_has_unanswerable(path))
                questions.update(question_key(question.text) for question in asked)
                passages += corpus
                named += corpus
            else:
                for example in read_examples(path):
                    questions.add(question_key(example.query.text))
                    passages += example.passages
                    named += example.gold_passages
        return cls(
            frozenset(questions),
            frozenset(_text_key(passage.text) for passage in passages),
            frozenset(article_key(passage.title) for passage in named) - {""},
        )

    def reason(self, question: str, must: Sequence[Passage]) -> str | None:
        """Return why a question with its gold passages is not learned from; None if it may be."""
        if question_key(question) in self.questions:
            return "question held out"
        if any(_text_key(passage.text) in self.passages for passage in must):
            return "gold passage held out"
        if any(article_key(passage.title) in self.articles for passage in must):
            return "article held out"
        return None

    def holds(self, passage: Passage) -> bool:
        """Tell whether a passage is one of these, or of one of these articles."""
        return (
            article_key(passage.title) in self.articles or _text_key(passage.text) in self.passages
        )


@lru_cache(maxsize=1 << 16)
def article_key(title: str) -> str:
    """Return the words of the article that a title names, in lower case, without its section.

    `Sound_City_(film) - Critical response` and `Sound City (film)` are one article.
    """
    article = title.split(HEADINGS, maxsplit=1)[0].split(" - ", maxsplit=1)[0]
    return passage_key(unquote(article).replace("_", " "))


def _has_unanswerable(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (UNANSWERABLE, f"{UNANSWERABLE}.gz"))
