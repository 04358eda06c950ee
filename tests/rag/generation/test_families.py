"""Every family against its own forward pass under dense masks: logits, not only tokens."""

from dataclasses import replace

import pytest
import torch

from rag.generation.decoding import Sampling
from rag.generation.plan import (
    ContextWeights,
    PlacedRows,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
EDGES = ((1, 2), (2,), ())


def pairs(passages):
    return tuple((passage, None) for passage in passages)


def causal(count):
    return torch.ones(count, count).tril().bool()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_one_passage_with_neutral_weights_equals_a_sequential_prefill(families, family, dtype):
    engine = families.engine(family, dtype)
    prefix, (passage, *_) = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = parallel_plan(prefix, ((passage, None),), question, ContextWeights())
    ids = (*prefix.token_ids, *passage.token_ids, *question)
    want = families.stock_forward(engine, ids, list(range(len(ids))), causal(len(ids)))[-1]
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (engine.prefill(plan).logits - want).abs().max() < limit
    sequential = engine.prefill(sequential_plan(ids))
    assert (sequential.logits - want).abs().max() < limit


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_passages_side_by_side_equal_one_dense_forward(families, family, dtype):
    engine = families.engine(family, dtype)
    prefix, passages = families.segments(engine)
    plan = parallel_plan(prefix, pairs(passages), families.tokens(7, seed=9), ContextWeights())
    want = families.dense_oracle(engine, plan)[-1]
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (engine.prefill(plan).logits - want).abs().max() < limit


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_blocks_one_after_another_equal_one_dense_forward(families, family, dtype):
    # In one layer, keys depend on no other token; deeper ones remember where they were encoded.
    engine = families.engine(family, dtype, **one_layer(family))
    prefix, passages = families.segments(engine)
    plan = block_plan(prefix, pairs(passages), families.tokens(7, seed=9))
    assert [placed.start for placed in plan.context] == [4, 13, 19]
    want = families.dense_oracle(engine, plan)[-1]
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (engine.prefill(plan).logits - want).abs().max() < limit


def one_layer(family):
    changes = {"num_hidden_layers": 1}
    if family in {"gemma2", "gemma3_text", "gpt_oss", "cohere2", "exaone4", "olmo3"}:
        changes["layer_types"] = ["sliding_attention"]
    if family == "smollm3":
        changes["no_rope_layers"] = [0]
    return changes


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_passages_computed_over_others_equal_one_dense_forward(families, family, dtype):
    engine = families.engine(family, dtype)
    prefix, passages = families.segments(engine)
    plan = graph_plan(prefix, pairs(passages), EDGES, families.tokens(7, seed=9))
    assert len(plan.targets) == 2 or plan.prefill[: len(passages[0])] == passages[0].token_ids
    want = families.dense_oracle(engine, plan)[-1]
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (engine.prefill(plan).logits - want).abs().max() < limit


def test_order_of_passages_changes_nothing_at_any_weights(families, family):
    engine = families.engine(family, torch.float64)
    prefix, (a, b, c) = families.segments(engine)
    weights, question = ContextWeights(0.7, 0.8, -0.1), families.tokens(7, seed=9)
    logits = [
        engine.prefill(parallel_plan(prefix, pairs(order), question, weights)).logits
        for order in [(a, b, c), (c, a, b), (b, c, a)]
    ]
    assert torch.allclose(logits[0], logits[1], atol=1e-9, rtol=0)
    assert torch.allclose(logits[0], logits[2], atol=1e-9, rtol=0)


def test_decoding_equals_recomputing_everything_at_every_step(families, family):
    engine = families.engine(family)
    prefix, passages = families.segments(engine)
    plan = parallel_plan(prefix, pairs(passages), families.tokens(7, seed=9), ContextWeights())
    made = []
    for token, state in engine.decode_states(engine.prefill(plan), Sampling(5), frozenset()):
        want = families.dense_oracle(engine, plan, tuple(made))[-1]
        limit = TOLERANCE[torch.float32] * max(1.0, float(want.abs().max()))
        assert (state.logits - want).abs().max() < limit
        made.append(token)
    assert len(made) == 5


def test_deliberate_mistakes_move_the_logits(families, family):
    engine = families.engine(family)
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = parallel_plan(prefix, pairs(passages), question, ContextWeights())
    want = families.dense_oracle(engine, plan)[-1]
    weighed = parallel_plan(prefix, pairs(passages), question, ContextWeights(0.5, 0.8))
    moved = replace(plan, context=tuple(PlacedRows(p.segment, p.start + 2) for p in plan.context))
    for wrong in (weighed, moved, replace(plan, prefill_start=plan.prefill_start + 3)):
        assert (engine.prefill(wrong).logits - want).abs().max() > 1e-3
