"""Attention mass against the weights of a dense forward, summed by sentence."""

import math
from dataclasses import replace

import pytest
import torch
from transformers import AttentionInterface

from rag.generation.attention_mass import Unit, Units
from rag.generation.decoding import Sampling
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
    repeated,
    sequential_plan,
)
from rag.records import ModelIdentity, Segment

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "olmo2", "granite")
NEUTRAL = ContextWeights()
SENTENCES = {9: ((2, 5), (5, 8)), 6: ((1, 6),), 13: ((0, 4), (4, 9), (9, 12))}
DAG = ((1, 2), (2,), ())


class Literal:
    """Attention written out, with APE's closed form for some keys; keeps the weights it gave."""

    name = "literal_mass"

    def __init__(self):
        self.context, self.weights, self.given = None, NEUTRAL, []
        AttentionInterface.register(self.name, self)

    def __call__(self, module, query, key, value, attention_mask, scaling=None, **_):
        repeat = query.shape[1] // key.shape[1]
        logits = query @ key.repeat_interleave(repeat, 1).transpose(2, 3) * scaling
        seen = attention_mask == 0
        mass = logits.exp() * seen
        if self.context is not None:
            weights, within = self.weights, seen & self.context
            sharp = (logits / weights.temperature).exp() * within
            whole = sharp.sum(-1, keepdim=True)
            power = weights.scale * weights.temperature - 1
            weighed = sharp * whole.clamp(min=1e-300) ** power * math.exp(weights.bias)
            mass = torch.where(within, weighed, mass)
        share = mass / mass.sum(-1, keepdim=True)
        self.given.append(share[0])
        out = share @ value.repeat_interleave(repeat, 1)
        return out.transpose(1, 2).contiguous(), share


@pytest.fixture(scope="module")
def literal():
    return Literal()


@pytest.fixture(scope="module")
def engine(families):
    return families.engine("llama", torch.float64)


@pytest.fixture
def read(families, engine):
    """A prefix, passages with sentences, and a question."""
    return passages_of(families, engine)


def passages_of(families, engine):
    prefix, passages = families.segments(engine)
    told = tuple(replace(p, sentence_rows=SENTENCES[len(p)]) for p in passages)
    return prefix, told, families.tokens(7, seed=9)


def whole(passages):
    return tuple((passage, None) for passage in passages)


def sequential(prefix, passages, question):
    """One prompt, and what of it is told to be a passage."""
    told, ids = [], list(prefix.token_ids)
    for passage in passages:
        told.append((len(ids), PlacedRows(passage, len(ids))))
        ids += passage.token_ids
    return sequential_plan((*ids, *question), tuple(told))


def units_by_hand(plan, extra=0):
    """The unit of every token of a plan laid out in one row; None is none."""
    found = [None] * (0 if plan.prefix is None else len(plan.prefix))
    for placed in (*plan.context, *(target.placed for target in plan.targets)):
        found += units_of(placed)
    asked = [None] * len(plan.prefill)
    for at, placed in plan.told:
        asked[at : at + len(placed)] = units_of(placed)
    return [*found, *asked, *[None] * extra]


def units_of(placed):
    rows = range(len(placed.segment)) if placed.rows is None else placed.rows
    found = []
    for row in rows:
        numbers = [
            number
            for number, (start, end) in enumerate(placed.segment.sentence_rows)
            if start <= row < end
        ]
        found.append(Unit(placed.segment.name, numbers[0] if numbers else None))
    return found


def laid_out(plan, extra=()):
    """A plan in one row: tokens, positions, what each sees, and whether it is the context."""
    parts = [*([plan.prefix] if plan.prefix else []), *plan.context]
    parts += [target.placed for target in plan.targets]
    first = len(parts) - len(plan.context) - len(plan.targets)
    sees = [{place, 0} if plan.prefix else {place} for place in range(len(parts))]
    for place, target in enumerate(plan.targets, first + len(plan.context)):
        sees[place] |= {first + source for source in target.sources}
    sees.append({len(parts), *range(first), *(first + place for place in plan.read_parts)})
    ids, where, owner = [], [], []
    for number, part in enumerate(parts):
        ids += part.token_ids
        where += part.positions
        owner += [number] * len(part)
    asked = [*plan.prefill, *extra]
    ids += asked
    where += range(plan.prefill_start, plan.prefill_start + len(asked))
    owner += [len(parts)] * len(asked)
    visible = [
        [j <= i and o in sees[one] for j, o in enumerate(owner)] for i, one in enumerate(owner)
    ]
    context = [[one == len(parts) and first <= o < len(parts) for o in owner] for one in owner]
    return ids, where, torch.tensor(visible), torch.tensor(context)


def dense_mass(families, engine, literal, plan, extra=()):
    """Logits, and the last query's weights summed by unit: {unit: (layers, heads)}."""
    ids, where, visible, context = laid_out(plan, extra)
    literal.given, literal.context, literal.weights = [], context, plan.weights
    mask = torch.zeros(visible.shape, dtype=engine.model.dtype).masked_fill_(~visible, -1e30)
    logits = families.own_forward(
        engine,
        literal.name,
        ids,
        position_ids=torch.tensor([where]),
        attention_mask=mask[None, None],
        use_cache=False,
    )
    return logits[-1], summed(torch.stack(literal.given)[:, :, -1], units_by_hand(plan, len(extra)))


def summed(shares, units):
    """Sum weights (layers, heads, tokens) by the unit of each token."""
    return {
        unit: shares[..., [at for at, one in enumerate(units) if one == unit]].sum(-1)
        for unit in units
    }


def watched(state):
    """A state's mass by unit; the rest is None."""
    return dict(zip((*state.units, None), state.cache.mass.clone().unbind(-1), strict=True))


def assert_same(found, want, tolerance=1e-6):
    assert set(found) == set(want)
    for unit, mass in want.items():
        assert (found[unit] - mass).abs().max() < tolerance, unit


PLANS = {
    "sequential": sequential,
    "parallel": lambda p, ps, q: parallel_plan(p, whole(ps), q, NEUTRAL),
    "ape": lambda p, ps, q: parallel_plan(p, whole(ps), q, ContextWeights(0.6, 0.9, -0.3)),
    "merged graph": lambda p, ps, q: graph_plan(p, whole(ps), ((1, 2), (), ()), q),
    "graph": lambda p, ps, q: graph_plan(p, whole(ps), DAG, q),
    "weighed graph": lambda p, ps, q: graph_plan(
        p, whole(ps), DAG, q, weights=ContextWeights(0.8, 1.1, 0.2)
    ),
    "kept round 0": lambda p, ps, q: graph_plan(p, whole(ps), DAG, q, keep_round0=True),
    "repeated": lambda p, ps, q: repeated(
        parallel_plan(p, whole(ps), q, ContextWeights(0.6, 0.9)), whole(ps[:2]), len(q)
    ),
    "repeated graph": lambda p, ps, q: repeated(
        graph_plan(p, whole(ps), ((1, 2), (), ()), q), whole(ps[1:]), len(q)
    ),
}


@pytest.mark.parametrize("kind", PLANS)
def test_mass_is_the_weight_of_a_dense_forward_summed_by_sentence(
    families, engine, literal, read, kind
):
    plan = PLANS[kind](*read)
    state = engine.prefill(plan, watch=True)
    logits, want = dense_mass(families, engine, literal, plan)
    assert (state.logits - logits).abs().max() < 1e-9
    assert_same(watched(state), want)
    assert (state.cache.mass.sum(-1) - 1).abs().max() < 1e-6
    assert state.cache.mass.shape == (3, 6, len(want))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["sequential", "parallel", "graph"])
def test_mass_is_what_the_models_own_eager_attention_gives(families, family, kind):
    engine = families.engine(family, torch.float32)
    plan = PLANS[kind](*passages_of(families, engine))
    ids, where, visible, _ = laid_out(plan)
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    engine.model.set_attn_implementation("eager")
    with torch.inference_mode():
        out = engine.model(
            torch.tensor([ids]),
            position_ids=torch.tensor([where]),
            attention_mask=mask[None, None],
            output_attentions=True,
            use_cache=False,
        )
    engine.model.set_attn_implementation("dovetail_segments")
    want = summed(torch.cat(out.attentions)[:, :, -1], units_by_hand(plan))
    state = engine.prefill(plan, watch=True)
    assert_same(watched(state), want, 1e-5)
    assert (state.cache.mass.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("kind", PLANS)
def test_watching_changes_no_logits(engine, read, kind):
    plan = PLANS[kind](*read)
    seen, unseen = engine.prefill(plan, watch=True), engine.prefill(plan)
    assert (seen.logits - unseen.logits).abs().max() < 1e-12
    assert unseen.units is unseen.cache.mass is None
    steps = [
        list(engine.decode_states(state, Sampling(5), frozenset())) for state in (seen, unseen)
    ]
    for (token, one), (same, other) in zip(*steps, strict=True):
        assert token == same
        assert (one.logits - other.logits).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["ape", "kept round 0", "repeated"])
def test_every_decoded_token_has_the_mass_of_the_query_that_chose_it(
    families, engine, literal, read, kind
):
    plan = PLANS[kind](*read)
    made = []
    for token, state in engine.decode_states(
        engine.prefill(plan, watch=True), Sampling(4), frozenset()
    ):
        _, want = dense_mass(families, engine, literal, plan, tuple(made))
        assert_same(watched(state), want)
        made.append(token)
    assert len(made) == 4


def test_a_fork_has_a_mass_of_its_own(families, engine, literal, read):
    plan = PLANS["ape"](*read)
    state = engine.prefill(plan, watch=True)
    before = watched(state)
    fork = engine.fork(state)
    assert_same(watched(fork), before, 1e-12)
    ahead = engine.advance(fork, 5)
    assert_same(watched(state), before, 1e-12)
    assert_same(watched(ahead), dense_mass(families, engine, literal, plan, (5,))[1])
    engine.following(state, (7, 8, 9))
    assert_same(watched(state), before, 1e-12)
    assert_same(
        watched(engine.advance(state, 6)), dense_mass(families, engine, literal, plan, (6,))[1]
    )


@pytest.mark.parametrize("size", [{"engine.PREFILL_CHUNK": 3}, {"attention.QUERY_BLOCK": 2}])
def test_a_prompt_in_chunks_has_the_mass_of_its_last_query(engine, read, monkeypatch, size):
    for kind in ("sequential", "ape"):
        plan = PLANS[kind](*read)
        want = watched(engine.prefill(plan, watch=True))
        with monkeypatch.context() as patch:
            for name, value in size.items():
                patch.setattr(f"rag.generation.{name}", value)
            assert_same(watched(engine.prefill(plan, watch=True)), want)


def test_mass_in_blocks_of_keys_adds_up(engine, read, monkeypatch):
    plan = PLANS["ape"](*read)
    want = watched(engine.prefill(plan, watch=True))
    monkeypatch.setattr("rag.generation.attention.LOGIT_BYTES", 1)
    assert_same(watched(engine.prefill(plan, watch=True)), want)


def test_repaired_rows_count_for_their_sentences(engine, read):
    plan = replace(block_plan(read[0], whole(read[1]), read[2]), recompute=Recompute(first=1000))
    want = watched(engine.prefill(sequential(*read), watch=True))
    assert_same(watched(engine.prefill(plan, watch=True)), want)


def test_kept_rows_count_for_their_sentences(families, literal):
    engine = families.engine("llama", torch.float64, num_hidden_layers=1)
    prefix, (a, b, _), question = passages_of(families, engine)
    plan = parallel_plan(prefix, ((a, (0, 2, 5, 6)), (b, (0,))), question, ContextWeights(0.7))
    state = engine.prefill(plan, watch=True)
    assert state.units == (Unit("p0", None), Unit("p0", 0), Unit("p0", 1), Unit("p1", None))
    assert_same(watched(state), dense_mass(families, engine, literal, plan)[1])


@pytest.mark.parametrize("reads", [(0, 2), (1,)])
def test_parts_that_the_question_does_not_see_have_no_mass(families, engine, literal, read, reads):
    plan = replace(PLANS["ape"](*read), reads=reads)
    state = engine.prefill(plan, watch=True)
    found = watched(state)
    _, want = dense_mass(families, engine, literal, plan)
    assert_same(found, want)
    unseen = [unit for unit in state.units if int(unit.passage[1:]) not in reads]
    assert unseen
    assert all(not found[unit].any() for unit in unseen)


def test_weights_move_mass_as_they_say(engine, read):
    def on_passages(*weights):
        plan = parallel_plan(read[0], whole(read[1]), read[2], ContextWeights(*weights))
        first_layer = engine.prefill(plan, watch=True).cache.mass[0]
        return first_layer[:, :-1].sum(-1)

    neutral = on_passages(1.0, 1.0)
    more = on_passages(1.0, 1.0, 0.7)
    assert torch.allclose(
        (more / (1 - more)).log() - (neutral / (1 - neutral)).log(), torch.tensor(0.7), atol=1e-5
    )
    assert (on_passages(0.5, 1.0) < neutral).all()


def test_without_a_passage_all_is_the_rest(engine, read):
    state = engine.prefill(sequential_plan(read[2]), watch=True)
    assert state.units == ()
    assert (state.cache.mass - 1).abs().max() < 1e-6


MODEL = ModelIdentity("tiny", "w", "r", "float32", "t")
PREFIX = Segment(MODEL, "prefix", (5, 6), name="prefix")
A = Segment(MODEL, "passage", (10, 11, 12, 13), (PREFIX,), ((1, 2), (2, 3)), "a")
B = Segment(MODEL, "passage", (20, 21), (PREFIX,), ((0, 2),), "b")
CPU = torch.device("cpu")


def test_units_are_numbered_in_the_order_they_are_read():
    units = Units(parallel_plan(PREFIX, ((B, None), (A, (0, 2, 3))), (7,), NEUTRAL))
    assert units.known == (Unit("b", 0), Unit("a", None), Unit("a", 1))
    assert units.count == 4
    assert units.of([PlacedRows(A, 9, (0, 2, 3)), PlacedRows(B, 0)], CPU).tolist() == [
        1,
        2,
        1,
        0,
        0,
    ]
    assert units.of([], CPU).tolist() == []


def test_what_is_read_twice_has_one_number_and_the_question_none():
    plan = parallel_plan(PREFIX, ((A, None), (B, None)), (7, 8), NEUTRAL)
    units = Units(repeated(plan, ((B, None), (A, (0, 1))), 1))
    assert units.known == (Unit("a", None), Unit("a", 0), Unit("a", 1), Unit("b", 0))
    twice = repeated(plan, ((B, None), (A, (0, 1))), 1)
    assert units.of_prefill(twice, CPU).tolist() == [4, 3, 3, 0, 1, 4]


def test_what_is_told_counts_where_it_stands():
    plan = EncodingPlan(
        "x",
        None,
        (),
        (1, 20, 21, 2, 10, 11, 12, 13, 3),
        0,
        told=((1, PlacedRows(B, 1)), (4, PlacedRows(A, 4))),
    )
    units = Units(plan)
    assert units.known == (Unit("b", 0), Unit("a", None), Unit("a", 0), Unit("a", 1))
    assert units.of_prefill(plan, CPU).tolist() == [4, 0, 0, 4, 1, 2, 3, 1, 4]
