"""Running: values of every kind of block, failures, traces, and that all ways to run agree."""

import asyncio
import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.flow.blocks import (
    Definition,
    branch,
    flow,
    loop,
    map,  # noqa: A004
    nested,
    recurse,
    route,
    step,
)
from pipelines.flow.diagnostics import InvalidPipelineError
from pipelines.flow.events import Finished, Judged, Retrieved, Routed, StepFinished, Token
from pipelines.flow.pipeline import Pipeline
from pipelines.flow.result import OptionsError, StepFailedError
from rag.errors import UnsupportedModelError
from rag.ranking import Ranking
from rag.records import Answer, Hit, Judgement, Passage, Query, Route

# --- values --------------------------------------------------------------------------------


def test_steps_hand_on_by_port_name(pipeline, ops):
    assert pipeline(ops.find, ops.reply).run("a").answer.text == "a:a"


def test_options_reach_an_operator_that_is_made_once(pipeline):
    made = pipeline(step("retrieve.search", top_k=2), outputs=("passages",))
    assert [p.id for p in made.run("q")["passages"]] == ["q0", "q1"]
    (operator,) = made._running._runner._operators.values()
    assert made.run("q") is not None
    assert made._running._runner._operators["retrieve"] is operator


def test_a_class_is_made_into_an_operator_with_its_options(pipeline, ops):
    made = pipeline(step(ops.Search, top_k=1), outputs=("passages",))
    assert len(made.run("q")["passages"]) == 1


def test_a_ready_operator_and_a_method_are_called_as_they_are(pipeline, ops):
    assert len(pipeline(ops.Search(top_k=4), outputs=("passages",)).run("q")["passages"]) == 4
    made = pipeline(ops.Search(top_k=2).__call__, outputs=("passages",))
    assert len(made.run("q")["passages"]) == 2


def test_options_that_an_operator_refuses_together_are_a_users_mistake(pipeline):
    class Picky:
        def __init__(self, *, low: int, high: int):
            if low > high:
                raise ValueError(f"low must be at most high, got {low} and {high}")

        def __call__(self, query: Query) -> Answer:
            return Answer("")

    made = pipeline(step(Picky, low=2, high=1))
    with pytest.raises(OptionsError, match=r"^step 'picky' \(picky\): low must be at most high"):
        made.run("q")


def test_map_collects_in_the_items_order(pipeline, ops):
    block = map("queries", "query", [ops.find], collect={"passages": "rankings"})
    made = pipeline(ops.words, block, ops.union, ops.reply)
    assert made.run("b a c").answer.text == "b a c:b,a,c"


def test_map_over_nothing_collects_nothing(pipeline, ops):
    none = step(lambda query: [], out="queries")
    made = pipeline(
        none, map("queries", "query", [ops.find], collect={"passages": "r"}), outputs=("r",)
    )
    assert made.run("a")["r"] == []


def test_a_loop_carries_and_ends_early(pipeline, ops):
    body = [step(ops.find, inputs={"query": "seek"}), ops.reply, step(ops.extend, out="seek")]
    carry = {"seek": "query", "previous": "answer"}
    result = pipeline(loop(5, body, carry=carry, until=ops.stable)).run("a")
    assert result.answer.text == "a:a+3"
    spans = [r["path"] for r in result.trace.records if r["kind"] == "span"]
    assert spans[-1] == "loop[2]/stable"
    carried = [r["values"] for r in result.trace.records if r["name"] == "carry"]
    assert carried == [
        {"seek": "'a'", "previous": "None"},
        {"seek": "'a+3'", "previous": "'a:a'"},
    ]


def test_every_round_begins_with_what_is_outside(pipeline, ops):
    body = [step(ops.extend, inputs={"query": "seek"}, out="seek"), step(ops.extend)]
    start = step(lambda query: Answer("xx"), out="answer")
    made = pipeline(start, loop(3, body, carry={"seek": "query"}), outputs=("query", "seek"))
    result = made.run("a")
    assert (result["query"].text, result["seek"].text) == ("a+2", "a+2+2+2")


def test_a_carried_variable_follows_also_where_one_arm_left_the_other_behind(pipeline, ops):
    arms = {"short": [ops.find, ops.reply], "long": [ops.find]}
    seen = []

    def remember(answer: Answer, previous: Answer | None = None) -> Judgement:
        seen.append(previous)
        return Judgement(passed=True, score=0)

    made = pipeline(
        route(ops.by_length, arms),
        loop(2, [ops.reply, remember], carry={"previous": "answer"}),
        outputs=("answer",),
    )
    made.run("a")
    assert [one and one.text for one in seen] == [None, "a:a"]


def test_a_skipped_step_leaves_the_variable_as_it_was(pipeline, ops):
    long = {"var": "query.text", "in": ["long"]}
    made = pipeline(ops.find, ops.reply, step(ops.words), step(lambda query: Answer("new"), out="answer", when=long), catalogue=None)  # fmt: skip
    assert made.run("long").answer.text == "new"
    result = made.run("a")
    assert result.answer.text == "a:a"
    assert [r["path"] for r in result.trace.records if r.get("skipped")] == ["step"]


@pytest.mark.parametrize(
    ("policy", "threshold", "probs", "arms"),
    [
        ("single", 0.5, {"a": 0.1, "b": 0.9}, "b"),
        ("all", 0.5, {"a": 0.1, "b": 0.9}, "ab"),
        ("threshold", 0.5, {"a": 0.5, "b": 0.5, "c": 0.49}, "ab"),
        ("threshold", 0.9, {"a": 0.5}, "else"),
        ("top_p", 0.8, {"c": 0.5, "a": 0.3, "b": 0.2}, "ac"),
        ("top_p", 1.0, {"a": 0.1, "b": 0.2, "c": 0.7, "d": 0.0}, "abc"),
        ("top_p", 0.3, {"b": 0.4, "a": 0.4}, "a"),
        ("top_p", 0.0, {"b": 0.4}, "else"),
    ],
)
def test_policies_choose_arms_that_are_merged_in_declared_order(
    pipeline, policy, threshold, probs, arms
):
    labels = tuple(sorted(probs, reverse=True))

    def router(query: Query) -> Route:
        return Route(labels, probs)

    def join(texts: list[str]) -> str:
        return "".join(texts)

    def says(text):
        def say(query: Query) -> str:
            return text

        return say

    block = route(
        router,
        {label: says(label) for label in "abcd"},
        policy=policy,
        threshold=threshold,
        otherwise=says("else"),
        merge={} if policy == "single" else {"text": join},
    )
    assert pipeline(block, outputs=("text",)).run("q")["text"] == arms


def test_only_merged_variables_are_left_by_several_arms(pipeline, ops):
    def everywhere(query: Query) -> Route:
        return Route(("a",))

    block = route(
        everywhere,
        {"a": [step(ops.extend), ops.find, ops.reply]},
        policy="all",
        merge={"answer": ops.first},
    )
    given = {"query": "Query", "answer": "Answer"}
    result = pipeline(block, inputs=given).run("q", answer="x")
    assert result.answer.text == "q+1:q+1"
    assert "query" not in result.variables


def test_a_branch_merges_in_declared_order_and_keeps_nothing_else(pipeline, ops):
    arms = {"b": [ops.find, ops.reply], "a": [step("retrieve.search", top_k=1), ops.reply]}
    result = pipeline(branch(arms, merge={"answer": ops.first})).run("q")
    assert result.answer.text == "q:q|q:q0"
    assert "passages" not in result.variables


def test_recursion_visits_each_value_once_breadth_first_within_its_bounds(pipeline, ops):
    def halves(node: Query) -> list[Query]:
        middle = len(node.text) // 2
        parts = [node.text[:middle], node.text[middle:], node.text.upper()]
        return [Query(part) for part in parts if part]

    def visited(most, depth):
        block = recurse(
            "query", "node", halves, children="queries", max_depth=depth, max_nodes=most,
            collect={"node": "seen"},
        )  # fmt: skip
        result = pipeline(block, outputs=("seen",)).run("abcd")
        paths = [r["path"] for r in result.trace.records if r["kind"] == "span"]
        return [query.text for query in result["seen"]], paths[-1]

    assert visited(9, 0) == (["abcd"], "recurse[0.0]/halves")
    assert visited(9, 1) == (["abcd", "ab", "cd"], "recurse[1.1]/halves")
    assert visited(9, 2) == (["abcd", "ab", "cd", "a", "b", "c", "d"], "recurse[2.3]/halves")
    assert visited(4, 2)[0] == ["abcd", "ab", "cd", "a"]
    assert len(visited(100, 9)[0]) == 7


def test_a_nested_pipeline_sees_its_inputs_only(pipeline, ops):
    inner = Pipeline("inner", [ops.find, ops.reply])
    made = pipeline(
        ops.words,
        map("queries", "one", [nested(inner, inputs={"query": "one"}, outputs={"answer": "said"})],
            collect={"said": "answers"}),
        ops.first,
    )  # fmt: skip
    result = made.run("a b")
    assert result.answer.text == "a:a|b:b"
    assert [r["path"] for r in result.trace.records if r["kind"] == "span"][
        1
    ] == "map[0]/pipeline/find"


def test_a_required_port_is_given_none_and_an_optional_one_is_left_out(pipeline):
    seen = []

    def look(query: Query, one: str | None, other: str | None = "default") -> Answer:
        seen.append((one, other))
        return Answer("")

    given = {"query": "Query", "one": "str | None", "other": "str | None"}
    pipeline(look, inputs=given).run("q", one=None, other=None)
    assert seen == [(None, "default")]


# --- inputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        ((), {}, "pipeline 'p' needs the input 'query' (inputs: query: Query, n: int)"),
        (("a",), {"n": 1, "m": 2}, "pipeline 'p' has no input 'm'; known: query, n (inputs: query: Query, n: int)"),
        (("a", "b"), {}, "pipeline 'p' takes query: Query, n: int, got 2 by position and nothing by name"),
        (("a",), {"query": "b"}, "pipeline 'p' takes query: Query, n: int, got 1 by position and query by name"),
        (("a",), {"n": "x"}, "input 'n' must be int, got 'x'"),
        ((" ",), {"n": 1}, "input 'query': the question must not be empty, got only white space"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_refused(pipeline, ops, positional, named, message):
    made = pipeline(ops.find, inputs={"query": "Query", "n": "int"}, outputs=("passages",))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        made.run(*positional, **named)


def test_an_invalid_pipeline_says_so_before_its_inputs_are_looked_at(pipeline, ops):
    with pytest.raises(InvalidPipelineError, match="'Qery' is not a type"):
        pipeline(ops.find, inputs={"query": "Qery"}).run(1, 2, 3)


def test_a_batch_names_the_input_that_is_wrong_before_anything_runs(pipeline, ops):
    calls = []

    def find(query: Query) -> Answer:
        calls.append(query)
        return Answer("")

    made = pipeline(find)
    with pytest.raises(ValueError, match=r"^inputs\[1\]: input 'query' must be an object"):
        made.batch(["a", 5])
    with pytest.raises(ValueError, match="inputs must be a list with one entry a run, got str"):
        made.batch("abc")
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'return', got 'ignore'"):
        made.batch(["a"], on_error="ignore")
    assert calls == []
    assert made.batch([]) == []


# --- failures ------------------------------------------------------------------------------


def fragile(query: Query) -> list[Passage]:
    if "x" in query.text:
        raise RuntimeError(f"cannot find {query.text}")
    return []


def test_a_failure_names_step_path_and_inputs_and_keeps_the_trace(pipeline, ops):
    body = [map("queries", "query", [fragile], collect={"passages": "rankings"})]
    made = pipeline(ops.words, loop(2, body), ops.union, ops.reply)
    with pytest.raises(StepFailedError) as failed:
        made.run("a x b")
    error = failed.value
    assert str(error) == (
        "step 'fragile' at loop[1]/map[1]/fragile failed: RuntimeError: cannot find x "
        "(input: query='x')"
    )
    assert (error.step, error.path) == ("fragile", "loop[1]/map[1]/fragile")
    assert isinstance(error.__cause__, RuntimeError)
    (span,) = [r for r in error.trace.records if r.get("error")]
    assert (span["path"], span["error"]) == (error.path, "RuntimeError: cannot find x")


def test_one_items_failure_does_not_disturb_the_others(pipeline, ops):
    made = pipeline(fragile, ops.reply)
    good, bad, also_good = made.batch(["a", "x", "b"], on_error="return")
    assert (good.answer.text, also_good.answer.text) == ("a:", "b:")
    assert isinstance(bad, StepFailedError)
    with pytest.raises(StepFailedError, match="cannot find x"):
        made.batch(["a", "x", "b"])


def test_interruption_passes_through(pipeline):
    def stop(query: Query) -> Answer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(stop).run("a")
    with pytest.raises(KeyboardInterrupt):
        pipeline(stop).batch(["a", "b"], on_error="return")


def test_a_route_without_an_arm_for_the_label_fails(pipeline, ops):
    made = pipeline(route(ops.by_length, {"short": [ops.find]}), outputs=("passages",))
    with pytest.raises(StepFailedError, match=r"^step 'route' failed: ValueError: the route is long, which has no arm; arms are short, and there is no else \(input: route\)$"):  # fmt: skip
        made.run("long question")
    assert made.run("a")["passages"][0].id == "a"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([step(lambda query: 5, out="x"), route("x", {"a": []})], "step 'route' failed: TypeError: x must be a Route, got int"),
        ([step(lambda query: 5, out="x"), map("x", "query", [fragile], collect={"passages": "r"})], "step 'map' failed: TypeError: it needs a list, got int (input: 5)"),
        ([step(lambda query: "ab", out="x"), map("x", "query", [fragile], collect={"passages": "r"})], "step 'map' failed: TypeError: it needs a list, got str"),
        ([recurse("query", "query", [step(lambda query: None, out="c")], children="c", max_depth=1, max_nodes=9, collect={"c": "r"})], "step 'children' at recurse[0.0]/children failed: TypeError: it needs a list, got NoneType"),
        ([step(lambda query: None, out="x"), loop(2, [fragile], until={"var": "x", "above": 1})], "step 'loop' at loop[1] failed: TypeError"),
        ([step(lambda query: None, out="x"), step(lambda query: 1, out="x", when={"var": "x.y.z", "equals": 1})], "step 'step_2' failed: AttributeError: 'NoneType' object has no attribute 'y' (input: x.y.z)"),
        ([loop(2, [fragile], until={"judge": step(lambda query: 1, out="x")})], "step 'step' at loop[1]/step failed: TypeError: a judge gives a Judgement, got int"),
    ],
)  # fmt: skip
def test_what_an_unannotated_step_gives_wrongly_fails_one_item_only(pipeline, blocks, message):
    made = pipeline(*blocks, outputs=())
    assert made.checked.errors == []
    (error,) = made.batch(["a"], on_error="return")
    assert isinstance(error, StepFailedError)
    assert str(error).startswith(message)


def test_a_failing_batch_call_is_tried_one_by_one(pipeline):
    sizes = []

    class Together:
        def __call__(self, query: Query, passages: list[Passage] | None = None) -> Answer:
            sizes.append(1)
            if "x" in query.text:
                raise RuntimeError("no")
            return Answer(query.text)

        def batch(self, query: list[Query]) -> list[Answer]:
            sizes.append(len(query))
            if any("x" in one.text for one in query):
                raise RuntimeError("no")
            return [Answer(one.text) for one in query]

    made = pipeline(Together())
    assert [r.answer.text for r in made.batch(["a", "b"])] == ["a", "b"]
    assert sizes == [2]
    good, bad = made.batch(["a", "x"], on_error="return")
    assert good.answer.text == "a"
    assert isinstance(bad, StepFailedError)
    assert sizes == [2, 2, 1, 1]


def test_a_batch_of_the_wrong_length_is_an_error(pipeline):
    class Short:
        def __call__(self, query: Query) -> Answer:
            return Answer("")

        def batch(self, query: list[Query]) -> list[Answer]:
            return [Answer("")]

    errors = pipeline(Short()).batch(["a", "b"], on_error="return")
    assert ["batch returned 1 results for 2 items" in str(error) for error in errors] == [True] * 2


def test_items_with_other_ports_are_batched_apart(pipeline):
    batches = []

    class Together:
        def __call__(self, query: Query, text: str | None = None) -> Answer:
            return self.batch([query], **({} if text is None else {"text": [text]}))[0]

        def batch(self, query: list[Query], text: list[str] | None = None) -> list[Answer]:
            batches.append([one.text for one in query])
            texts = text or ["-"] * len(query)
            return [Answer(q.text + t) for q, t in zip(query, texts, strict=True)]

    made = pipeline(Together(), inputs={"query": "Query", "text": "str | None"})
    inputs = [
        {"query": q, "text": t} for q, t in [("a", "1"), ("b", None), ("c", "2"), ("d", None)]
    ]
    assert [r.answer.text for r in made.batch(inputs)] == ["a1", "b-", "c2", "d-"]
    assert batches == [["a", "c"], ["b", "d"]]


# --- streams and asynchronous operators ----------------------------------------------------


class Speaks:
    def __init__(self):
        self.closed = False

    def __call__(self, query: Query) -> Answer:
        return Answer(query.text)

    def stream(self, query: Query):
        try:
            yield from query.text
            yield Answer(query.text)
        finally:
            self.closed = True


def test_a_stream_tells_what_happens_and_ends_with_the_result(pipeline, ops):
    events = list(pipeline(ops.find, ops.by_length, Speaks(), ops.stable).stream("ab"))
    assert "".join(e.text for e in events if isinstance(e, Token)) == "ab"
    kinds = [type(e) for e in events if not isinstance(e, Token)]
    assert [k for k in kinds if k in (Retrieved, Routed, Judged)] == [Retrieved, Routed, Judged]
    assert kinds.count(StepFinished) == 4
    assert isinstance(events[-1], Finished)
    assert events[-1].result.answer.text == "ab"


def test_closing_a_stream_early_closes_the_operators_stream(pipeline):
    speaker = Speaks()
    events = pipeline(speaker).stream("abc")
    assert any(isinstance(event, Token) for event in events)
    events.close()
    assert speaker.closed


def test_closing_an_asynchronous_stream_early_closes_the_operators_stream(pipeline):
    speaker = Speaks()

    async def some():
        async with contextlib.aclosing(pipeline(speaker).astream("abc")) as events:
            async for event in events:
                if isinstance(event, Token):
                    break
        return speaker.closed

    assert asyncio.run(some())


def test_a_stream_that_gives_no_answer_or_fails_is_a_failure(pipeline):
    class Mute(Speaks):
        def stream(self, query: Query):
            yield "a"
            if query.text == "x":
                raise RuntimeError("broken")

    with pytest.raises(StepFailedError, match="mute streamed no result after its text"):
        list(pipeline(Mute()).stream("q"))
    with pytest.raises(StepFailedError, match="RuntimeError: broken"):
        list(pipeline(Mute()).stream("x"))


async def later(query: Query) -> Answer:
    await asyncio.sleep(0)
    if "x" in query.text:
        raise RuntimeError("no")
    return Answer(query.text)


def test_asynchronous_operators_run_in_every_driver(pipeline):
    made = pipeline(later)

    async def inside():
        return made.run("a").answer.text, (await made.arun("b")).answer.text

    assert made.run("c").answer.text == "c"
    assert asyncio.run(inside()) == ("a", "b")
    good, bad = made.batch(["a", "x"], on_error="return")
    assert good.answer.text == "a"
    assert isinstance(bad, StepFailedError)


def test_a_bounded_number_of_calls_is_under_way(pipeline, ops):
    now, most = 0, 0

    async def wait(query: Query) -> Answer:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return Answer(query.text)

    block = map("queries", "query", [wait], collect={"answer": "answers"}, max_parallel=3)
    made = pipeline(ops.words, block, ops.first)
    assert made.run("a b c d e f g").answer.text == "a|b|c|d|e|f|g"
    assert most == 3


def test_synchronous_operators_leave_the_loop_free(pipeline):
    def slow(query: Query) -> Answer:
        time.sleep(0.05)
        return Answer("")

    async def both():
        ticks = 0
        task = asyncio.create_task(pipeline(slow).arun("a"))
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(both()) >= 3


# --- what a result tells -------------------------------------------------------------------


def test_an_answer_has_times_and_the_ranking_is_the_last_one(pipeline, ops):
    def ranked(query: Query) -> list[Passage]:
        return Ranking([ops.passage(query.text)], [Hit("z", 0.0)])

    result = pipeline(step(ranked), ops.reply).run("a")
    assert set(result.answer.timings_ms) == {"retrieve", "prune", "total"}
    assert [hit.id for hit in result.ranking.hits] == ["a", "z"]
    assert result["answer"] is result.answer is result.variables["answer"]


def test_a_trace_names_the_pipeline_the_same_in_every_process(pipeline, ops):
    one, again = pipeline(ops.find, ops.reply), pipeline(ops.find, ops.reply)
    other = pipeline(step("retrieve.search", top_k=1), ops.reply)
    shas = [made.run("a").trace.run["pipeline_sha"] for made in (one, again, other)]
    assert shas[0] == shas[1] != shas[2]
    ready, others = pipeline(ops.Search(1)), pipeline(ops.Search(2))
    assert ready._digest != others._digest


# --- all ways to run agree -----------------------------------------------------------------


def shout(query: Query) -> Query:
    if query.text.startswith("bad"):
        raise RuntimeError(query.text)
    return Query(query.text.upper()[:12])


class Batched:
    """Like shout, many at once."""

    def __call__(self, query: Query) -> Query:
        return Query(f"{query.text[:12]}~")

    def batch(self, query: list[Query]) -> list[Query]:
        return [self(one) for one in query]


async def turned(query: Query) -> Query:
    return Query(query.text[::-1])


def pieces(query: Query) -> list[Query]:
    return [Query(word) for word in re.findall(r"\w+", query.text)[:3]] or [query]


def glue(queries: list[Query]) -> Query:
    return Query(" ".join(one.text for one in queries)[:24])


def parity(query: Query) -> Route:
    label = ("even", "odd", "none")[len(query.text) % 3]
    return Route((label,), {label: 0.7, "odd": 0.3})


def long_enough(query: Query) -> Judgement:
    return Judgement(len(query.text) > 8, len(query.text))


def children(query: Query) -> list[Query]:
    middle = len(query.text) // 2
    return [Query(part) for part in (query.text[:middle], query.text[middle:]) if part.strip()]


STEPS = st.sampled_from([shout, Batched(), turned]).map(step) | st.sampled_from(
    [
        step(shout, when={"var": "query.text", "contains": "a"}),
        step(turned, when={"not": {"judge": long_enough}}),
    ]
)


def blocks_of(body):
    several = {"even": [shout], "odd": [turned]}
    return st.one_of(
        st.builds(lambda b: route(parity, {"even": b, "odd": [shout]}, otherwise=[Batched()]), body),
        st.builds(lambda b: route(parity, {"even": b, "odd": []}), body),
        st.builds(
            lambda b: route(parity, several, policy="top_p", threshold=0.9, otherwise=b, merge={"query": glue}),
            body,
        ),
        st.builds(lambda a, b: branch({"a": a, "b": b}, merge={"query": glue}), body, body),
        st.builds(lambda b: [pieces, map("queries", "query", b, collect={"query": "queries"}), glue], body),
        st.builds(lambda b, n: loop(n, b, carry={"query": "query"}, until=long_enough), body, st.integers(1, 3)),
        st.builds(
            lambda b: [recurse("query", "query", [*b, children], children="queries", max_depth=2, max_nodes=5, collect={"query": "queries"}), glue],
            body,
        ),
        st.builds(lambda b: nested(Definition(name="inner", steps=flow(b), outputs=("query",))), body),
    )  # fmt: skip


def flat(found):
    return [block for one in found for block in (one if isinstance(one, list) else [one])]


FLOWS = st.recursive(
    STEPS.map(lambda one: [one]),
    lambda inner: st.lists(blocks_of(inner) | STEPS, min_size=1, max_size=3).map(flat),
    max_leaves=5,
)
QUESTIONS = st.lists(
    st.sampled_from(["a", "ab", "a b c", "bad", "banana pie", "x y", "bad ones"]),
    min_size=1,
    max_size=4,
)


def seen_by(outcome):
    """What must not depend on how a run was driven."""
    if isinstance(outcome, StepFailedError):
        return outcome.step, outcome.path, str(outcome)
    paths = [r["path"] for r in outcome.trace.records if r["kind"] == "span"]
    return outcome["query"], dict(outcome.variables), sorted(paths)


def tried(run):
    try:
        return run()
    except StepFailedError as error:
        return error


@settings(max_examples=25)
@given(FLOWS, QUESTIONS)
def test_run_batch_stream_and_their_asynchronous_forms_agree(blocks, questions):
    from pipelines.catalogue.spec import Catalogue

    made = Pipeline("p", blocks, outputs=("query",), catalogue=Catalogue({}, {}))
    codes = {mistake.code for mistake in made.checked.errors}
    if codes:
        assert codes <= {"unread", "never-changes"}
        return
    alone = [seen_by(tried(lambda q=q: made.run(q))) for q in questions]
    assert [seen_by(one) for one in made.batch(questions, on_error="return")] == alone
    streams = [tried(lambda q=q: list(made.stream(q))[-1].result) for q in questions]
    assert [seen_by(one) for one in streams] == alone

    async def later_on():
        together = await made.abatch(questions, on_error="return")
        one = made.arun(questions[0])
        try:
            return together, await one
        except StepFailedError as error:
            return together, error

    together, one = asyncio.run(later_on())
    assert [seen_by(outcome) for outcome in together] == alone
    assert seen_by(one) == alone[0]


def test_a_generator_that_refuses_while_it_streams_is_a_step_that_failed(pipeline):
    class Refusing:
        def __call__(self, query: Query) -> Answer:
            raise UnsupportedModelError("the window ends")

        def stream(self, query):
            yield "a"
            raise UnsupportedModelError("the window ends")

    made = pipeline(step(Refusing(), id="generate"))
    message = (
        r"^step 'generate' failed: UnsupportedModelError: the window ends \(input: query='q'\)$"
    )
    for call in (lambda: made.run("q"), lambda: list(made.stream("q"))):
        with pytest.raises(StepFailedError, match=message):
            call()
