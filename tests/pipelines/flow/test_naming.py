"""Names of steps: by module, counted in the order of running, written ones first."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from pipelines.flow.blocks import (
    Definition,
    Nested,
    branch,
    flow,
    loop,
    map,  # noqa: A004
    recurse,
    route,
    step,
)
from pipelines.flow.naming import assigned, base_name, identified, named, repeated


def names(*blocks):
    return [one.id for one in identified(named(Definition(name="x", steps=flow(blocks))).steps)]


class Hybrid:
    def __call__(self, query): ...


def shorten(answer): ...


def test_a_step_has_its_modules_name_and_the_next_one_a_number():
    assert names("retrieve.hybrid", "prune.x", "retrieve.dense", "retrieve.bm25") == [
        "retrieve",
        "prune",
        "retrieve_2",
        "retrieve_3",
    ]


def test_written_names_come_first():
    assert names("retrieve.x", step("a.b", id="retrieve"), step("c.d", id="retrieve_2")) == [
        "retrieve_3",
        "retrieve",
        "retrieve_2",
    ]


def test_callables_are_called_after_themselves():
    assert names(Hybrid(), shorten, partial(shorten, 1), lambda query: query, Hybrid) == [
        "hybrid",
        "shorten",
        "shorten_2",
        "step",
        "hybrid_2",
    ]


def test_every_step_in_every_block_has_a_name_in_the_order_of_running():
    inner = Nested(definition=Definition(name="i", steps=flow("retrieve.x")))
    when = {"any": [{"judge": "judge.a"}, {"not": {"judge": "judge.b"}}, {"var": "c"}]}
    blocks = (
        step("s.a", when=when),
        route("s.route", {"a": ["s.b"]}, otherwise=["s.c"], merge={"answer": "s.d"}),
        branch({"a": ["s.e"], "b": ["s.f"]}, merge={"answer": "s.g"}),
        loop(2, ["s.h"], until={"all": [{"judge": "s.i"}]}),
        map("queries", "query", ["s.j"], collect={"a": "b"}),
        recurse("query", "n", ["s.k"], children="c", max_depth=1, max_nodes=1, collect={"a": "b"}),
        inner,
        inner,
        route("variable", {"a": []}),
    )
    found = list(identified(named(Definition(name="x", steps=flow(blocks))).steps))
    uses = [one.use if not isinstance(one, Nested) else "inner" for one in found]
    assert uses == [
        *("judge.a", "judge.b", "s.a", "s.route", "s.b", "s.c", "s.d", "s.e", "s.f"),
        *("s.g", "s.h", "s.i", "s.j", "s.k", "inner", "inner"),
    ]
    assert [one.id for one in found][:4] == ["judge", "judge_2", "s", "s_2"]
    assert [one.id for one in found][-3:] == ["s_12", "pipeline", "pipeline_2"]
    assert found[-1].definition.steps[0].id == "retrieve"


def test_naming_twice_changes_nothing():
    once = named(Definition(name="x", steps=flow(["a.b", "a.c", loop(1, ["a.d"])])))
    assert named(once) == once


@given(st.lists(st.tuples(st.sampled_from(["", "", "a", "a_2", "b"]), st.sampled_from("ab"))))
def test_names_that_are_given_differ_from_all_others(wanted):
    found = assigned(wanted)
    assert [name for name, (written, _) in zip(found, wanted, strict=True) if written] == [
        written for written, _ in wanted if written
    ]
    given_names = [name for name, (written, _) in zip(found, wanted, strict=True) if not written]
    assert len(set(given_names)) == len(given_names)
    assert not set(given_names) & {written for written, _ in wanted}


def test_two_equal_ids_are_a_mistake():
    steps = flow([step("a.b", id="x"), loop(1, [step("c.d", id="x")]), step("a.b"), step("a.c")])
    (mistake,) = repeated(Definition(name="p", steps=steps))
    assert (mistake.code, mistake.message) == ("duplicate-id", "two steps have the id 'x'")


def test_the_base_of_an_odd_name_is_step():
    odd = lambda query: query  # noqa: E731
    assert base_name(step(odd)) == "step"
    assert base_name(step("retrieve")) == "retrieve"
