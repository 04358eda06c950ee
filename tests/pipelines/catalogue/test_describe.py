"""From an operator to its ports and options, whatever it is made as."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pytest

from pipelines.catalogue.describe import describe, describe_resource, is_factory
from pipelines.catalogue.spec import REQUIRED, Need, Option, Port
from rag.bounds import Bounds
from rag.protocols import Encoder, TextModel
from rag.records import Answer, Passage, Query


@dataclass(frozen=True)
class Writes:
    """Writes an answer.

    More of it.

    Attributes:
        lm: asked for
            the text.
        top_k: passages to read, at least 1.
        mode: how.

    Source: somebody, arXiv:0000.00000.
    """

    lm: TextModel
    encoder: Encoder | None = None
    top_k: Annotated[int, Bounds(low=1)] = 3
    mode: Literal["a", "b"] = "a"
    stop: tuple[str, ...] = ("x",)
    weight: Annotated[float, Bounds(0, 1)] | None = None
    names: list[str] = field(default_factory=list)
    matcher: object = None
    _private: int = 0

    def __call__(self, query: Query, passages: Sequence[Passage], text: str = "") -> Answer:
        return Answer("")

    def batch(self, query, passages): ...

    def stream(self, query, passages): ...


def test_a_dataclass_gives_options_needs_ports_and_words():
    spec = describe(Writes, "generate.writes", target="m:W", submodule="generation", extra="docs")
    assert spec.summary == "Writes an answer."
    assert spec.about == ("Writes an answer.\n\nMore of it.\n\nSource: somebody, arXiv:0000.00000.")
    assert spec.needs == (
        Need("lm", "lm", optional=False, about="asked for the text."),
        Need("encoder", "encoder", optional=True),
    )
    assert spec.options == (
        Option("top_k", int, 3, "passages to read, at least 1.", Bounds(low=1)),
        Option("mode", Literal["a", "b"], "a", "how."),
        Option("stop", tuple[str, ...], ("x",)),
        Option("weight", float | None, None, bounds=Bounds(0, 1)),
        Option("names", list[str], []),
    )
    assert spec.inputs == (
        Port("query", Query),
        Port("passages", Sequence[Passage]),
        Port("text", str, optional=True),
    )
    assert spec.output == Port("answer", Answer)
    assert (spec.batched, spec.streams, spec.asynchronous) == (True, True, False)
    assert (spec.module, spec.submodule, spec.target, spec.extra) == (
        "generate", "generation", "m:W", "docs",
    )  # fmt: skip
    assert spec.option_names == ("top_k", "mode", "stop", "weight", "names", "lm", "encoder")


def factory(lm: TextModel, *, path: Path, count: int = 2, **_: str) -> Writes:
    """Makes one.

    Args:
        lm: a model.
        count: how many.
    """
    return Writes(lm, top_k=count)


def test_a_factory_has_the_options_of_its_own_and_the_ports_of_what_it_makes():
    spec = describe(factory, "generate.made")
    assert [option.name for option in spec.options] == ["path", "count"]
    assert spec.options[0].default is REQUIRED
    assert spec.options[1].about == "how many."
    assert [port.name for port in spec.inputs] == ["query", "passages", "text"]
    assert spec.summary == "Makes one."
    assert spec.batched
    assert is_factory(factory)
    assert is_factory(Writes)


def plain(query: Query, text: str = "x", *more: int, **others: int) -> list[Passage]:
    """Does it."""
    return []


async def slow(query: "Query") -> "Answer":
    return Answer("")


class Asynchronous:
    async def __call__(self, query: Query) -> Answer:
        return Answer("")

    async def batch(self, query): ...

    async def stream(self, query):
        yield ""


def test_a_functions_parameters_are_ports():
    spec = describe(plain, "plain")
    assert spec.inputs == (Port("query", Query), Port("text", str, optional=True))
    assert spec.output == Port("passages", list[Passage])
    assert (spec.options, spec.summary) == ((), "Does it.")
    assert not is_factory(plain)


def test_asynchronous_operators_written_as_texts_too():
    assert describe(slow, "slow").asynchronous
    assert describe(slow, "slow").inputs == (Port("query", Query),)
    for made in (Asynchronous, Asynchronous()):
        spec = describe(made, "later")
        assert (spec.asynchronous, spec.batched, spec.streams) == (True, False, False)


def test_a_ready_operator_has_no_options():
    spec = describe(Writes(None), "ready")
    assert spec.options == spec.needs == ()
    assert [port.name for port in spec.inputs] == ["query", "passages", "text"]
    assert spec.streams
    assert spec.summary == "Writes an answer."


def test_a_method_and_a_partial_have_the_ports_that_are_left():
    assert describe(Writes(None).__call__, "m").inputs[0].name == "query"
    spec = describe(partial(plain, text="y"), "part")
    assert spec.inputs == (Port("query", Query), Port("text", str, optional=True))
    assert spec.output.name == "passages"


def test_a_lambda_has_ports_without_types():
    spec = describe(lambda query: query, "l")
    assert [(port.name, repr(port.kind)) for port in spec.inputs] == [("query", "typing.Any")]
    assert spec.output.name == ""


@dataclass
class Silent:
    def __call__(self, query: Query) -> Query:
        return query


def test_a_class_without_docstring_has_no_summary():
    assert describe(Silent, "silent").summary == ""


class Mute:
    pass


class Unreadable:
    def __call__(self, query: "Nothing") -> Query:  # noqa: F821
        return query


@dataclass
class Takes:
    model: Mute

    def __call__(self, query: Query) -> Query:
        return query


@pytest.mark.parametrize(
    ("made_by", "message"),
    [
        (Mute, "Mute has no __call__"),
        (Mute(), "x cannot be called: it is Mute"),
        (5, "x cannot be called: it is int"),
        (Unreadable, "the annotations of x cannot be read: name 'Nothing' is not defined; import its types at run time, not only for type checking"),
        (Takes, f"x: model is neither a setting nor a resource: {Mute}"),
    ],
)  # fmt: skip
def test_what_is_no_operator_is_refused(made_by, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        describe(made_by, "x")


def test_a_resource_has_options_and_needs():
    class Store:
        """Keeps.

        Not this.
        """

        def __init__(self, path: Path, *, size: Annotated[int, Bounds(low=0)] = 1, lm: TextModel):
            """Open."""

    spec = describe_resource(Store, "kv.store", kind="kv", target="m:S")
    assert [option.name for option in spec.options] == ["path", "size"]
    assert spec.options[1].bounds == Bounds(low=0)
    assert spec.needs == (Need("lm", "lm"),)
    assert spec.summary == "Keeps."
