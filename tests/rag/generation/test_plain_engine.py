"""The engine without KV reuse: any family, its own forward pass, sequential plans only."""

import pytest
import torch

from rag.errors import UnsupportedModelError
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.local_model import LocalModel
from rag.generation.plain_engine import PlainEngine
from rag.generation.plan import ContextWeights, block_plan, parallel_plan, sequential_plan
from rag.models.language_model import LoadedModel
from rag.records import ModelIdentity, Passage, Query, Segment, Span

IDENTITY = ModelIdentity("tiny", "w", "r", "float32", "t")
REASON = "positions are learned"
OTHERS = {
    "gpt2": {},
    "bloom": {},
    "gpt_neox": {},
    "mamba": {"state_size": 4, "time_step_rank": 4},
    "jamba": {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4},
    "deepseek_v3": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "num_key_value_heads": 6,
    },
    "llama": {},
    "gemma2": {"sliding_window": 16},
}


@pytest.fixture(params=OTHERS)
def engine(request, tiny_model):
    return PlainEngine(tiny_model(request.param, **OTHERS[request.param]), IDENTITY, REASON)


@pytest.fixture
def gpt2(tiny_model):
    return PlainEngine(tiny_model("gpt2"), IDENTITY, REASON)


def tokens(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 300, (count,), generator=generator).tolist())


def stock(engine, ids):
    """Logits of every token, in one forward pass without a cache."""
    with torch.inference_mode():
        return engine.model(torch.tensor([ids]), use_cache=False).logits[0]


@pytest.mark.filterwarnings("ignore")
def test_prompt_and_decoding_are_the_models_own(engine):
    ids, made = tokens(40), []
    state = engine.prefill(sequential_plan(ids))
    for token, before in engine.decode_states(state, Sampling(4), frozenset()):
        want = stock(engine, (*ids, *made))[-1]
        assert (before.logits - want).abs().max() < 1e-4 * want.abs().max()
        made.append(token)
    assert len(made) == 4


@pytest.mark.filterwarnings("ignore")
def test_a_score_leaves_the_state_as_it_was_and_forks_go_their_own_way(engine):
    ids, more = tokens(20), tokens(4, seed=3)
    state = engine.read(ids)
    found = engine.score(state, more)
    table = stock(engine, (*ids, *more)).log_softmax(-1)[19:23]
    want = torch.stack([row[token] for row, token in zip(table, more, strict=True)])
    assert (found - want).abs().max() < 1e-4 * want.abs().max()
    assert torch.equal(found, engine.score(state, more))
    other = engine.fork(state)
    greedy = list(engine.decode(state, Sampling(4), frozenset()))
    assert list(engine.decode(other, Sampling(4), frozenset())) == greedy
    assert engine.score(other, ()).shape == (0,)


def test_scored_tokens_are_the_decoded_ones_with_their_log_probabilities(gpt2):
    ids, sampling = tokens(9), Sampling(6, temperature=0.5, seed=2)
    plain = list(gpt2.decode(gpt2.read(ids), sampling, frozenset()))
    scored = list(gpt2.decode_scored(gpt2.read(ids), sampling, frozenset()))
    assert [token for token, _ in scored] == plain
    assert gpt2.score(gpt2.read(ids), plain).tolist() == pytest.approx([p for _, p in scored])
    assert list(gpt2.decode(gpt2.read(ids), sampling, frozenset({plain[2]}))) == plain[:2]


def test_batches_are_the_same_requests_one_by_one(gpt2):
    plans = [sequential_plan(tokens(9, seed)) for seed in range(3)]
    samplings = [Sampling(count) for count in (2, 4, 1)]
    alone = [
        list(gpt2.decode(gpt2.prefill(plan), sampling, frozenset()))
        for plan, sampling in zip(plans, samplings, strict=True)
    ]
    states = gpt2.prefill_batch(plans)
    assert all(
        torch.equal(one.logits, other.logits)
        for one, other in zip(states, gpt2.prefill_all(plans), strict=True)
    )
    together = [[], [], []]
    for step in gpt2.decode_batch(states, samplings, frozenset()):
        for row, token in step.items():
            together[row].append(token)
    assert together == alone


def test_the_window_ends_prompts_and_answers(tiny_model):
    engine = PlainEngine(tiny_model("gpt2", max_position_embeddings=64), IDENTITY, REASON)
    assert engine.window == 64
    with pytest.raises(UnsupportedModelError, match="position 65, the model's window ends at 64"):
        engine.read(tokens(65))
    assert len(list(engine.decode(engine.read(tokens(62)), Sampling(9), frozenset()))) == 3
    with pytest.raises(ValueError, match="token_ids must hold at least one token, got none"):
        engine.read(())


def test_a_recurrent_model_has_no_window(tiny_model):
    model = tiny_model("mamba", **OTHERS["mamba"])
    del model.config.max_position_embeddings
    engine = PlainEngine(model, IDENTITY, REASON)
    assert engine.room(10**6, 50) == 50


def test_nothing_is_stored_and_bytes_are_counted(gpt2):
    state = gpt2.read(tokens(9))
    assert gpt2.cache is None
    assert (state.fresh, state.use.hits, state.use.misses) == ((), 0, 0)
    assert state.cache.nbytes >= 2 * 3 * 9 * 48 * 4
    assert gpt2.kv_bytes_per_token == 2 * 3 * 48 * 4
    assert state.cache.mass is None
    gpt2.store(state.fresh)


def test_other_plans_and_encoding_are_refused_with_the_reason(gpt2):
    prefix = Segment(IDENTITY, "prefix", tokens(4), name="prefix")
    passage = Segment(IDENTITY, "passage", tokens(9, 1), (prefix,), name="p")
    pairs = ((passage, None),)
    told = "tiny runs without KV reuse, in mode 'sequential' only: "
    for plan in (
        parallel_plan(prefix, pairs, tokens(3), ContextWeights(), mode="ape"),
        block_plan(prefix, pairs, tokens(3)),
    ):
        with pytest.raises(UnsupportedModelError, match=rf"{told}mode '{plan.mode}' .*learned"):
            gpt2.prefill(plan)
    with pytest.raises(UnsupportedModelError, match=rf"{told}attention .*learned"):
        gpt2.prefill(sequential_plan(tokens(4)), watch=True)
    with pytest.raises(UnsupportedModelError, match=rf"{told}segment 'p' cannot .*learned"):
        gpt2.encode(passage)


def test_refuses_a_model_whose_attention_is_replaced(tiny_model):
    model = tiny_model()
    Engine(model, IDENTITY)
    with pytest.raises(ValueError, match="must have attention of its own, got 'tiny'"):
        PlainEngine(model, IDENTITY, REASON)


def passage(text):
    whole = Span(0, len(text))
    return Passage("p", "d", text, whole, (whole,))


@pytest.fixture
def lm(tiny_model, tiny_tokenizer, identity):
    """Return a function family -> local model."""
    return lambda family, **changes: LocalModel(
        LoadedModel(tiny_model(family, **changes), tiny_tokenizer, identity())
    )


def test_a_local_model_falls_back_only_if_told_and_says_so(lm):
    made = lm("gpt2", max_position_embeddings=4096)
    with pytest.raises(UnsupportedModelError, match="positions are learned"):
        made.engine()
    assert made.notes == ()
    engine = made.engine(fallback=True)
    assert isinstance(engine, PlainEngine)
    assert engine is made.engine(fallback=True)
    assert made.notes == (f"KV reuse refused: {engine.reason}; mode sequential",)
    assert "positions are learned" in made.notes[0]
    with pytest.raises(UnsupportedModelError, match="positions are learned"):
        made.engine()


def test_a_supported_model_never_falls_back(lm):
    made = lm("llama")
    engine = made.engine(fallback=True)
    assert isinstance(engine, Engine)
    assert engine is made.engine()
    assert made.notes == ()


def test_a_generator_answers_in_mode_sequential(lm):
    made = lm("gpt2", max_position_embeddings=4096)
    generate = GenerateCached(
        made.engine(fallback=True), made.prompt, mode="sequential", sampling=Sampling(5)
    )
    answer = generate(Query("Why is yield lazy?"), [passage("The assert statement. ")])
    assert (answer.mode, answer.tokens.generated) == ("sequential", 5)
    with pytest.raises(UnsupportedModelError, match="in mode 'sequential' only"):
        generate.with_mode("ape")(Query("Why?"), [passage("The assert statement. ")])
