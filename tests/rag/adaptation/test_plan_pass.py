"""Training pass: the engine's logits in every mode and family, and the gradients of these."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rag.adaptation import plan_layout
from rag.adaptation.plan_pass import PlanPass, Reading
from rag.errors import UnsupportedModelError
from rag.generation.plan import (
    ContextWeights,
    PlacedRows,
    block_plan,
    graph_plan,
    parallel_plan,
    repeated,
    sequential_plan,
)
from rag.records import Segment
from rag.training.lora import LoRA

NEUTRAL = ContextWeights()
APE = ContextWeights(0.7, 0.8, -0.1)
EDGES = ((1, 2), (2,), ())
CYCLE = ((1, 2), (0, 2), (0, 1))
KEPT = ((0, 2, 3, 7), None, (1, 2, 5, 6, 9))


def pruned(passages, kept=KEPT):
    return tuple(zip(passages, kept, strict=True))


PLANS = {
    "prefix": lambda a, b, q: parallel_plan(a, (), q, NEUTRAL, mode="prefix"),
    "parallel": lambda a, b, q: parallel_plan(a, b, q, NEUTRAL, mode="parallel"),
    "ape": lambda a, b, q: parallel_plan(a, b, q, APE),
    "ape-gaps": lambda a, b, q: parallel_plan(a, b, q, APE, gaps=True),
    "ape-serial": lambda a, b, q: parallel_plan(a, b, q, APE, positions="serial"),
    "block": block_plan,
    "graph": lambda a, b, q: graph_plan(a, b, EDGES, q),
    "graph-merged": lambda a, b, q: graph_plan(a, b, ((1, 2), (), ()), q),
    "graph-ape": lambda a, b, q: graph_plan(a, b, EDGES, q, weights=APE),
    "graph-round0": lambda a, b, q: graph_plan(a, b, EDGES, q, keep_round0=True, weights=APE),
    "graph-rounds": lambda a, b, q: graph_plan(a, b, CYCLE, q, rounds=2, positions="serial"),
    "graph-self": lambda a, b, q: graph_plan(a, b, CYCLE, q, rounds=1, self_edge=True),
    "twice": lambda a, b, q: repeated(parallel_plan(a, b, q, APE), b[:2], 3),
}


def sequential(prefix, passages, question):
    ids = prefix.token_ids
    for segment, rows in passages:
        ids += PlacedRows(segment, 0, rows).token_ids
    return sequential_plan((*ids, *question))


def plans_of(families, engine, question=7, kept=KEPT):
    prefix, passages = families.segments(engine)
    asked = families.tokens(question, seed=9)
    built = {name: make(prefix, pruned(passages, kept), asked) for name, make in PLANS.items()}
    return built | {"sequential": sequential(prefix, pruned(passages, kept), asked)}


@pytest.fixture(scope="module")
def answer(token_ids):
    return token_ids(4, seed=11)


def inferred(engine, reading):
    """What the engine says before each token of the answer."""
    engine.placed.clear()
    return engine.following(engine.prefill(reading.plan), reading.answer)


@torch.no_grad()
def assert_like_inference(engine, readings, limit=1e-7):
    apart = PlanPass(engine.model, together=False).logits(readings)
    padded = PlanPass(engine.model, together=True).logits(readings)
    for one, other, reading in zip(apart, padded, readings, strict=True):
        want = inferred(engine, reading)
        assert one.shape == other.shape == want.shape
        assert (one - want).abs().max() < limit
        assert (other - want).abs().max() < limit


@pytest.mark.parametrize("name", [*PLANS, "sequential"])
def test_one_reading_has_the_logits_of_inference(families, answer, name):
    engine = families.engine("llama", torch.float64)
    plan = plans_of(families, engine)[name]
    assert_like_inference(engine, [Reading(plan, answer)])


def test_each_step_of_decoding_has_these_logits(families, answer):
    engine = families.engine("llama", torch.float64)
    plan = plans_of(families, engine)["ape"]
    with torch.no_grad():
        (got,) = PlanPass(engine.model).logits([Reading(plan, answer)])
    state = engine.prefill(plan)
    for row, token in zip(got, answer, strict=True):
        assert (row - state.logits).abs().max() < 1e-7
        state = engine.advance(state, token)


def test_all_readings_in_one_pass_have_the_logits_of_inference_in_every_family(
    families, family, answer
):
    engine = families.engine(family, torch.float64)
    plans = plans_of(families, engine)
    assert_like_inference(engine, [Reading(plan, answer) for plan in plans.values()])


def test_windows_slide_by_positions_as_in_inference(families, windowed, answer):
    name, changes = windowed
    engine = families.engine(name, torch.float64, **changes)
    # The last tokens of the question see no passage in layers whose window slides.
    plans = plans_of(families, engine, question=24)
    assert_like_inference(engine, [Reading(plan, answer) for plan in plans.values()])


def test_whole_passages_and_a_passage_encoded_without_a_prefix(families, answer):
    engine = families.engine("llama", torch.float64)
    prefix, (one, *_) = families.segments(engine)
    alone = Segment(engine.identity, "passage", families.tokens(6, seed=5), (), name="alone")
    question = families.tokens(3, seed=9)
    plan = parallel_plan(prefix, ((one, None), (alone, (1, 4))), question, APE)
    assert_like_inference(engine, [Reading(plan, answer)])


def test_readings_of_one_pass_do_not_see_each_other(families, answer):
    engine = families.engine("llama", torch.float64)
    reads = PlanPass(engine.model)
    readings = [Reading(plan, answer) for plan in plans_of(families, engine).values()]
    others = [Reading(readings[0].plan, families.tokens(9, seed=3)), *readings[1:]]
    with torch.no_grad():
        together = reads.logits([readings[0], *others])
        (alone,) = reads.logits(readings[:1])
    assert (together[0] - alone).abs().max() < 1e-10
    assert (together[1][0] - alone[0]).abs().max() < 1e-10
    assert (together[1][1:4] - alone[1:]).abs().max() > 1e-3


def test_blocks_of_a_few_queries_change_nothing(families, answer, monkeypatch):
    engine = families.engine("gpt_oss", torch.float64)
    readings = [Reading(plan, answer) for plan in plans_of(families, engine).values()]
    reads = PlanPass(engine.model)
    with torch.no_grad():
        whole = torch.cat(reads.logits(readings))
        monkeypatch.setattr(plan_layout, "QUERY_BLOCK", 3)
        cut = torch.cat(reads.logits(readings))
    assert (whole - cut).abs().max() < 1e-10


def test_a_wrong_position_or_weight_moves_the_logits(families, answer):
    engine = families.engine("llama", torch.float64)
    plan = plans_of(families, engine)["ape"]
    moved = [replace(one, start=one.start + 2) for one in plan.context]
    wrong = [
        replace(plan, context=tuple(moved)),
        replace(plan, prefill_start=plan.prefill_start + 1),
        replace(plan, weights=ContextWeights(0.7, 0.8)),
    ]
    with torch.no_grad():
        right, *others = PlanPass(engine.model).logits([Reading(p, answer) for p in [plan, *wrong]])
    assert all((right - other).abs().max() > 1e-3 for other in others)


def loss_of(logits, answer):
    """Mean negative log-likelihood of the answers."""
    return torch.nn.functional.cross_entropy(
        torch.cat(list(logits)), torch.tensor(answer * len(logits))
    )


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def gradients(reads, readings, answer):
    reads.model.zero_grad()
    loss_of(reads.logits(readings), answer).backward()
    return {name: p.grad.clone() for name, p in trained(reads.model).items()}


def exactly(model):
    """Let norms compute in the model's dtype: they round to float32, which hides small steps."""
    for module in model.modules():
        if type(module).__name__ in {"LlamaRMSNorm", "Gemma2RMSNorm"}:
            offset = float(type(module).__name__ == "Gemma2RMSNorm")
            module.forward = partial(norm, module.weight, offset)
    return model


def norm(weight, offset, x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (offset + weight)


@pytest.mark.parametrize(("family", "plan"), [("llama", "ape"), ("gemma2", "graph-ape")])
def test_gradients_are_the_slopes_of_what_inference_computes(
    updated, families, answer, family, plan
):
    windows = {"sliding_window": 16, "attn_logit_softcapping": 2.0} if family == "gemma2" else {}
    engine = updated(family, **windows)
    reading = Reading(plans_of(families, engine)[plan], answer)
    found = gradients(PlanPass(exactly(engine.model)), [reading], answer)
    steps = 0
    for number in (0, 2):
        for name in ("k_proj.lora_a", "v_proj.lora_b", "q_proj.lora_b"):
            full = f"model.layers.{number}.self_attn.{name}"
            weight, at = trained(engine.model)[full], (1, 1)
            slopes = []
            for step in (1e-5, -1e-5):
                before = weight.data[at].item()
                weight.data[at] += step
                slopes.append(loss_of([inferred(engine, reading)], answer) / 2e-5)
                weight.data[at] = before
            want = float(slopes[0] - slopes[1])
            assert abs(float(found[full][at]) - want) < 1e-7
            steps += abs(want) > 1e-5
    assert steps >= 3


def test_gradients_reach_the_updates_alone_and_all_of_them(updated, families, answer):
    engine = updated()
    readings = [Reading(plan, answer) for plan in plans_of(families, engine).values()]
    found = gradients(PlanPass(engine.model), readings, answer)
    assert all("lora_" in name for name in found)
    assert all(float(grad.abs().max()) > 0 for grad in found.values())
    assert all(p.grad is None for p in engine.model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt_oss", "phi3"])
def test_layers_computed_anew_give_the_same_gradients(updated, families, answer, family, train):
    engine = updated(family)
    engine.model.train(train)
    names = ("ape", "block", "graph", "sequential")
    plans = plans_of(families, engine)
    readings = [Reading(plans[name], answer) for name in names]
    kept = gradients(PlanPass(engine.model), readings, answer)
    anew = gradients(PlanPass(engine.model, checkpointing=True), readings, answer)
    assert kept.keys() == anew.keys()
    for name, grad in kept.items():
        assert torch.equal(grad, anew[name])


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "gemma2"])
def test_padded_groups_have_the_same_gradients(updated, families, answer, family):
    engine = updated(family)
    readings = [Reading(plan, answer) for plan in plans_of(families, engine).values()]
    apart = gradients(PlanPass(engine.model, together=False), readings, answer)
    padded = gradients(PlanPass(engine.model, together=True), readings, answer)
    assert apart.keys() == padded.keys()
    # The models' own norms are computed in float32.
    for name, grad in apart.items():
        assert (grad - padded[name]).norm() < 1e-5 * grad.norm()


def test_two_passes_before_either_goes_back_do_not_mix(updated, families, answer):
    engine = updated()
    plans = plans_of(families, engine)
    pair = [[Reading(plans[name], answer)] for name in ("ape", "graph")]
    reads = PlanPass(engine.model, checkpointing=True)
    apart = [gradients(reads, readings, answer) for readings in pair]
    engine.model.zero_grad()
    losses = [loss_of(reads.logits(readings), answer) for readings in pair]
    for loss in losses:
        loss.backward()
    for name, weight in trained(engine.model).items():
        assert (weight.grad - apart[0][name] - apart[1][name]).abs().max() < 1e-10


def test_the_model_is_as_it_was_after_a_pass_and_after_an_error(updated, families, answer):
    engine = updated()
    model = engine.model
    plan = plans_of(families, engine)["ape"]
    reads = PlanPass(model, checkpointing=True)
    model.set_attn_implementation("sdpa")
    ids = torch.tensor([families.tokens(9)])
    before = model(ids).logits
    loss_of(reads.logits([Reading(plan, answer)]), answer).backward()
    assert_untouched(model)
    with pytest.raises(IndexError):
        reads.logits([Reading(replace(plan, prefill=(10**6,)), answer)])
    assert_untouched(model)
    assert torch.equal(model(ids).logits, before)


def assert_untouched(model):
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in model.get_decoder().layers.modules())
    assert not any("forward" in vars(layer) for layer in model.get_decoder().layers)


def test_updates_that_come_later_are_seen(families, answer):
    from rag.generation.engine import Engine

    model = families.model("llama", torch.float64)
    reads = PlanPass(model)
    plans = plans_of(families, families.engine("llama", torch.float64))
    reading = Reading(plans["block"], answer)
    LoRA(2, 4.0, "k_proj").apply(model, torch.Generator().manual_seed(0))
    for name, weight in model.named_parameters():
        if "lora_b" in name:
            weight.data.fill_(0.1)
    engine = Engine(model, families.engine("llama", torch.float64).identity, tested=True)
    with torch.no_grad():
        (got,) = reads.logits([reading])
    assert (got - inferred(engine, reading)).abs().max() < 1e-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_stays_close_and_its_gradients_are_finite(updated, families, answer, dtype):
    # Random weights this large leave half precision few digits.
    engine = updated("llama", dtype)
    exact = updated("llama", torch.float64)
    for kind in ("ape", "block", "graph-ape"):
        reading, true = (Reading(plans_of(families, one)[kind], answer) for one in (engine, exact))
        with torch.no_grad():
            (want,) = PlanPass(exact.model).logits([true])
        for checkpointing in (False, True):
            reads = PlanPass(engine.model, checkpointing=checkpointing)
            engine.model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                (got,) = reads.logits([reading])
            assert (got.double() - want).abs().max() < 0.1 * want.abs().max()
            loss_of([got.float()], answer).backward()
            weights = trained(engine.model).values()
            assert all(w.grad.dtype == w.dtype == torch.float32 for w in weights)
            assert all(torch.isfinite(w.grad).all() for w in weights)


def test_what_the_model_cannot_read_is_named(families, answer):
    engine = families.engine("llama", torch.float64)
    plan = plans_of(families, engine)["block"]
    late = replace(plan, prefill_start=505)
    with pytest.raises(
        UnsupportedModelError, match="take 515 positions, the model's window has 512"
    ):
        PlanPass(engine.model).logits([Reading(late, answer)])
    own = families.model("llama")
    own.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="own checkpointing of layers must be off"):
        PlanPass(own).logits([Reading(plan, answer)])
    careless = families.model("llama", attention_dropout=0.1).train()
    with pytest.raises(UnsupportedModelError, match=r"does not support: .* dropout 0.1"):
        PlanPass(careless).logits([Reading(plan, answer)])
    assert careless.config._attn_implementation == "sdpa"
    left = families.model("llama")
    left.set_attn_implementation("dovetail_plans")
    with pytest.raises(UnsupportedModelError, match="call it through PlanPass"):
        left(torch.tensor([[5, 6]]))
