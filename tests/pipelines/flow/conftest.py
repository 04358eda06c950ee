"""Small operators over queries and passages, and a catalogue with a few of them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest

from pipelines.catalogue.describe import describe, describe_resource
from pipelines.catalogue.spec import Catalogue
from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.records import Answer, Judgement, Passage, Query, Route, Span


def passage(text, score=1.0):
    return Passage(text, "d", "x.", Span(0, 2), (Span(0, 2),), score=score)


def find(query: Query) -> list[Passage]:
    """Find one passage named after the query."""
    return [passage(query.text)]


def reply(query: Query, passages: list[Passage]) -> Answer:
    """Answer with the query and the number of passages."""
    return Answer(f"{query.text}:{','.join(p.id for p in passages)}", tuple(passages))


def words(query: Query) -> list[Query]:
    """Split into words."""
    return [Query(word) for word in query.text.split()]


def union(rankings: list[list[Passage]]) -> list[Passage]:
    """Put rankings one after the other."""
    return [one for ranking in rankings for one in ranking]


def extend(query: Query, answer: Answer) -> Query:
    """Append the answer to the query."""
    return Query(f"{query.text}+{len(answer.text)}")


def stable(answer: Answer, previous: Answer | None = None) -> Judgement:
    """Pass from the second answer on."""
    return Judgement(previous is not None, float(len(answer.text)))


def by_length(query: Query) -> Route:
    """Route by the number of characters."""
    label = "short" if len(query.text) < 3 else "long"
    return Route((label,), {label: 0.8, "other": 0.2})


def first(answers: list[Answer]) -> Answer:
    """Join the answers' texts."""
    return Answer("|".join(answer.text for answer in answers))


@dataclass(frozen=True)
class Search:
    """Searches in a made-up corpus.

    Attributes:
        top_k: passages to return, at least 1.
        how: of matching.
    """

    top_k: Annotated[int, Bounds(low=1)] = 3
    how: Literal["exact", "loose"] = "exact"

    def __call__(self, query: Query) -> list[Passage]:
        return [passage(f"{query.text}{rank}") for rank in range(self.top_k)]


@dataclass(frozen=True)
class Write:
    """Writes with a model.

    Attributes:
        lm: the model.
        temperature: 0 is greedy.
        seed: of the sampler.
    """

    lm: TextModel
    temperature: float = 0.0
    seed: int = 0

    def __call__(self, query: Query) -> Answer:
        return Answer(f"{self.lm.name} {query.text}")


@dataclass(frozen=True)
class Embeds:
    """Needs what an index has.

    Attributes:
        encoder: of the index.
    """

    encoder: "object"

    def __call__(self, query: Query) -> Answer:
        return Answer(f"{self.encoder} {query.text}")


@dataclass(frozen=True)
class Rules:
    """Routes by words.

    Attributes:
        rules: label to word.
        default: label for none.
    """

    rules: dict[str, str]
    default: str | None = None

    def __call__(self, query: Query) -> Route:
        hits = [label for label, word in self.rules.items() if word in query.text]
        return Route(tuple(hits) or ((self.default,) if self.default else ()))


class Model:
    """A resource that remembers when it was opened and closed."""

    opened: ClassVar[list["Model"]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, *, name: str = "tiny"):
        self.name = name
        self.fingerprint = name
        self.notes = [f"{name} is open"]
        Model.opened.append(self)

    def close(self):
        Model.closed.append(self.name)


@pytest.fixture
def model():
    Model.opened, Model.closed = [], []
    return Model


@pytest.fixture(scope="session")
def shelf():
    """A catalogue of the classes above; they are loaded from this module by their targets."""
    import sys

    sys.modules.setdefault("flow_operators", sys.modules[__name__])
    made = {
        "retrieve.search": Search,
        "generate.write": Write,
        "route.rules": Rules,
        "query.words": words,
        "fuse.union": union,
    }
    operators = {
        name: describe(kind, name, target=f"flow_operators:{kind.__name__}")
        for name, kind in made.items()
    }
    resources = {
        f"{kind}.tiny": describe_resource(
            Model, f"{kind}.tiny", kind=kind, target="flow_operators:Model"
        )
        for kind in ("lm", "kv")
    }
    return Catalogue(operators, resources)


@pytest.fixture(scope="session")
def ops():
    """This module: its functions are operators."""
    import sys

    return sys.modules[__name__]


@pytest.fixture
def pipeline(shelf):
    """Return a function that makes a pipeline, by default one that gives an answer."""
    from pipelines.flow.pipeline import Pipeline

    def made(*steps, **more):
        return Pipeline("p", steps, catalogue=more.pop("catalogue", shelf), **more)

    return made
