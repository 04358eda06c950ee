"""The context planner: what it chooses under each policy, why, and what it says that costs."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.context_plan import ContextPlan, Readable, explained
from rag.generation.context_planner import ContextPlanner
from rag.generation.cost_model import CostModel
from rag.records import (
    ContextStep,
    ModelIdentity,
    Passage,
    Segment,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)

IDENTITY = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")
FAST_LOAD = CostModel(100, 1e9, 100)
SLOW_LOAD = CostModel(1e9, 100, 100)


def readable(name="p", tokens=40, rows=range(10), *, kept=True, **options):
    """A passage of two sentences, of which the first is kept, and so many tokens."""
    text = "One one. Two two."
    spans = Span(0, 9), Span(9, 17)
    scores = SentenceScore(spans[0], 0.5, kept), SentenceScore(spans[1], 0.5, kept=False)
    selection = Selection(name, text_sha(text), scores, "test")
    passage = Passage(name, "d", text, Span(0, 17), spans, kept=selection)
    segment = Segment(IDENTITY, "passage", tuple(range(tokens)), name=name)
    chosen = segment, None if rows is None else tuple(rows)
    return Readable(passage, chosen, chosen, **options)


def steps_of(plan):
    return [step.step for step in plan.steps]


@pytest.mark.parametrize(
    ("policy", "steps"),
    [("rows", ["rows", "full"]), ("text", ["text"] * 2), ("full", ["full"] * 2)],
)
def test_a_fixed_policy_is_followed(policy, steps):
    plan = ContextPlanner(policy).plan([readable(), readable("q", rows=None)])
    assert steps_of(plan) == steps
    assert all(step.reason.startswith(f"context: {policy}") for step in plan.steps)
    assert [step.load_ratio for step in plan.steps] == [None, None]
    assert plan.seconds == 0
    if policy == "full":
        assert [step.kept_tokens for step in plan.steps] == [40, 40]
        assert plan.rows_of(0) == (plan.readable[0].cached[0], None)


@pytest.mark.parametrize("policy", ["rows", "text", "full", "auto"])
def test_nothing_kept_is_dropped_under_every_policy(policy):
    plan = ContextPlanner(policy, FAST_LOAD).plan([readable(kept=False)])
    assert steps_of(plan) == ["drop"]
    assert plan.rows_of(0) is None
    assert plan.as_text() == []
    assert (plan.steps[0].kept_tokens, plan.steps[0].seconds) == (0, {})


@pytest.mark.parametrize("policy", ["rows", "text", "full", "auto"])
def test_a_selection_of_another_text_never_reads_rows(policy):
    one = readable(refused="the selection was made on another text")
    stale = replace(one.passage.kept, text_sha=text_sha("an older text"))
    one = replace(one, passage=replace(one.passage, kept=stale))
    plan = ContextPlanner(policy, FAST_LOAD).plan([one])
    assert steps_of(plan) == ["text"]
    assert "another text" in plan.steps[0].reason
    assert plan.as_text() == [replace(one.passage, kept=None)]


def test_a_selection_of_words_without_offsets_is_text_unless_all_is_read():
    one = readable(refused="no token tells which words it holds")
    assert steps_of(ContextPlanner("rows").plan([one])) == ["text"]
    assert steps_of(ContextPlanner("full").plan([one])) == ["full"]


def test_auto_reads_rows_where_loading_is_cheap_and_text_where_it_is_not():
    cheap, dear = (
        ContextPlanner("auto", cost).plan([readable()]) for cost in (FAST_LOAD, SLOW_LOAD)
    )
    assert (steps_of(cheap), steps_of(dear)) == (["rows"], ["text"])
    assert cheap.steps[0].load_ratio == pytest.approx(1e-5)
    assert "β = 1e-05" in cheap.steps[0].reason
    assert "β = 1e+09" in dear.steps[0].reason


def test_text_is_read_among_equals():
    # Loading 40 tokens at 4 times the speed of prefilling takes as long as computing 10 of them.
    tie = CostModel(1, 4, 1)
    (step,) = ContextPlanner("auto", tie).plan([readable()]).steps
    assert (step.step, step.seconds["text"]) == ("text", step.seconds["rows"])
    assert step.reason == "computing costs no more than loading, β = 0.25"


def test_auto_reads_text_of_what_the_store_does_not_have():
    plan = ContextPlanner("auto", FAST_LOAD).plan([readable(absent="corrupt: checksum")])
    assert steps_of(plan) == ["text"]
    assert plan.steps[0].reason == "not in the KV store: corrupt: checksum"


def test_a_passage_that_the_mode_computes_anew_is_text():
    one = readable(anew="mode graph computes it anew over 2 others")
    for policy in ("rows", "full", "auto"):
        assert steps_of(ContextPlanner(policy, FAST_LOAD).plan([one])) == ["text"]


COSTS = st.builds(
    CostModel,
    st.floats(1, 1e5),
    st.floats(1e3, 1e10),
    st.floats(1, 1e6),
    st.floats(0, 1e-3),
    st.floats(0, 1e-5),
    st.floats(0, 1e-3),
    loads_whole=st.booleans(),
)


@given(cost=COSTS, tokens=st.integers(2, 300), data=st.data())
def test_auto_chooses_the_least_predicted_cost(cost, tokens, data):
    kept = data.draw(st.sets(st.integers(0, tokens - 1), min_size=1))
    rows = None if len(kept) == tokens else sorted(kept)
    (step,) = ContextPlanner("auto", cost).plan([readable(tokens=tokens, rows=rows)]).steps
    possible = {"text", "rows" if rows else "full"}
    assert step.seconds[step.step] <= min(step.seconds[name] for name in possible) * (1 + 1e-9)
    if cost.load_ratio >= 1:
        assert step.step == "text"
    if step.seconds["text"] == step.seconds["rows" if rows else "full"]:
        assert step.step == "text"


@given(
    sizes=st.lists(st.integers(2, 60), min_size=1, max_size=6),
    slack=st.floats(0, 3),
    blend=st.sampled_from([0.0, 0.2, 1.0]),
    cost=COSTS,
)
def test_the_slack_is_never_overspent_and_more_of_it_only_upgrades(sizes, slack, blend, cost):
    read = [readable(f"p{n}", size + 5, range(size)) for n, size in enumerate(sizes)]
    fast = ContextPlanner("auto", cost).plan(read)
    better = ContextPlanner("auto", cost, slack, blend).plan(read)
    assert better.seconds <= fast.seconds + slack * (1 + 1e-9) + 1e-9
    for before, after in zip(fast.steps, better.steps, strict=True):
        assert before.step == after.step or after.step in ("text", "blend")
    assert bool(better.recomputed) == ("blend" in steps_of(better))


def test_the_best_passages_are_upgraded_first():
    # 10 tokens at 100 a second are 0.1 s of text each; loading is next to nothing.
    read = [readable(name) for name in "abc"]
    plan = ContextPlanner("auto", FAST_LOAD, quality_slack_s=0.21).plan(read)
    assert steps_of(plan) == ["text", "text", "rows"]
    assert "fits into the slack" in plan.steps[0].reason


def test_a_passage_too_long_for_the_slack_is_passed_over():
    read = [readable("a", rows=range(30)), readable("b")]
    plan = ContextPlanner("auto", FAST_LOAD, quality_slack_s=0.15).plan(read)
    assert steps_of(plan) == ["rows", "text"]


def test_a_blend_takes_all_cached_rows_or_none():
    read = [readable("a"), readable("b"), readable("c", absent="absent")]
    # A fifth of 20 rows at 100 a second is 0.04 s; text of one passage is 0.1 s.
    plan = ContextPlanner("auto", FAST_LOAD, quality_slack_s=0.05, blend=0.2).plan(read)
    assert (steps_of(plan), plan.recomputed) == (["blend", "blend", "text"], 0.2)
    assert plan.rows_of(0) == read[0].cached
    assert plan.steps[0].seconds["blend"] > plan.steps[0].seconds["rows"]
    tight = ContextPlanner("auto", FAST_LOAD, quality_slack_s=0.03, blend=0.2).plan(read)
    assert (steps_of(tight), tight.recomputed) == (["rows", "rows", "text"], 0.0)


def test_what_is_recomputed_in_any_case_is_told_as_a_blend():
    plan = ContextPlanner().plan([readable(), readable("q", anew="mode")], recomputed=0.15)
    assert steps_of(plan) == ["blend", "text"]
    assert "15% of cached rows are computed anew" in plan.steps[0].reason


def test_explain_says_everything_and_adds_up():
    read = [readable("a"), readable("b", absent="absent"), readable("c", kept=False)]
    plan = ContextPlanner("auto", CostModel(100, 4e5, 100)).plan(read)
    *lines, last = plan.explain().splitlines()
    assert lines[0].startswith("a: rows, 10 of 40 tokens (s = 0.25), β = 0.025, text 0.100000 s, ")
    assert lines[2] == "c: drop, 0 of 40 tokens (s = 0.00): no sentence of it is kept"
    total = sum(
        float(re.search(rf", {step.step} ([\d.]+) s", line)[1])
        for step, line in zip(plan.steps[:2], lines, strict=False)
    )
    assert float(re.search(r"predicted in all: ([\d.]+) s", last)[1]) == pytest.approx(total)
    assert plan.seconds == pytest.approx(total)
    assert plan.explain() == explained(plan.steps)
    assert explained(()) == ""
    assert "predicted" not in ContextPlanner().plan(read).explain()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "row"}, "policy must be one of rows, text, full, auto, got 'row'"),
        ({"policy": "auto", "quality_slack_s": -1}, "quality_slack_s must be at least 0, got -1"),
        ({"policy": "auto", "blend": 1.5}, r"blend must be in \[0, 1\], got 1.5"),
        ({"quality_slack_s": 0.1}, "policy 'rows' has no use for quality_slack_s"),
        ({"policy": "text", "blend": 0.1}, "policy 'text' has no use for blend"),
    ],
)
def test_refuses_what_means_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        ContextPlanner(**options)


def test_auto_without_a_cost_model_is_refused():
    with pytest.raises(ValueError, match="policy 'auto' needs a cost model, got None"):
        ContextPlanner("auto").plan([readable()])


def test_a_plan_has_one_step_a_passage():
    with pytest.raises(ValueError, match=r"steps must be one a passage, \['p'\], got \['q'\]"):
        ContextPlan((readable(),), (ContextStep("q", "text", ""),))


def test_spans_are_runs_of_rows():
    assert readable(rows=None).spans == 1
    assert readable(rows=[0, 1, 4, 6, 7]).spans == 3
