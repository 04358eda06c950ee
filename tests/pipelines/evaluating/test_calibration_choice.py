"""The choice among settings: by hand, the front against brute force, names, stages, sentences."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalogue.table import catalogue, load
from pipelines.evaluating.calibration.calibrate import _finalists
from pipelines.evaluating.calibration.choice import (
    Measured,
    choose,
    compared,
    front,
    ranked,
)
from pipelines.evaluating.calibration.picture import front_svg
from pipelines.evaluating.calibration.report import (
    CalibrationReport,
    Tried,
    as_json,
    calibrated_text,
)
from pipelines.evaluating.calibration.settings import (
    CACHED_MODES,
    EXACT,
    EXACT_MODES,
    OPTIONS,
    Setting,
    defaults,
    grid,
    search,
)
from rag.generation.local_model import LocalModel

APE = Setting.of({"mode": "ape"})
BLOCK = Setting.of({"mode": "block"})
GRAPH = Setting.of({"mode": "graph"})
PREFIX = Setting.of({"mode": "prefix"})


def of(setting, ttft, kl, gold=(), f1=()):
    return Measured(setting, tuple(ttft), tuple(kl), tuple(kl), tuple(gold), tuple(f1))


SEQUENTIAL = of(EXACT, [100, 110], [0, 0])


# --- the front -----------------------------------------------------------------------------------


def test_the_front_by_hand():
    assert front([(3, 1), (1, 3), (2, 2), (2.5, 2), (4, 1)]) == [1, 2, 0]
    assert front([(1, 1), (1, 1), (1, 2), (2, 1)]) == [0, 1]
    assert front([(1, 5)]) == [0]
    assert front([]) == []


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    def beaten(one):
        return any(a <= one[0] and b <= one[1] and (a, b) != one for a, b in points)

    found = front(points)
    assert sorted(found) == [row for row, one in enumerate(points) if not beaten(one)]
    assert all(points[a] <= points[b] for a, b in pairwise(found))


# --- close enough --------------------------------------------------------------------------------


def test_without_answers_the_upper_end_of_the_divergence_decides():
    assert compared(of(APE, [1, 1], [0.05, 0.05]), SEQUENTIAL).close
    assert not compared(of(APE, [1, 1], [0.051, 0.051]), SEQUENTIAL).close
    # The mean is well below, but one question in two may be far off.
    wide = compared(of(APE, [1, 1], [0.0, 0.08]), SEQUENTIAL)
    assert wide.gap.mean == pytest.approx(0.04)
    assert wide.gap.high == pytest.approx(0.08)
    assert not wide.close


def test_with_answers_the_loss_is_their_nll_and_is_compared_question_by_question():
    exact = of(EXACT, [9, 9], [0, 0], gold=[2.0, 6.0], f1=[0.0, 0.0])
    near = compared(of(APE, [1, 3], [0.9, 0.9], gold=[2.04, 6.04], f1=[0.0, 0.0]), exact)
    assert near.close
    assert (near.loss, near.gap.mean, near.kl.mean) == pytest.approx((4.04, 0.04, 0.9))
    assert near.ttft_ms == 2
    far = compared(of(APE, [1, 3], [0.0, 0.0], gold=[2.1, 6.1], f1=[0.0, 0.0]), exact)
    assert not far.close


@pytest.mark.parametrize(("f1", "close"), [(0.49, True), (0.4899, False), (1.0, True)])
def test_f1_of_98_percent_is_close_enough_whatever_the_nll_is(f1, close):
    exact = of(EXACT, [9], [0], gold=[1.0], f1=[0.5])
    found = compared(of(APE, [1], [1], gold=[5.0], f1=[f1]), exact)
    assert found.close is close
    assert found.f1_gap.mean == pytest.approx(f1 - 0.5)


def test_f1_says_nothing_where_the_exact_mode_has_none_or_it_was_not_measured():
    exact = of(EXACT, [9], [0], gold=[1.0], f1=[0.0])
    assert not compared(of(APE, [1], [1], gold=[5.0], f1=[0.0]), exact).close
    unmeasured = compared(of(APE, [1], [1], gold=[5.0]), replace(exact, f1=(0.5,)))
    assert (unmeasured.close, unmeasured.f1, unmeasured.f1_gap) == (False, None, None)


def test_what_computes_every_passage_is_close_by_definition():
    assert compared(of(PREFIX, [9, 9], [3.0, 3.0]), SEQUENTIAL).close
    assert compared(SEQUENTIAL, SEQUENTIAL).close


# --- the choice ----------------------------------------------------------------------------------

NEAR, NEARER, FAR = (of(s, [t] * 2, [kl] * 2) for s, t, kl in
                     ((BLOCK, 40, 0.04), (GRAPH, 60, 0.01), (APE, 20, 0.9)))  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "budget", "setting", "rule"),
    [
        # Not the best, and not the fastest of all.
        ([SEQUENTIAL, NEARER, NEAR, FAR], None, BLOCK, "fastest that is close enough"),
        ([SEQUENTIAL, FAR], None, EXACT, "fastest that is close enough"),
        ([SEQUENTIAL, NEARER, NEAR, FAR], 50, BLOCK, "fastest that is close enough"),
        ([SEQUENTIAL, NEARER, NEAR, FAR], 40, BLOCK, "fastest that is close enough"),
        ([SEQUENTIAL, NEARER, NEAR, FAR], 39, APE, "best within the budget"),
        ([SEQUENTIAL, NEARER, NEAR, FAR], 19, APE, "fastest of all"),
    ],
)
def test_the_rules_of_the_choice(measured, budget, setting, rule):
    for order in (measured, measured[::-1]):
        found = choose(order, SEQUENTIAL, budget_ms=budget)
        assert (found.setting, found.rule) == (setting, rule)


def test_the_best_within_a_budget_is_not_the_fastest_within_it():
    good = of(GRAPH, [30, 30], [0.3, 0.3])
    found = choose([SEQUENTIAL, FAR, good], SEQUENTIAL, budget_ms=35)
    assert (found.setting, found.rule) == (GRAPH, "best within the budget")


def test_of_equally_fast_ones_the_closer_is_chosen_and_of_equals_the_first():
    one, closer = of(BLOCK, [5, 5], [0.03, 0.03]), of(GRAPH, [5, 5], [0.02, 0.02])
    assert choose([one, closer], SEQUENTIAL).setting == GRAPH
    assert choose([one, replace(one, setting=APE)], SEQUENTIAL).setting == BLOCK


def test_there_must_be_something_to_choose():
    with pytest.raises(ValueError, match="at least one setting, got none"):
        choose([], SEQUENTIAL)


def test_ranked_by_loss_within_the_budget_first():
    assert [one.setting for one in ranked([FAR, NEAR, NEARER], None)] == [GRAPH, BLOCK, APE]
    assert [one.setting for one in ranked([FAR, NEAR, NEARER], 45)] == [BLOCK, APE, GRAPH]


def test_what_may_be_chosen_is_the_front_the_exact_mode_the_own_one_and_the_best_of_each_mode():
    own = of(APE.with_(ape_bias=9.0), [90, 90], [2.0, 2.0])
    beaten = of(APE.with_(ape_bias=1.0), [30, 30], [1.5, 1.5])
    prefix = of(PREFIX, [200, 200], [0.5, 0.5])  # beaten, and the only one of its mode
    found = [SEQUENTIAL, own, FAR, beaten, NEAR, prefix]
    assert _finalists(found, own.setting, None) == [SEQUENTIAL, own, FAR, NEAR, prefix]
    assert _finalists(found, EXACT, None) == [SEQUENTIAL, FAR, NEAR, prefix]


# --- settings ------------------------------------------------------------------------------------


def test_a_setting_drops_what_its_mode_has_no_use_for():
    assert Setting.of({"mode": "ape", "k": 3, "edges": "full"}) == APE
    assert Setting.of({"k": 3, "ape_bias": 1.0}).mode == defaults()["mode"]
    block = Setting.of({"mode": "block", "ape_bias": 1.0, "recompute_first_k": 4, "max_tokens": 9})
    assert block.changed == (("mode", "block"), ("recompute_first_k", 4))
    assert block.with_(mode="sequential") == EXACT
    assert block.options == {**defaults(), "mode": "block", "recompute_first_k": 4}


OTHERS = {
    "ape_temperature": 0.5, "ape_scale": 0.9, "ape_bias": 1.0, "k": 2, "rounds": 2,
    "keep_round0": True, "self_edge": True, "positions": "serial", "repack": False,
    "see_prefix": False, "recompute_first_k": 4, "recompute_top_r": 0.5, "deviation": "key",
    "edges": "full", "repeat_passages": True, "context": "text", "context_slack_ms": 5.0,
    "context_blend": 0.1,
}  # fmt: skip
AUTO = {"context_slack_ms": {"context": "auto"}, "context_blend": {"context": "auto"}}


@pytest.mark.parametrize("mode", [*EXACT_MODES, *CACHED_MODES])
def test_an_option_is_kept_just_where_the_generator_has_a_use_for_it(
    mode, tiny_model, tiny_tokenizer
):
    from rag.models.language_model import LoadedModel
    from rag.records import ModelIdentity

    identity = ModelIdentity("tiny", "w", "r", "float32", "t")
    lm = LocalModel(LoadedModel(tiny_model(), tiny_tokenizer, identity))
    for name, value in OTHERS.items():
        options = {"mode": mode, name: value, **AUTO.get(name, {})}
        kept = name in dict(Setting.of(options).changed)
        try:
            load(catalogue().operators["generate.cached"].target)(lm, **options)
        except ValueError as error:
            assert "has no use for" in str(error)  # noqa: PT017
            assert not kept
        else:
            assert kept


def test_all_options_but_prompt_sampling_and_citations_are_settings():
    every = {option.name for option in catalogue().operators["generate.cached"].options}
    others = {"prompt", "max_tokens", "temperature", "seed", "sample_top_k", "top_p", "min_p",
              "stop", "beams", "length_penalty", "threshold", "cite", "attention_heads",
              "context_cost", "refusal_threshold", "fallback"}  # fmt: skip
    assert every - set(OPTIONS) == others
    assert set(OPTIONS) == set(defaults())
    assert set(OPTIONS) == {"mode", "pairs", *OTHERS}


def test_changes_lead_from_the_recipes_own_setting_to_another():
    own = Setting.of({"mode": "graph", "edges": "explicit", "pairs": [[2, 1]], "see_prefix": False})
    target = Setting.of({"mode": "block", "recompute_first_k": 4})
    changes = target.changes(own)
    assert changes == {
        "mode": "block", "edges": "into_top_k", "pairs": None, "see_prefix": True,
        "recompute_first_k": 4,
    }  # fmt: skip
    assert Setting.of({**own.options, **changes}) == target
    assert own.changes(own) == {"mode": "graph"}
    assert own.options["pairs"] == [[2, 1]]


def triples(settings):
    names = ("ape_temperature", "ape_scale", "ape_bias")
    return [tuple(one.options[name] for name in names) for one in settings if one.mode == "ape"]


def test_the_search_begins_with_every_mode_and_with_ape_at_both_positions():
    tried = search()[0].settings([])
    assert len(set(tried)) == len(tried)
    assert {one.mode for one in tried} == {*CACHED_MODES, "prefix"}
    assert [one.options["k"] for one in tried if one.mode == "graph"] == [1, 2]
    assert {APE, APE.with_(positions="serial"), BLOCK} <= set(tried)
    # Passages one after another with neutral weights are mode block.
    assert Setting.of({"mode": "parallel", "positions": "serial"}) not in tried


def test_weights_are_tried_around_the_best_ape_where_its_passages_stand():
    weights = search()[1].settings
    best = APE.with_(ape_temperature=0.5, ape_bias=0.25)
    around = [
        (0.3, 1.0, 0.25), (0.4, 1.0, 0.25), (0.6, 1.0, 0.25), (0.7, 1.0, 0.25),
        (0.5, 0.9, 0.25), (0.5, 1.1, 0.25), (0.5, 1.0, 0.0), (0.5, 1.0, 0.5),
    ]  # fmt: skip
    for positions in ("serial", "shared"):
        found = weights([BLOCK, best.with_(positions=positions), APE])
        assert triples(found)[:8] == around
        assert {one.options["positions"] for one in found[:8]} == {positions}
    # Neutral weights are mode parallel, or block, which were tried.
    assert (1.0, 1.0, 0.0) not in triples(weights([APE.with_(ape_temperature=0.9)]))
    assert all(t > 0 for t, _, _ in triples(weights([APE.with_(ape_temperature=0.1)])))
    assert all(s > 0 for _, s, _ in triples(weights([APE.with_(ape_scale=0.1)])))


def test_the_best_at_shared_positions_are_tried_at_serial_ones():
    positions = search()[1].settings
    best = [GRAPH.with_(k=2), APE.with_(ape_bias=0.5), GRAPH, APE]
    serial = [one.with_(positions="serial") for one in (APE.with_(ape_bias=0.5), GRAPH.with_(k=2))]
    assert positions(best)[-2:] == serial
    assert positions([BLOCK, GRAPH.with_(positions="serial"), GRAPH]) == []
    assert positions([GRAPH.with_(positions="serial"), *best])[-1:] == serial[:1]
    assert positions([BLOCK, Setting.of({"mode": "parallel"})]) == []


def test_only_settings_at_serial_positions_are_repaired_and_the_prefix_is_hidden_last():
    repairs = search()[2].settings
    serial = APE.with_(positions="serial")
    ranked = [GRAPH, BLOCK.with_(recompute_first_k=1), BLOCK, APE, serial]
    found = repairs(ranked)
    *mended, first, second = found
    assert mended == [
        ranked[1].with_(recompute_first_k=4), ranked[1].with_(recompute_first_k=16),
        *(ranked[1].with_(recompute_top_r=share) for share in (0.05, 0.15, 0.3)),
        serial.with_(recompute_first_k=4), serial.with_(recompute_first_k=16),
        *(serial.with_(recompute_top_r=share) for share in (0.05, 0.15, 0.3)),
    ]  # fmt: skip
    assert [first, second] == [one.with_(see_prefix=False) for one in (GRAPH, ranked[1])]
    assert all(one.options["see_prefix"] for one in mended)
    graph = GRAPH.with_(positions="serial")
    assert {one.mode for one in repairs([graph, APE, BLOCK])[:-2]} == {"graph", "block"}
    assert repairs([GRAPH, APE]) == [one.with_(see_prefix=False) for one in (GRAPH, APE)]
    assert repairs([]) == []


def test_the_search_stays_small():
    ranked, count = [], 0
    for stage in search():
        found = [one for one in stage.settings(ranked) if one not in ranked]
        count += len(found)
        ranked = [*(one for one in found if not one.exact), *ranked]
    assert 25 <= count <= 33


def test_a_grid_has_all_combinations_over_the_recipes_own_options():
    own = APE.with_(see_prefix=False)
    (stage,) = grid({"mode": ["ape", "block"], "ape_bias": [0.0, 0.5]}, own)
    assert stage.settings([]) == [
        own, own.with_(ape_bias=0.5), own.with_(mode="block"), own.with_(mode="block"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"options to try must be of mode, .*, got max_tokens"):
        grid({"max_tokens": [1]}, own)
    with pytest.raises(ValueError, match=r"got beams, cite$"):
        grid({"beams": [2], "mode": ["ape"], "cite": ["both"]}, own)


def test_different_settings_have_different_names():
    rows = [*search()[0].settings([])]
    rows += search()[1].settings([APE])
    rows += search()[2].settings([APE, BLOCK])
    rows += [Setting.of({"mode": mode, name: value}) for mode in CACHED_MODES
             for name, value in OTHERS.items()]  # fmt: skip
    unique = set(rows)
    assert len({one.name for one in unique}) == len(unique)
    assert APE.name == "ape T=0.8 S=1"
    assert APE.with_(ape_bias=0.5, positions="serial").name == "ape T=0.8 S=1 b=0.5, serial"
    assert GRAPH.with_(k=2, recompute_top_r=0.05).name == "graph into_top_2, 5 % anew"
    assert GRAPH.with_(edges="full").name == "graph, edges=full"
    assert BLOCK.with_(see_prefix=False, recompute_first_k=4).name == (
        "block, prefix not seen, first 4 anew"
    )


# --- in words, as a file, as a picture -----------------------------------------------------------


def report(measured, chosen, rule="fastest that is close enough", *, held=None, **more):
    def told(rows):
        exact = next(one for one in rows if one.setting == EXACT)
        best = set(front([(one.median_ttft_ms, one.loss) for one in rows]))
        found = [
            Tried(compared(one, exact), dict(one.setting.changed), row in best)
            for row, one in enumerate(rows)
        ]
        return tuple(sorted(found, key=lambda one: one.compared.ttft_ms))

    fields = {
        "step": "generate", "model": "tiny", "labelled": bool(measured[0].gold_nll),
        "chosen": chosen.name, "options": chosen.changes(APE), "own": APE.name, "rule": rule,
        "budget_ms": None, "choosing": 2, "held_out": 2, "left_out": 0,
        "results": told(held or measured), "tried": told(measured),
    }  # fmt: skip
    return CalibrationReport(**fields | more)


GOLD = of(EXACT, [100, 110], [0, 0], gold=[1.0, 1.0], f1=[0.5, 0.6])
WORSE = of(APE, [20, 20], [0.9, 0.9], gold=[1.5, 1.5], f1=[0.4, 0.3])
ALSO = of(BLOCK, [30, 30], [0.9, 0.9], gold=[1.6, 1.6], f1=[0.5, 0.4])


def test_it_says_plainly_that_no_cached_mode_is_close_enough():
    (chosen, none, held) = report([GOLD, WORSE, ALSO], EXACT).says
    assert chosen == "Chosen: sequential, as nothing faster is within 2 % of it."
    assert none == (
        "No cached mode is within 2 % of sequential on the 2 questions that chose: best is block, "
        "F1 0.450 against 0.550, NLL 1.600 against 1.000 (+0.600 [+0.600, +0.600]) nats a token."
    )
    assert held == "On 2 questions held out, sequential takes 105 ms to the first token."
    told = as_json(report([GOLD, WORSE, ALSO], EXACT))
    assert none in told["says"]
    assert told["results"][0]["f1"] == pytest.approx(0.35)
    assert none in calibrated_text(report([GOLD, WORSE, ALSO], EXACT), "ask", "x")


def test_without_answers_it_says_so_in_nats():
    (_, none, _) = report([SEQUENTIAL, FAR], EXACT).says
    assert none == (
        "No cached mode is within 0.05 nats a token of sequential on the 2 questions that chose: best is "
        "ape T=0.8 S=1, KL 0.900 [0.900, 0.900] nats a token."
    )


def test_a_cached_mode_that_is_close_enough_needs_no_excuse():
    said = report([SEQUENTIAL, NEAR, FAR], BLOCK).says
    assert len(said) == 2
    assert said[0] == "Chosen: block, the fastest within 0.05 nats a token of sequential."
    assert said[1].startswith("On 2 questions held out, block takes 40 ms to the first token, seq")


def test_a_choice_that_does_not_hold_on_other_questions_is_told():
    held = [SEQUENTIAL, of(BLOCK, [40, 40], [0.5, 0.5])]
    said = report([SEQUENTIAL, NEAR], BLOCK, held=held).says
    assert said[-1] == "block is not within 0.05 nats a token of sequential there."


def test_a_budget_is_named_and_one_that_is_too_small_too():
    said = report([SEQUENTIAL, NEAR], BLOCK, budget_ms=50.0).says
    assert said[0].endswith("the fastest within 0.05 nats a token of sequential and within 50 ms.")
    said = report([SEQUENTIAL, FAR], APE, "best within the budget", budget_ms=50.0).says
    assert "the best within 50 ms; none so fast is within 0.05 nats a token of" in said[0]
    said = report([SEQUENTIAL, FAR], APE, "fastest of all", budget_ms=5.0).says
    assert "fastest of all at 20 ms, as nothing answers within 5 ms: the budget is too" in said[0]


def test_questions_that_found_nothing_are_told():
    assert "for 3 more questions" in report([SEQUENTIAL, NEAR], BLOCK, left_out=3).says[-1]


def test_the_file_extends_the_recipe_and_hides_nothing_in_its_comment():
    text = calibrated_text(report([SEQUENTIAL, NEAR], BLOCK, model="a\nb: c"), "ask", "dovetail x")
    assert yaml.safe_load(text) == {
        "version": 1,
        "extends": "ask",
        "steps": [{"id": "generate", "use": "generate.cached", "with": {"mode": "block"}}],
    }
    assert text.startswith("# Made by: dovetail x\n# With a b: c.\n# Chosen: block, ")
    text = calibrated_text(report([SEQUENTIAL, NEAR], BLOCK), "bm25", "x", ["prune.sentences"])
    found = yaml.safe_load(text)
    assert found["steps"][0] == "prune.sentences"
    assert found["outputs"] == ["answer"]
    assert yaml.safe_load(calibrated_text(report([SEQUENTIAL, NEAR], BLOCK), "b", "x", []))[
        "outputs"
    ] == ["answer"]


def drawn(svg):
    names = {"s": "http://www.w3.org/2000/svg"}
    root = ET.fromstring(svg)
    points = {
        group.find("s:title", names).text.partition(":")[0]: group.find("s:circle", names)
        for group in root.findall("s:g", names)
    }
    return root, points, names


def test_the_picture_has_a_point_a_setting_by_time_and_loss():
    told = report([SEQUENTIAL, NEAR, NEARER, FAR], BLOCK, model="<tiny> & co", budget_ms=50.0)
    svg = front_svg(told)
    root, points, names = drawn(svg)
    assert (root.get("width"), root.get("height")) == ("800", "500")
    assert "&lt;tiny&gt; &amp; co" in svg
    assert set(points) == {"sequential", "block", "graph into_top_1", "ape T=0.8 S=1"}
    by_time = sorted(points, key=lambda name: float(points[name].get("cx")))
    assert by_time == ["ape T=0.8 S=1", "block", "graph into_top_1", "sequential"]
    by_loss = sorted(points, key=lambda name: -float(points[name].get("cy")))
    assert by_loss == by_time[::-1]
    # A logarithmic axis: 20 to 40 ms is as far as 40 to 80.
    x = {name: float(point.get("cx")) for name, point in points.items()}
    step = x["block"] - x["ape T=0.8 S=1"]
    assert x["graph into_top_1"] - x["block"] == pytest.approx(step * 0.585, abs=0.2)
    assert svg.count('class="ring"') == 1
    assert "budget 50 ms" in svg
    assert root.find("s:path[@class='joined']", names).get("d").count("L") == 3
    texts = [one.text for one in root.findall("s:text", names)]
    assert all(name in texts for name in points)


NUMBERS = st.floats(1e-3, 1e5)


@given(st.lists(st.tuples(NUMBERS, st.floats(0, 20)), min_size=1, max_size=12))
def test_any_measurements_can_be_drawn_inside_the_picture(points):
    rows = [SEQUENTIAL, *(of(APE.with_(ape_bias=n + 1.0), [t] * 2, [kl] * 2)
                          for n, (t, kl) in enumerate(points))]  # fmt: skip
    _, found, _ = drawn(front_svg(report(rows, EXACT)))
    assert len(found) == len(rows)
    for point in found.values():
        assert 60 <= float(point.get("cx")) <= 780
        assert 60 <= float(point.get("cy")) <= 445
