"""Passages that stand anywhere in a document, and retrievers that return what they are told."""

import numpy as np
import pytest

from rag.ranking import Ranking
from rag.records import Hit, Passage, Span


def passage(id_, start=0, end=10, *, document="", score=1.0, text="", title=""):
    text = text or f"text of {id_}"
    span = Span(start, end)
    return Passage(id_, document or id_, text, span, (Span(0, len(text)),), title, score=score)


def ranking(*passages, tail=()):
    """Passages with scores that fall, and a tail of ids."""
    scored = [passage(p, score=1.0 - n / 9) if isinstance(p, str) else p
              for n, p in enumerate(passages)]  # fmt: skip
    return Ranking(scored, [Hit(id_, -rank) for rank, id_ in enumerate(tail, 1)])


class Told:
    """A retriever that returns one ranking, and remembers what it was asked."""

    def __init__(self, found):
        self.found, self.asked = found, []

    def __call__(self, query):
        return self.batch(query=[query])[0]

    def batch(self, *, query):
        self.asked.append([one.text for one in query])
        return [self.found for _ in query]

    def vectors(self, ids):
        known = [p.id for p in self.found]
        return np.array([[float(known.index(id_) + 1)] for id_ in ids if self._has(id_)])

    def _has(self, id_):
        if all(p.id != id_ for p in self.found):
            raise KeyError(id_)
        return True


@pytest.fixture
def made():
    """Functions `passage` and `ranking`, and the class `Told`."""
    from types import SimpleNamespace

    return SimpleNamespace(passage=passage, ranking=ranking, Told=Told)
