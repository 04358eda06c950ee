"""Repairs against layers written out by hand, and against a full prefill where they are one."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from rag.generation.plan import (
    ContextWeights,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)
from rag.generation.recompute import BlendCache, most_different

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "olmo2", "granite")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
NEUTRAL = ContextWeights()
EVERYTHING = Recompute(first=1000)


class ByHand:
    """A Llama layer by layer: rows are written into keys and values that are there, then read."""

    def __init__(self, engine):
        self.model = engine.model.model
        self.head = engine.model.lm_head
        config = engine.model.config
        self.heads, self.dim = config.num_attention_heads, config.head_dim
        self.kv_heads, self.layers = config.num_key_value_heads, config.num_hidden_layers

    def empty(self, tokens):
        shape = self.kv_heads, tokens, self.dim
        return [
            [torch.zeros(shape).double(), torch.zeros(shape).double()] for _ in self.model.layers
        ]

    def rope(self, heads, where):
        cos, sin = (part[0] for part in self.model.rotary_emb(heads, where[None]))
        half = self.dim // 2
        return heads * cos + torch.cat([-heads[..., half:], heads[..., :half]], -1) * sin

    @torch.inference_mode()
    def run(self, ids, where, kv, columns, visible, context=(), weights=NEUTRAL):
        """Write the rows of these columns, in place; return the logits of all and unrotated keys.

        Args:
            ids: tokens.
            where: their positions.
            kv: for each layer keys and values of all that can be seen, these rows included.
            columns: where in it these rows are.
            visible: bool (rows, columns of kv).
            context: columns that the weights are for.
            weights: T, S and b.
        """
        hidden = self.model.embed_tokens(torch.tensor(ids))
        where, columns, raw = torch.tensor(where), list(columns), []
        for layer, (keys, values) in zip(self.model.layers, kv, strict=True):
            attention, normed = layer.self_attn, layer.input_layernorm(hidden)
            query, own_keys, own_values = (
                projection(normed).view(len(ids), -1, self.dim).transpose(0, 1)
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            raw.append(own_keys)
            keys[:, columns], values[:, columns] = self.rope(own_keys, where), own_values
            repeat = self.heads // self.kv_heads
            logits = self.rope(query, where) @ keys.repeat_interleave(repeat, 0).transpose(1, 2)
            share = self.weigh(logits * self.dim**-0.5, visible, list(context), weights)
            out = share @ values.repeat_interleave(repeat, 0)
            hidden = hidden + attention.o_proj(out.transpose(0, 1).reshape(len(ids), -1))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.head(self.model.norm(hidden)), raw

    @staticmethod
    def weigh(logits, visible, context, weights):
        """The closed form of APE's attention: weights of all columns, (heads, rows, columns)."""
        mass = logits.exp() * visible
        if context:
            sharp = (logits[..., context] / weights.temperature).exp()
            whole = sharp.sum(-1, keepdim=True)
            power = weights.scale * weights.temperature - 1
            mass[..., context] = sharp * whole**power * math.exp(weights.bias)
        return mass / mass.sum(-1, keepdim=True)

    def encoded(self, segment):
        """Unrotated keys, and values, of a segment over its parent."""
        ids = [token for part in (*segment.parents, segment) for token in part.token_ids]
        kv, count = self.empty(len(ids)), len(ids)
        causal = torch.ones(count, count).tril().bool()
        _, raw = self.run(ids, range(count), kv, range(count), causal)
        own = slice(segment.start, count)
        return [(keys[:, own], values[:, own]) for keys, (_, values) in zip(raw, kv, strict=True)]

    def logits(self, plan, chosen, targets=()):
        """Logits after a plan of which the chosen columns of the context are computed anew.

        Args:
            plan: says what stands where, and which weights the question has.
            chosen: columns of the context, ascending.
            targets: (placed, columns that it sees beside the prefix), over parts as they are laid
                out: the prefix, the context, the targets.
        """
        parts = [plan.prefix, *plan.context, *(placed for placed, _ in targets)]
        where = [position for part in parts for position in part.positions]
        ids = [token for part in parts for token in part.token_ids]
        end = len(ids)
        kv = self.empty(end + len(plan.prefill))
        at, prefix = 0, len(plan.prefix)
        for placed in (plan.prefix, *plan.context):
            rows = list(range(len(placed.segment)) if placed.rows is None else placed.rows)
            own, stand = slice(at, at + len(rows)), torch.tensor(placed.positions)
            for (keys, values), (raw, known) in zip(kv, self.encoded(placed.segment), strict=True):
                keys[:, own], values[:, own] = self.rope(raw[:, rows], stand), known[:, rows]
            at += len(rows)
        columns = [prefix + column for column in chosen]
        if columns:
            seen = torch.arange(kv[0][0].shape[1]) <= torch.tensor(columns)[:, None]
            self.run([ids[c] for c in columns], [where[c] for c in columns], kv, columns, seen)
        for placed, over in targets:
            own = list(range(at, at + len(placed)))
            seen = torch.zeros(len(own), kv[0][0].shape[1]).bool()
            seen[:, [*range(prefix), *over]] = True
            seen[:, own] = torch.ones(len(own), len(own)).tril().bool()
            self.run(placed.token_ids, placed.positions, kv, own, seen)
            at += len(placed)
        asked = len(plan.prefill)
        stand = range(plan.prefill_start, plan.prefill_start + asked)
        causal = torch.ones(asked, asked).tril().bool()
        seen = torch.cat([torch.ones(asked, end).bool(), causal], 1)
        own, context = range(end, end + asked), range(prefix, end)
        return self.run(plan.prefill, stand, kv, own, seen, context, plan.weights)[0][-1]


@pytest.fixture(scope="module")
def engine(families):
    return families.engine("llama", torch.float64)


@pytest.fixture
def passes(monkeypatch):
    """What was computed anew: a list of columns, one entry a pass that does not only compare."""
    seen, select = [], BlendCache.select

    def record(self, columns, compare=None):
        if compare is None:
            seen.append(columns.tolist())
        select(self, columns, compare)

    monkeypatch.setattr(BlendCache, "select", record)
    return seen


def whole(passages):
    return tuple((passage, None) for passage in passages)


def repaired(plan, *args, **options):
    return replace(plan, recompute=Recompute(*args, **options))


def exact_columns(plan):
    """Rows at the beginning of which the definition says that they are what a prefill computes."""
    first = plan.context[0]
    if first.segment.parents != (plan.prefix.segment,):
        return 0
    rows = range(len(first.segment)) if first.rows is None else first.rows
    return next((i for i, row in enumerate(rows) if i != row), len(rows))


def deviations(engine, plan, by):
    """Distance of every row in the second layer from what a stock forward of all rows computes."""
    parts = [plan.prefix, *plan.context]
    ids = [token for part in parts for token in part.token_ids]
    where = [position for part in parts for position in part.positions]
    own = DynamicCache()
    mask = torch.zeros(len(ids), len(ids), dtype=engine.model.dtype)
    mask.masked_fill_(torch.ones_like(mask).triu(1).bool(), torch.finfo(mask.dtype).min)
    engine.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        engine.model(
            torch.tensor([ids]),
            position_ids=torch.tensor([where]),
            attention_mask=mask[None, None],
            past_key_values=own,
            use_cache=True,
        )
    engine.model.set_attn_implementation("dovetail_segments")
    theirs = own.layers[1].keys if by == "key" else own.layers[1].values
    hand, at, found = ByHand(engine), len(plan.prefix), []
    for placed in plan.context:
        rows = list(range(len(placed.segment)) if placed.rows is None else placed.rows)
        raw, values = hand.encoded(placed.segment)[1]
        keys = hand.rope(raw[:, rows], torch.tensor(placed.positions))
        mine = keys if by == "key" else values[:, rows]
        difference = theirs[0, :, at : at + len(rows)] - mine
        found += difference.pow(2).sum((0, 2)).sqrt().tolist()
        at += len(rows)
    return found


def chosen_by_definition(engine, plan):
    """The columns that a repair asks for, read literally."""
    exact, first, at = exact_columns(plan), [], 0
    for placed in plan.context:
        first += [c for c in range(at, at + len(placed))[: plan.recompute.first] if c >= exact]
        at += len(placed)
    most = -(-round(plan.recompute.share * 1000) * at // 1000)
    if not most:
        return first
    far = deviations(engine, plan, plan.recompute.by)
    others = [c for c in range(exact, at) if c not in first]
    others.sort(key=lambda column: -far[column])
    return sorted(first + others[:most])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("repair", [EVERYTHING, Recompute(share=1.0), Recompute(2, 1.0, "key")])
def test_all_rows_at_serial_positions_are_a_full_prefill(families, family, dtype, repair):
    engine = families.engine(family, dtype)
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = replace(block_plan(prefix, whole(passages), question), recompute=repair)
    ids = tuple(token for part in (prefix, *passages) for token in part.token_ids)
    want = engine.prefill(sequential_plan((*ids, *question))).logits
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (engine.prefill(plan).logits - want).abs().max() < limit
    assert plan.recomputed_tokens == 6 + 13


@pytest.mark.parametrize("repair", [EVERYTHING, Recompute(share=1.0)])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("rows", [None, (0, 1, 4, 5), (3, 4)])
def test_a_first_passage_that_is_not_exact_is_computed_too(families, engine, repair, alone, rows):
    prefix, passages = families.segments(engine)
    if alone:
        passages = tuple(replace(passage, parents=()) for passage in passages)
    question = families.tokens(7, seed=9)
    pairs = ((passages[0], rows), (passages[1], None), (passages[2], (0, 2, 5)))
    plan = replace(block_plan(prefix, pairs, question), recompute=repair)
    ids = tuple(token for placed in (plan.prefix, *plan.context) for token in placed.token_ids)
    want = engine.prefill(sequential_plan((*ids, *question))).logits
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]
    exact = 0 if alone else {None: 9, (0, 1, 4, 5): 2, (3, 4): 0}[rows]
    assert plan.recomputed_tokens == len(ids) - len(prefix) - exact


@settings(max_examples=20)
@given(data=st.data())
def test_any_repair_equals_the_layers_written_by_hand(families, engine, data):
    draw = data.draw
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    prefix, passages = families.segments(engine, (3, *lengths))
    pairs = []
    for passage in passages:
        rows = draw(st.none() | st.sets(st.integers(0, len(passage) - 1), min_size=1))
        alone = replace(passage, parents=()) if draw(st.booleans()) else passage
        pairs.append((alone, rows and tuple(sorted(rows))))
    question = families.tokens(draw(st.integers(1, 4)), seed=9)
    plan = parallel_plan(
        prefix,
        tuple(pairs),
        question,
        ContextWeights(*draw(st.sampled_from([(1, 1, 0), (0.7, 0.9, -0.2)]))),
        positions=draw(st.sampled_from(["shared", "serial"])),
        gaps=draw(st.booleans()),
    )
    plan = repaired(
        plan,
        draw(st.integers(0, 3)),
        draw(st.sampled_from([0.0, 0.1, 0.35, 1.0])),
        draw(st.sampled_from(["key", "value"])),
    )
    chosen = chosen_by_definition(engine, plan)
    assert len(chosen) == plan.recomputed_tokens
    want = ByHand(engine).logits(plan, chosen)
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_targets_are_computed_over_repaired_rows(families, engine):
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = graph_plan(
        prefix, whole(passages), ((1, 2), (), ()), question, weights=ContextWeights(0.8, 1.0)
    )
    plan = repaired(plan, 3)
    (target,) = plan.targets
    context = range(len(prefix), len(prefix) + 6 + 13)
    want = ByHand(engine).logits(plan, (6, 7, 8), [(target.placed, context)])
    found = engine.prefill(plan).logits
    assert (found - want).abs().max() < TOLERANCE[torch.float64]
    without = engine.prefill(replace(plan, recompute=Recompute())).logits
    assert (found - without).abs().max() > 1e-3


@pytest.mark.parametrize("by", ["key", "value"])
def test_deviations_are_those_of_a_stock_forward(families, by, monkeypatch):
    engine = families.engine("llama", torch.float64, num_hidden_layers=2)
    prefix, passages = families.segments(engine)
    plan = block_plan(prefix, whole(passages), families.tokens(7, seed=9))
    held, make = [], BlendCache.__init__

    def keep(self, *args):
        make(self, *args)
        held.append(self)

    monkeypatch.setattr(BlendCache, "__init__", keep)
    engine.prefill(repaired(plan, share=0.5, by=by))
    want = torch.tensor(deviations(engine, plan, by))
    assert (held[0].deviations - want).abs().max() < 1e-5
    assert want[:9].max() < 1e-9
    assert want[9:].min() > 1e-3


def test_keys_and_values_differ_most_elsewhere(families, engine, passes):
    prefix, passages = families.segments(engine)
    plan = block_plan(prefix, whole(passages), families.tokens(7, seed=9))
    for by in ("key", "value"):
        engine.prefill(repaired(plan, share=0.2, by=by))
    keys, values = passes
    assert keys != values
    assert len(keys) == len(values) == 6
    far = deviations(engine, plan, "value")
    assert min(far[c] for c in values) > max(far[c] for c in range(9, 28) if c not in values)


@given(first=st.integers(0, 4), share=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
@settings(max_examples=12)
def test_a_share_adds_rows_and_never_changes_those_at_the_beginning(families, engine, first, share):
    prefix, passages = families.segments(engine)
    plan = block_plan(prefix, whole(passages), families.tokens(7, seed=9))
    one, both = repaired(plan, first), repaired(plan, first, share)
    assert set(one.recompute.beginnings(one.context)) <= set(chosen_by_definition(engine, both))
    want = ByHand(engine).logits(both, chosen_by_definition(engine, both))
    assert (engine.prefill(both).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_nothing_to_compute_is_what_was_cached_bit_for_bit(families, engine):
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    for passages_read in (passages, passages[:1]):
        plan = parallel_plan(prefix, whole(passages_read), question, ContextWeights(0.9, 0.9))
        asked = Recompute() if len(passages_read) > 1 else Recompute(5, 1.0)
        again = replace(plan, recompute=asked)
        assert again.recomputed_tokens == 0
        assert torch.equal(engine.prefill(again).logits, engine.prefill(plan).logits)


@pytest.mark.parametrize("positions", ["shared", "serial"])
def test_order_says_what_a_recomputed_row_sees(families, engine, positions):
    prefix, (a, b, c) = families.segments(engine)
    question = families.tokens(7, seed=9)
    one, other = (
        engine.prefill(
            repaired(parallel_plan(prefix, whole(order), question, NEUTRAL, positions=positions), 2)
        ).logits
        for order in [(a, b, c), (b, a, c)]
    )
    assert (one - other).abs().max() > 1e-3


def test_a_repair_comes_closer_to_a_full_prefill(families, engine):
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = block_plan(prefix, whole(passages), question)
    ids = tuple(token for part in (prefix, *passages) for token in part.token_ids)
    want = engine.prefill(sequential_plan((*ids, *question))).logits
    error = [
        float((engine.prefill(repaired(plan, share=share)).logits - want).norm())
        for share in (0.0, 0.4, 1.0)
    ]
    assert error[0] > error[1] > error[2]


@pytest.mark.parametrize("sizes", [{"engine.PREFILL_CHUNK": 7}, {"attention.QUERY_BLOCK": 3}])
@pytest.mark.parametrize(
    "repair", [Recompute(4), Recompute(1, 0.6), Recompute(share=1.0, by="key")]
)
def test_passes_in_chunks_compute_the_same(families, engine, monkeypatch, sizes, repair):
    prefix, passages = families.segments(engine)
    plan = replace(
        block_plan(prefix, whole(passages), families.tokens(9, seed=9)), recompute=repair
    )
    want = engine.prefill(plan).logits
    for name, value in sizes.items():
        monkeypatch.setattr(f"rag.generation.{name}", value)
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_one_layer_has_nothing_to_repair(families, passes):
    engine = families.engine("llama", torch.float64, num_hidden_layers=1)
    prefix, passages = families.segments(engine)
    plan = block_plan(prefix, whole(passages), families.tokens(7, seed=9))
    want = engine.prefill(plan).logits
    for repair in (EVERYTHING, Recompute(1, 0.5)):
        found = engine.prefill(replace(plan, recompute=repair)).logits
        assert (found - want).abs().max() < TOLERANCE[torch.float64]
    # Where nothing differs, ties go to the lower column, but never to one that is exact.
    assert passes == [list(range(9, 28)), sorted({9, 15, *range(9, 25)})]


def test_recomputed_rows_obey_a_window_by_their_positions(families):
    engine = families.engine("mistral", torch.float64, sliding_window=12)
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = replace(block_plan(prefix, whole(passages), question), recompute=EVERYTHING)
    ids = tuple(token for part in (prefix, *passages) for token in part.token_ids) + question
    causal = torch.ones(len(ids), len(ids)).tril().bool()
    want = families.stock_forward(engine, ids, range(len(ids)), causal)[-1]
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_without_a_prefix_the_passages_before_are_all_that_is_seen(families, engine):
    _, passages = families.segments(engine)
    alone = [replace(passage, parents=()) for passage in passages]
    question = families.tokens(7, seed=9)
    prefix, *rest = alone
    plan = block_plan(replace(prefix, role="prefix"), whole(rest), question)
    first = replace(plan.context[0], segment=alone[0], start=0)
    bare = replace(plan, prefix=None, context=(first, *plan.context), recompute=EVERYTHING)
    assert bare.recomputed_tokens == 6 + 13
    ids = tuple(token for part in alone for token in part.token_ids)
    want = engine.prefill(sequential_plan((*ids, *question))).logits
    assert (engine.prefill(bare).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_the_most_different_are_ascending_and_ties_go_to_the_lower():
    deviations = torch.tensor([9.0, 1.0, 3.0, 3.0, 2.0, 3.0])
    among = torch.tensor([1, 2, 3, 4, 5])
    assert most_different(deviations, among, 2).tolist() == [2, 3]
    assert most_different(deviations, among, 4).tolist() == [2, 3, 4, 5]
    assert most_different(deviations, among, 0).tolist() == []
    assert most_different(deviations, among, 5).tolist() == [1, 2, 3, 4, 5]
    assert most_different(torch.zeros(6), among, 3).tolist() == [1, 2, 3]
