"""Layers in which a window slides: several windows long, stored or not, in any plan."""

from dataclasses import replace

import pytest
import torch

from rag.generation.decoding import Sampling
from rag.generation.plan import (
    ContextWeights,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)
from rag.records import Segment

EDGES = ((1, 2), (2,), ())
LENGTHS = (20, 40, 25, 33)


@pytest.fixture
def engine_in(families, windowed):
    """Return a function dtype -> engine of a family whose window is 16."""
    name, changes = windowed
    return lambda dtype=torch.float32: families.engine(name, dtype, **changes)


@pytest.fixture
def without(families, windowed):
    """Return a function (dtype, window) -> engine with another window, or none."""
    name, changes = windowed
    return lambda dtype, window: families.engine(
        name, dtype, **changes | {"sliding_window": window}
    )


def pairs(passages):
    return tuple((passage, None) for passage in passages)


def plans_of(families, engine):
    prefix, passages = families.segments(engine, LENGTHS)
    question = families.tokens(21, seed=9)
    return {
        "parallel": parallel_plan(prefix, pairs(passages), question, ContextWeights()),
        "graph": graph_plan(prefix, pairs(passages), EDGES, question),
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_long_prompt_equals_the_models_own_forward(families, windowed, engine_in, attention):
    name, _ = windowed
    if attention == "sdpa" and name in {"gpt_oss", "gemma2"}:
        pytest.skip("SDPA knows neither sinks nor capped logits")
    engine = engine_in()
    ids = families.tokens(100)
    want = families.own_forward(engine, attention, ids, use_cache=False)[-1]
    assert (engine.prefill(sequential_plan(ids)).logits - want).abs().max() < 1e-5
    prefix = Segment(engine.identity, "prefix", ids[:20])
    passage = Segment(engine.identity, "passage", ids[20:80], (prefix,))
    plan = parallel_plan(prefix, ((passage, None),), ids[80:], ContextWeights())
    assert (engine.prefill(plan).logits - want).abs().max() < 1e-5


def test_prompts_longer_than_a_block_of_queries_and_a_chunk_slide_too(
    families, engine_in, monkeypatch
):
    engine = engine_in()
    ids = families.tokens(300)
    want = families.own_forward(engine, "eager", ids, use_cache=False)[-1]
    assert (engine.prefill(sequential_plan(ids)).logits - want).abs().max() < 1e-5
    monkeypatch.setattr("rag.generation.engine.PREFILL_CHUNK", 150)
    assert (engine.prefill(sequential_plan(ids)).logits - want).abs().max() < 1e-5


def test_a_segment_longer_than_the_window_is_stored_as_the_model_computes_it(families, engine_in):
    from transformers import DynamicCache

    engine = engine_in()
    segment = Segment(engine.identity, "prefix", families.tokens(60))
    stored, own = engine.encode(segment), DynamicCache()
    families.own_forward(engine, "eager", segment.token_ids, past_key_values=own, use_cache=True)
    rotated = engine._rotary.rotate(stored.keys, torch.arange(60))
    for layer, theirs in enumerate(own.layers):
        values = stored.values[layer].transpose(0, 1)
        for found, want in ((rotated[layer], theirs.keys[0]), (values, theirs.values[0])):
            limit = 1e-5 * max(1.0, float(want.abs().max()))
            assert (found - want).abs().max() < limit


@pytest.mark.parametrize("mode", ["parallel", "graph"])
def test_windows_go_by_position_in_every_plan(families, engine_in, mode):
    engine = engine_in(torch.float64)
    plan = plans_of(families, engine)[mode]
    want = families.dense_oracle(engine, plan)[-1]
    assert (engine.prefill(plan).logits - want).abs().max() < 1e-10


@pytest.mark.parametrize("mode", ["parallel", "graph"])
def test_a_window_off_by_one_moves_the_logits(families, engine_in, mode):
    engine = engine_in(torch.float64)
    plan = plans_of(families, engine)[mode]
    found = engine.prefill(plan).logits
    for window in (15, 17, 1000):
        wrong = families.dense_oracle(engine, plan, window=window)[-1]
        assert (found - wrong).abs().max() > 1e-3


def test_a_window_that_nothing_leaves_is_no_window(families, engine_in, without):
    engine, wide = engine_in(torch.float64), without(torch.float64, 400)
    ids = families.tokens(100)
    narrow = engine.prefill(sequential_plan(ids)).logits
    want = families.stock_forward(wide, ids, list(range(100)), torch.ones(100, 100).tril().bool())
    assert (wide.prefill(sequential_plan(ids)).logits - want[-1]).abs().max() < 1e-10
    assert (narrow - want[-1]).abs().max() > 1e-3


def test_decoding_slides_on(families, engine_in):
    engine = engine_in(torch.float64)
    plan, made = plans_of(families, engine)["parallel"], []
    for token, state in engine.decode_states(engine.prefill(plan), Sampling(20), frozenset()):
        made.append((token, state.logits))
    ids = tuple(token for token, _ in made)
    table = families.dense_oracle(engine, plan, ids)
    for (_, found), want in zip(made, table[-21:-1], strict=True):
        assert (found - want).abs().max() < 1e-10


def test_order_of_passages_changes_nothing_where_none_is_seen_whole(families, engine_in):
    engine = engine_in(torch.float64)
    prefix, (a, b, c) = families.segments(engine, LENGTHS)
    weights, question = ContextWeights(0.7, 0.8, -0.1), families.tokens(21, seed=9)
    one, other = (
        engine.prefill(parallel_plan(prefix, pairs(order), question, weights)).logits
        for order in [(a, b, c), (c, a, b)]
    )
    assert torch.allclose(one, other, atol=1e-9, rtol=0)


def test_rows_computed_anew_slide_too(families, engine_in):
    engine = engine_in(torch.float64)
    prefix, passages = families.segments(engine, LENGTHS)
    question = families.tokens(21, seed=9)
    plan = replace(block_plan(prefix, pairs(passages), question), recompute=Recompute(first=1000))
    parts = (prefix, *passages)
    ids = (*(token for part in parts for token in part.token_ids), *question)
    want = families.stock_forward(
        engine, ids, list(range(len(ids))), torch.ones(len(ids), len(ids)).tril().bool()
    )[-1]
    assert (engine.prefill(plan).logits - want).abs().max() < 1e-10


def test_attention_to_passages_that_the_window_has_left_is_zero_not_undefined(families, engine_in):
    engine = engine_in()
    prefix, passages = families.segments(engine, LENGTHS)
    question = families.tokens(50, seed=9)
    plan = parallel_plan(prefix, pairs(passages), question, ContextWeights(0.9, 0.9))
    mass = engine.prefill(plan, watch=True).cache.mass
    assert torch.isfinite(mass).all()
    assert (mass.sum(-1) < 1 + 1e-5).all()
