"""The step cache: a hit is what the operator would return, and whatever is damaged is a miss."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipelines.catalogue.describe import describe
from pipelines.catalogue.spec import Catalogue
from pipelines.flow.blocks import step
from pipelines.flow.result import StepFailedError
from rag.protocols import PassageCache, TextModel
from rag.ranking import Ranking
from rag.records import Answer, Hit, Passage, Query, Span

CALLS: list[str] = []


@dataclass(frozen=True)
class Counts:
    """Counts its calls."""

    lm: TextModel | None = None
    kv: PassageCache | None = None
    loud: bool = False
    folder: Path = Path()

    def __call__(self, query: Query) -> list[Passage]:
        CALLS.append(query.text)
        one = Passage(query.text, "d", "x.", Span(0, 2), (Span(0, 2),), score=0.5)
        return Ranking([one], [Hit("below", 0.25)])


class Loud(Counts):
    """Another one."""


@dataclass(frozen=True)
class Gives:
    """Gives what is no JSON."""

    def __call__(self, query: Query) -> Answer:
        CALLS.append(query.text)
        return object()


@pytest.fixture
def caching(pipeline, monkeypatch, tmp_path):
    """Return a function options -> pipeline with one cached step; entries are under tmp_path."""
    import sys

    monkeypatch.setitem(sys.modules, "cache_operators", sys.modules[__name__])
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    CALLS.clear()
    made = {"retrieve.counts": Counts, "generate.gives": Gives}
    catalogue = Catalogue(
        {
            name: describe(kind, name, target=f"cache_operators:{kind.__name__}")
            for name, kind in made.items()
        },
        {},
    )

    def built(use="retrieve.counts", outputs=("passages",), resources=None, **options):
        return pipeline(
            step(use, cache=True, **options), outputs=outputs, catalogue=catalogue,
            resources=resources,
        )  # fmt: skip

    return built


def entries(tmp_path):
    return sorted((tmp_path / "steps").rglob("*.json"))


def cached(result):
    return [r["cached"] for r in result.trace.records if r["kind"] == "span"]


def test_a_second_run_finds_the_result_and_says_so_in_the_trace(caching):
    fresh, again = caching().run("a"), caching().run("a")
    assert CALLS == ["a"]
    assert (cached(fresh), cached(again)) == ([False], [True])
    assert fresh["passages"] == again["passages"]
    assert again.ranking.hits == fresh.ranking.hits


def test_other_inputs_options_or_models_are_other_entries(caching, model, tmp_path):
    for made in (
        caching(),
        caching(loud=True),
        caching(folder="x"),
        caching(resources={"lm": model(name="one")}),
        caching(resources={"lm": model(name="two")}),
    ):
        made.run("a")
        made.run("b")
    assert len(CALLS) == len(entries(tmp_path)) == 10


def test_a_kv_store_is_no_part_of_the_key(caching):
    caching(resources={"kv": object()}).run("a")
    caching().run("a")
    assert CALLS == ["a"]


def test_of_a_batch_only_what_is_missing_is_asked(caching):
    caching().run("a")
    results = caching().batch(["b", "a", "c"])
    assert [cached(result) for result in results] == [[False], [True], [False]]
    assert CALLS == ["a", "b", "c"]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"value": 5}', b"\xff", b'{"value": [{"id": 1}]}']
)
def test_a_damaged_entry_is_a_miss_and_is_replaced(caching, tmp_path, damage):
    caching().run("a")
    (entry,) = entries(tmp_path)
    good = entry.read_bytes()
    entry.write_bytes(damage)
    assert cached(caching().run("a")) == [False]
    assert entry.read_bytes() == good
    assert json.loads(good)["operator"] == "retrieve.counts"


def test_a_failure_is_not_kept(caching, monkeypatch, tmp_path):
    def broken(self, query):
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Counts, "__call__", broken)
        with pytest.raises(StepFailedError):
            caching().run("a")
    assert entries(tmp_path) == []


def test_a_result_that_cannot_be_kept_is_given_and_the_trace_says_why(caching):
    result = caching("generate.gives", outputs=("answer",)).run("a")
    assert type(result["answer"]) is object
    (event,) = [r for r in result.trace.records if r["name"] == "not_cached"]
    assert event["reason"].startswith("TypeError: only records, containers and scalars")


def test_a_resource_without_a_fingerprint_is_refused(caching):
    with pytest.raises(StepFailedError, match="results that depend on lm cannot be cached: object has no fingerprint"):  # fmt: skip
        caching(resources={"lm": object()}).run("a")


def test_without_cache_nothing_is_written(pipeline, shelf, monkeypatch, tmp_path):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    pipeline("retrieve.search", outputs=("passages",)).run("a")
    assert entries(tmp_path) == []


def test_another_operator_of_the_same_name_is_another_entry(caching, tmp_path):
    made = caching()
    made.run("a")
    spec = replace(made._catalogue.operators["retrieve.counts"], target="cache_operators:Loud")
    made._catalogue = replace(made._catalogue, operators={"retrieve.counts": spec})
    made.bind().run("a")
    assert len(CALLS) == len(entries(tmp_path)) == 2
