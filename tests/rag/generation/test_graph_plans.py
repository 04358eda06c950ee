"""Any plan against its definition: the graph, not the plan, says what sees what and where."""

import hashlib
import math
import threading
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from kvstore.keys import segment_key
from rag.errors import UnsupportedModelError
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
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
from rag.protocols import Lookup
from rag.records import ModelIdentity

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "olmo2", "granite")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
NEUTRAL = ContextWeights()
NO_EDGES = ((), (), ())
CHAIN = ((), (0,), (0, 1))
FULL = ((1, 2), (0, 2), (0, 1))
DAG = ((1, 2), (2,), ())


@dataclass(frozen=True)
class Graph:
    """A graph and its options, as the definition needs them."""

    sources: tuple[tuple[int, ...], ...]
    rounds: int | None = None
    positions: str = "shared"
    keep_round0: bool = False
    self_edge: bool = False

    def version(self, row, turn):
        """What a passage is after so many rounds: itself, and what it was computed over."""
        if turn == 0 or not self.sources[row]:
            return row, None
        seen = {self.version(source, turn - 1) for source in self.sources[row]}
        return row, frozenset(seen | ({self.version(row, turn - 1)} if self.self_edge else set()))

    def acyclic_version(self, row):
        """What a passage is if each is computed once, after its sources."""
        if not self.sources[row]:
            return row, None
        seen = {self.acyclic_version(source) for source in self.sources[row]}
        return row, frozenset(seen | ({(row, None)} if self.self_edge else set()))

    def read(self):
        """The versions that the question sees."""
        rows = range(len(self.sources))
        last = {
            self.acyclic_version(row) if self.rounds is None else self.version(row, self.rounds)
            for row in rows
        }
        return last | ({(row, None) for row in rows} if self.keep_round0 else set())

    def parts(self):
        """All versions that the question sees, or that something needed was computed over."""
        needed, todo = set(), list(self.read())
        while todo:
            version = todo.pop()
            needed.add(version)
            todo += version[1] or ()
        return sorted(needed, key=lambda version: (depth(version), version[0]))

    def starts(self, prefix, lengths):
        """Where every part begins."""
        found, after = {}, prefix
        for version in self.parts():
            ends = [found[source] + lengths[source[0]] for source in version[1] or ()]
            shared = max(ends, default=prefix)
            found[version] = after if self.positions == "serial" else shared
            after += lengths[version[0]]
        return found

    def plan(self, prefix, pairs, question, **options):
        return graph_plan(
            prefix,
            pairs,
            self.sources,
            question,
            rounds=self.rounds,
            positions=self.positions,
            keep_round0=self.keep_round0,
            self_edge=self.self_edge,
            **options,
        )


def depth(version):
    return 0 if version[1] is None else 1 + max(depth(source) for source in version[1])


def kept_ids(segment, rows):
    return segment.token_ids if rows is None else tuple(segment.token_ids[row] for row in rows)


def one_row(families, engine, prefix, pairs, graph, question, attention):
    """Logits after the question in one dense forward of the stock model over all parts.

    Exact for shared positions, whole passages with the prefix as parent; in models of one layer for
    any.
    """
    texts = [kept_ids(*pair) for pair in pairs]
    starts = graph.starts(len(prefix), [len(text) for text in texts])
    ids, where = list(prefix.token_ids), list(range(len(prefix)))
    owner, sees = ["prefix"] * len(prefix), {"prefix": set()}
    for version, start in starts.items():
        text = texts[version[0]]
        ids += text
        where += range(start, start + len(text))
        owner += [version] * len(text)
        sees[version] = {"prefix", *(version[1] or ())}
    sees["question"] = {"prefix"} | graph.read()
    ends = [starts[version] + len(texts[version[0]]) for version in graph.read()]
    ids += question
    end = max(ends, default=len(prefix))
    where += range(end, end + len(question))
    owner += ["question"] * len(question)
    visible = torch.tensor(
        [
            [j <= i and (other == one or other in sees[one]) for j, other in enumerate(owner)]
            for i, one in enumerate(owner)
        ]
    )
    mask = torch.zeros(visible.shape, dtype=engine.model.dtype)
    mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
    return families.own_forward(
        engine,
        attention,
        ids,
        position_ids=torch.tensor([where]),
        attention_mask=mask[None, None],
        use_cache=False,
    )[-1]


class PartByPart:
    """Keys and values by the stock model's own forward passes, put together by hand.

    Each part is a forward pass of its own over what it sees; cached keys are moved by the formula
    of rotary positions. For Llama only.
    """

    def __init__(self, engine):
        self.model = engine.model

    def logits(self, prefix, pairs, graph, question):
        """Logits of every token of the question."""
        texts = [kept_ids(*pair) for pair in pairs]
        starts = graph.starts(len(prefix), [len(text) for text in texts])
        _, begin = self.run(prefix.token_ids, 0, [])
        known = {}
        for version, start in starts.items():
            segment, rows = pairs[version[0]]
            if version[1] is None:
                known[version] = self.cached(segment, rows, start, begin)
            else:
                over = [begin, *(known[source] for source in version[1])]
                _, known[version] = self.run(texts[version[0]], start, over)
        over = [begin, *(known[version] for version in graph.read())]
        ends = [starts[version] + len(texts[version[0]]) for version in graph.read()]
        return self.run(question, max(ends, default=len(prefix)), over)[0]

    def cached(self, segment, rows, start, begin):
        """A passage encoded where it was, its rows moved to where they are read."""
        _, own = self.run(segment.token_ids, segment.start, [begin] if segment.parents else [])
        rows = torch.tensor(range(len(segment)) if rows is None else rows)
        was, now = segment.start + rows, start + torch.arange(len(rows))
        return [(self.moved(keys[:, rows], was, now), values[:, rows]) for keys, values in own]

    def moved(self, keys, was, now):
        """Turn each pair of dimensions back and forth, by the model's own cosines and sines."""
        half = keys.shape[-1] // 2
        one, two = keys[..., :half], keys[..., half:]
        cos, sin = (part[0, :, :half] for part in self.model.model.rotary_emb(keys, was[None]))
        # Cosines and sines are rounded to float32, so their squares do not add up to 1.
        norm = cos**2 + sin**2
        one, two = (one * cos + two * sin) / norm, (two * cos - one * sin) / norm
        cos, sin = (part[0, :, :half] for part in self.model.model.rotary_emb(keys, now[None]))
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)

    def run(self, ids, start, parts):
        """Run tokens over parts: logits of all, and their own keys and values by layer."""
        cache, past = DynamicCache(), sum(part[0][0].shape[1] for part in parts)
        for layer in range(self.model.config.num_hidden_layers if parts else 0):
            keys, values = (torch.cat([part[layer][i] for part in parts], 1) for i in (0, 1))
            cache.update(keys[None], values[None], layer)
        mask = torch.zeros(len(ids), past + len(ids), dtype=self.model.dtype)
        future = torch.ones(len(ids), len(ids)).triu(1).bool()
        mask[:, past:].masked_fill_(future, torch.finfo(mask.dtype).min)
        self.model.set_attn_implementation("sdpa")
        with torch.inference_mode():
            out = self.model(
                torch.tensor([ids]),
                position_ids=torch.arange(start, start + len(ids))[None],
                attention_mask=mask[None, None],
                past_key_values=cache,
                use_cache=True,
            )
        self.model.set_attn_implementation("dovetail_segments")
        own = [(layer.keys[0, :, past:], layer.values[0, :, past:]) for layer in cache.layers]
        return out.logits[0], own


class DictCache:
    """The plainest PassageCache: a dictionary."""

    def __init__(self):
        self.kept = {}

    def get(self, segment):
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True

    def digest(self):
        content = [kv.keys.numpy().tobytes() + kv.values.numpy().tobytes() for kv in self.values()]
        return hashlib.sha256(b"".join(content)).hexdigest()

    def values(self):
        return self.kept.values()


@pytest.fixture(scope="module")
def engine(families):
    return families.engine("llama", torch.float64)


@pytest.fixture(scope="module")
def shallow(families):
    """One layer: keys depend on no other token."""
    return families.engine("llama", torch.float64, num_hidden_layers=1)


def whole(passages):
    return tuple((passage, None) for passage in passages)


@st.composite
def graphs(draw, *, cyclic=False):
    count = draw(st.integers(2, 5))
    order = draw(st.permutations(range(count)))
    before = {row: order[:place] for place, row in enumerate(order)}
    if cyclic:
        before = {row: [other for other in range(count) if other != row] for row in range(count)}
    sources = tuple(
        tuple(draw(st.lists(st.sampled_from(before[row]), unique=True))) if before[row] else ()
        for row in range(count)
    )
    rounds = draw(st.integers(1, 3)) if cyclic else None
    positions = draw(st.sampled_from(["shared", "serial"]))
    return Graph(sources, rounds, positions, draw(st.booleans()), draw(st.booleans()))


@st.composite
def requests(draw, families, engine, graph):
    """A prefix, a passage with rows to read for each of the graph's, and a question."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=5, max_size=5))
    prefix, passages = families.segments(engine, (3, *lengths))
    pairs = []
    for passage in passages[: len(graph.sources)]:
        rows = draw(st.none() | st.sets(st.integers(0, len(passage) - 1), min_size=1))
        alone = replace(passage, parents=()) if draw(st.booleans()) else passage
        pairs.append((alone, rows and tuple(sorted(rows))))
    return prefix, tuple(pairs), families.tokens(draw(st.integers(1, 5)), seed=9)


@settings(max_examples=25)
@given(data=st.data(), cyclic=st.booleans(), repeat=st.booleans())
def test_any_graph_equals_its_definition_part_by_part(families, engine, data, cyclic, repeat):
    graph = data.draw(graphs(cyclic=cyclic))
    prefix, pairs, question = data.draw(requests(families, engine, graph))
    plan, asked = graph.plan(prefix, pairs, question), question
    if repeat:
        plan = repeated(plan, pairs, len(question))
        asked = tuple(token for pair in pairs for token in kept_ids(*pair)) + question
    want = PartByPart(engine).logits(prefix, pairs, graph, asked)
    assert (engine.prefill(plan).logits - want[-1]).abs().max() < TOLERANCE[torch.float64]


@settings(max_examples=20)
@given(data=st.data(), cyclic=st.booleans())
def test_any_graph_equals_one_dense_forward_in_one_layer(families, shallow, data, cyclic):
    graph = data.draw(graphs(cyclic=cyclic))
    prefix, pairs, question = data.draw(requests(families, shallow, graph))
    want = one_row(families, shallow, prefix, pairs, graph, question, "sdpa")
    found = shallow.prefill(graph.plan(prefix, pairs, question)).logits
    assert (found - want).abs().max() < TOLERANCE[torch.float64]


SHARED = {
    "kept round 0": Graph(DAG, keep_round0=True),
    "self-edges": Graph(DAG, self_edge=True),
    "two rounds of a cycle": Graph(FULL, 2),
    "three rounds, all of it": Graph(((1,), (0, 2), ()), 3, keep_round0=True, self_edge=True),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("graph", SHARED.values(), ids=SHARED)
def test_rounds_cycles_and_self_edges_equal_one_dense_forward(families, family, dtype, graph):
    engine = families.engine(family, dtype)
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    attention = "sdpa" if dtype == torch.float64 else "eager"
    want = one_row(families, engine, prefix, whole(passages), graph, question, attention)
    found = engine.prefill(graph.plan(prefix, whole(passages), question)).logits
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (found - want).abs().max() < limit


@pytest.mark.parametrize(
    "change",
    [
        {"keep_round0": True},
        {"self_edge": True},
        {"positions": "serial"},
        {"rounds": 2},
        {"sources": ((1,), (0, 2), (0, 1))},
    ],
    ids=str,
)
def test_every_option_moves_the_logits(families, engine, change):
    prefix, passages = families.segments(engine)
    question, graph = families.tokens(7, seed=9), Graph(FULL, 1)
    one = engine.prefill(graph.plan(prefix, whole(passages), question)).logits
    other = engine.prefill(replace(graph, **change).plan(prefix, whole(passages), question)).logits
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("rounds", [None, 2, 5])
def test_a_chain_at_serial_positions_is_a_sequential_prompt(families, engine, rounds):
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = Graph(CHAIN, rounds, "serial").plan(prefix, whole(passages), question)
    ids = tuple(token for part in (prefix, *passages) for token in part.token_ids)
    want = engine.prefill(sequential_plan((*ids, *question))).logits
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]


@pytest.mark.parametrize("positions", ["shared", "serial"])
def test_without_edges_a_graph_is_parallel(families, engine, positions):
    prefix, passages = families.segments(engine)
    question, pairs = families.tokens(7, seed=9), whole(passages)
    plan = Graph(NO_EDGES, positions=positions, self_edge=True).plan(prefix, pairs, question)
    parallel = parallel_plan(prefix, pairs, question, NEUTRAL, positions=positions)
    assert plan == replace(parallel, mode="graph")
    block = replace(block_plan(prefix, pairs, question), mode="graph")
    assert (plan == block) is (positions == "serial")


def test_order_of_sources_and_of_passages_changes_nothing_at_shared_positions(families, engine):
    prefix, (a, b, c) = families.segments(engine)
    question = families.tokens(7, seed=9)
    weights = ContextWeights(0.7, 0.8, -0.1)
    one, other = (
        engine.prefill(
            graph_plan(prefix, whole(order), sources, question, rounds=2, weights=weights)
        ).logits
        for order, sources in [
            ((a, b, c), ((1, 2), (2,), (0,))),
            ((c, a, b), ((1,), (2, 0), (0,))),
        ]
    )
    assert torch.allclose(one, other, atol=1e-9, rtol=0)


def test_a_target_knows_nothing_of_other_targets(families, engine):
    prefix, (a, b, c) = families.segments(engine)
    other = replace(b, token_ids=families.tokens(6, seed=77), name="other")
    question = families.tokens(7, seed=9)
    keys = []
    for second in (b, other):
        graph = Graph(((2,), (2,), ()))
        plan = replace(graph.plan(prefix, whole((a, second, c)), question), reads=(0, 1))
        keys.append(engine.prefill(plan).logits)
    assert torch.equal(*keys)


def test_targets_attend_neutrally_and_the_question_with_its_weights(families, engine):
    prefix, passages = families.segments(engine)
    question, pairs = families.tokens(7, seed=9), whole(passages)
    weighed = Graph(((1, 2), (), ())).plan(
        prefix, pairs, question, weights=ContextWeights(0.7, 0.9)
    )
    assert len(weighed.targets) == 1
    neutral = engine.prefill(replace(weighed, weights=NEUTRAL)).logits
    merged = engine.prefill(Graph(((1, 2), (), ())).plan(prefix, pairs, question)).logits
    assert (neutral - merged).abs().max() < TOLERANCE[torch.float64]
    assert (engine.prefill(weighed).logits - neutral).abs().max() > 1e-3


def test_scale_one_over_temperature_multiplies_by_one(families, engine):
    # At S·T = 1 a duplicate adds log 2 to the context, as at T = S = 1; at S = 1 it adds T log 2.
    prefix, (a, *_) = families.segments(engine)
    question = families.tokens(7, seed=9)

    def logits(count, *weights):
        plan = parallel_plan(prefix, whole((a,) * count), question, ContextWeights(*weights))
        return engine.prefill(plan).logits

    log2 = math.log(2)
    for weights, added in [((1.0, 1.0), log2), ((0.5, 2.0), log2), ((0.5, 1.0), 0.5 * log2)]:
        twice, once = logits(2, *weights), logits(1, *weights, added)
        assert (twice - once).abs().max() < TOLERANCE[torch.float64], weights
    assert (logits(2, 1e-3, 1.0) - logits(1, 1e-3, 1.0)).abs().max() < 1e-2


def test_reads_are_obeyed_without_a_target_too(families, engine):
    prefix, (a, b, c) = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = parallel_plan(prefix, whole((a, b, c)), question, NEUTRAL)
    start = plan.prefill_start
    for reads, left in [((0, 2), (a, c)), ((1,), (b,)), ((), ())]:
        want = replace(parallel_plan(prefix, whole(left), question, NEUTRAL), prefill_start=start)
        found = engine.prefill(replace(plan, reads=reads)).logits
        assert (found - engine.prefill(want).logits).abs().max() < TOLERANCE[torch.float64]


def test_decoding_after_targets_equals_the_definition_at_every_step(families, engine):
    prefix, passages = families.segments(engine)
    graph = Graph(FULL, 2, keep_round0=True)
    plan = graph.plan(prefix, whole(passages), families.tokens(7, seed=9))
    steps = list(engine.decode_states(engine.prefill(plan), Sampling(6), frozenset()))
    made = tuple(token for token, _ in steps)
    want = PartByPart(engine).logits(prefix, whole(passages), graph, (*plan.prefill, *made))
    for (_, state), row in zip(steps, want[-7:-1], strict=True):
        assert (state.logits - row).abs().max() < TOLERANCE[torch.float64]
    block = engine.following(engine.prefill(plan), made)
    assert (block - want[-7:-1]).abs().max() < TOLERANCE[torch.float64]


def test_forks_go_on_apart_and_share_what_is_stored(families, engine):
    prefix, passages = families.segments(engine)
    plan = Graph(DAG).plan(prefix, whole(passages), families.tokens(7, seed=9))
    first = engine.prefill(plan)
    second = engine.fork(first)
    assert first.cache.layers[0].groups is second.cache.layers[0].groups
    ways = (5, 6, 7), (8, 9, 10)
    states = [first, second]
    for step in range(3):
        states = [engine.advance(s, way[step]) for s, way in zip(states, ways, strict=True)]
    for state, way in zip(states, ways, strict=True):
        alone = engine.prefill(replace(plan, prefill=(*plan.prefill, *way))).logits
        assert (state.logits - alone).abs().max() < TOLERANCE[torch.float64]


PLANS = {
    "graph": lambda prefix, pairs, ids: Graph(FULL, 2).plan(prefix, pairs, ids),
    "serial": lambda prefix, pairs, ids: Graph(CHAIN, positions="serial").plan(prefix, pairs, ids),
    "repaired": lambda prefix, pairs, ids: replace(
        block_plan(prefix, pairs, ids), recompute=Recompute(2, 0.3)
    ),
    "rows": lambda prefix, pairs, ids: parallel_plan(
        prefix, tuple((p, (0, 2, 3)) for p, _ in pairs), ids, ContextWeights(0.9, 0.9), gaps=True
    ),
}


@pytest.mark.parametrize("kind", PLANS)
def test_no_plan_changes_what_is_stored_even_side_by_side(families, kind):
    cache = DictCache()
    model = families.engine("llama", torch.float64).model
    engine = Engine(model, ModelIdentity("tiny", "w", "r", "float64", "t"), cache)
    prefix, passages = families.segments(engine)
    plan = PLANS[kind](prefix, whole(passages), families.tokens(7, seed=9))
    engine.store(engine.prefill(plan).fresh)
    before, placed = cache.digest(), engine.placed.nbytes

    def ask():
        state = engine.prefill(plan)
        return list(engine.decode(state, Sampling(5), frozenset()))

    alone, found = ask(), []
    threads = [threading.Thread(target=lambda: found.append(ask())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 3
    assert cache.digest() == before
    assert engine.placed.nbytes == placed
    fresh = Engine(model, engine.identity, cache).prefill(plan)
    assert torch.equal(fresh.logits, engine.prefill(plan).logits)


@pytest.mark.parametrize("kind", PLANS)
def test_the_arena_of_a_finished_request_is_used_again_by_any_plan(families, engine, kind):
    prefix, passages = families.segments(engine)
    plan = PLANS[kind](prefix, whole(passages), families.tokens(7, seed=9))
    engine._free_arenas.clear()
    for _ in range(3):
        state = engine.prefill(plan)
        fork = engine.fork(state)
        del state
        assert engine._free_arenas == []
        del fork
        assert len(engine._free_arenas) == 1


def test_a_passage_without_parents_has_another_key_and_fits_any_prefix(families, engine):
    prefix, (passage, *_) = families.segments(engine)
    other = replace(prefix, token_ids=families.tokens(5, seed=50))
    alone = replace(passage, parents=())
    keys = {
        segment_key(segment, "raw")
        for segment in (passage, alone, replace(alone, parents=(other,)))
    }
    assert len(keys) == 3
    assert torch.equal(engine.encode(alone).keys, engine.encode(replace(alone, name="x")).keys)
    assert (engine.encode(alone).keys - engine.encode(passage).keys).abs().max() > 1e-3
    question = families.tokens(7, seed=9)
    for before in (prefix, other):
        found = engine.prefill(parallel_plan(before, whole((alone,)), question, NEUTRAL)).logits
        want = PartByPart(engine).logits(before, whole((alone,)), Graph(((),)), question)[-1]
        assert (found - want).abs().max() < TOLERANCE[torch.float64]


def test_a_passage_without_parents_reads_alike_wherever_all_is_shifted(families, engine):
    _, (passage, *_) = families.segments(engine)
    alone, question = replace(passage, parents=()), families.tokens(7, seed=9)
    one, other = (
        EncodingPlan("x", None, (PlacedRows(alone, start),), question, start + len(alone))
        for start in (0, 300)
    )
    # Cosines and sines are float32 in any model.
    assert (engine.prefill(one).logits - engine.prefill(other).logits).abs().max() < 1e-5
    ids = (*alone.token_ids, *question)
    want = engine.prefill(sequential_plan(ids)).logits
    assert (engine.prefill(one).logits - want).abs().max() < TOLERANCE[torch.float64]


@pytest.mark.parametrize("rows", [(0, 3, 4, 8), (2,), (0, 1, 2)])
def test_rows_that_keep_their_places_equal_a_dense_forward_in_which_others_are_hidden(
    families, engine, rows
):
    prefix, (passage, *_) = families.segments(engine)
    question = families.tokens(7, seed=9)
    plan = parallel_plan(prefix, ((passage, rows),), question, NEUTRAL, gaps=True)
    ids = (*prefix.token_ids, *passage.token_ids, *question)
    visible = torch.ones(len(ids), len(ids)).tril().bool()
    start, end = len(prefix), len(prefix) + len(passage)
    dropped = [start + row for row in range(len(passage)) if row not in rows]
    visible[end:, dropped] = False
    want = families.stock_forward(engine, ids, list(range(len(ids))), visible)[-1]
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]
    packed = parallel_plan(prefix, ((passage, rows),), question, NEUTRAL)
    moved = (engine.prefill(packed).logits - want).abs().max()
    assert moved > 1e-3
    everything = tuple(range(len(passage)))
    plain, gapped = (
        parallel_plan(prefix, ((passage, everything),), question, NEUTRAL, gaps=gaps)
        for gaps in (False, True)
    )
    assert torch.equal(engine.prefill(plain).logits, engine.prefill(gapped).logits)


@pytest.mark.parametrize("positions", ["shared", "serial"])
def test_gaps_and_serial_places_of_one_layer_equal_one_dense_forward(families, shallow, positions):
    prefix, (a, b, _) = families.segments(shallow)
    question = families.tokens(7, seed=9)
    rows = (1, 2, 7), (0, 3)
    plan = parallel_plan(
        prefix,
        ((a, rows[0]), (b, rows[1])),
        question,
        NEUTRAL,
        positions=positions,
        gaps=True,
    )
    second = 4 + 9 if positions == "serial" else 4
    where = [0, 1, 2, 3, 5, 6, 11, second, second + 3]
    end = second + 6 if positions == "serial" else 4 + 9
    where += range(end, end + 7)
    ids = (*prefix.token_ids, *kept_ids(a, rows[0]), *kept_ids(b, rows[1]), *question)
    visible = torch.ones(16, 16).tril().bool()
    visible[7:9, 4:7] = False
    want = families.stock_forward(shallow, ids, where, visible)[-1]
    assert (shallow.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_control_tokens_inside_a_passage_are_tokens_like_any_other(families, engine):
    prefix, (passage, *_) = families.segments(engine)
    odd = replace(passage, token_ids=(1, 2, 17, 2, 2, 0, 44))
    question = families.tokens(7, seed=9)
    plan = parallel_plan(prefix, whole((odd,)), question, NEUTRAL)
    ids = (*prefix.token_ids, *odd.token_ids, *question)
    causal = torch.ones(len(ids), len(ids)).tril().bool()
    want = families.stock_forward(engine, ids, list(range(len(ids))), causal)[-1]
    assert (engine.prefill(plan).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_no_passage_at_all_is_the_prefix_and_the_question(families, engine):
    prefix, _ = families.segments(engine)
    question = families.tokens(7, seed=9)
    want = engine.prefill(sequential_plan((*prefix.token_ids, *question))).logits
    for plan in (Graph(()).plan(prefix, (), question), block_plan(prefix, (), question)):
        repaired = replace(plan, recompute=Recompute(3, 0.5))
        assert (engine.prefill(repaired).logits - want).abs().max() < TOLERANCE[torch.float64]


def test_positions_past_the_window_are_refused_whatever_made_them(families, engine):
    prefix, (passage, *_) = families.segments(engine, (4, 60))
    question = families.tokens(7, seed=9)
    fits = parallel_plan(prefix, whole((passage,) * 9), question, NEUTRAL)
    assert engine.prefill(fits).position == 4 + 60 + 7
    serial = parallel_plan(prefix, whole((passage,) * 9), question, NEUTRAL, positions="serial")
    rounds = Graph(((1,), (0,)), 9).plan(prefix, whole((passage,) * 2), question)
    for plan in (serial, rounds):
        with pytest.raises(UnsupportedModelError, match="the model's window ends at 512"):
            engine.prefill(plan)
