"""Keys before RoPE: captured exactly, rotated as each family's own model would; what is refused."""

import math

import pytest
import torch
from torch import nn

from rag.errors import UnsupportedModelError
from rag.generation.capability import reusable_positions
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.key_capture import KeyCapture
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    parallel_plan,
    sequential_plan,
)
from rag.generation.rope import Rotary
from rag.records import ModelIdentity, Segment

# More tokens than heads, as many as heads, and one: layouts differ where sizes do not tell.
COUNTS = (9, 2, 1)


def own_keys(model, ids, positions):
    """What the model itself caches, (layers, kv_heads, tokens, head_dim), and what is captured."""
    from transformers import DynamicCache

    cache, rotary = DynamicCache(), Rotary(model)
    with rotary.capture() as captured, torch.inference_mode():
        model(
            torch.tensor([ids]),
            position_ids=torch.tensor([positions]),
            past_key_values=cache,
            use_cache=True,
        )
    return torch.stack([layer.keys[0] for layer in cache.layers]), torch.stack(captured), rotary


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_captured_keys_rotate_to_the_models_own_bit_for_bit(families, family, dtype):
    model = families.model(family, dtype)
    for count in COUNTS:
        positions = list(range(40, 40 + count))
        theirs, captured, rotary = own_keys(model, families.tokens(count), positions)
        assert captured.shape == (3, count, 2, 8)
        assert torch.equal(rotary.rotate(captured, torch.tensor(positions)), theirs)


def test_positions_may_have_gaps_and_repeat(families, family):
    model = families.model(family)
    positions = [5, 5, 9, 200, 6]
    captured, rotary = own_keys(model, families.tokens(5), [0, 1, 2, 3, 4])[1:]
    together = rotary.rotate(captured, torch.tensor(positions))
    for row, position in enumerate(positions):
        alone = rotary.rotate(captured[:, row : row + 1], torch.tensor([position]))
        assert torch.equal(together[:, :, row : row + 1], alone)


def test_layers_without_positions_are_never_rotated(families):
    for family, still in (("smollm3", [1]), ("cohere2", [1]), ("exaone4", [1])):
        captured, rotary = own_keys(families.model(family), families.tokens(5), range(5))[1:]
        rotated = rotary.rotate(captured, torch.arange(100, 105)).transpose(1, 2)
        same = [n for n in range(3) if torch.equal(rotated[n], captured[n])]
        assert same == still, family


def test_layer_types_have_rotary_tables_of_their_own(families):
    rotary = Rotary(families.model("gemma3_text"))
    keys = torch.ones(1, 1, 2, 8).expand(3, 4, 2, 8)
    rotated = rotary.rotate(keys, torch.arange(50, 54))
    assert torch.equal(rotated[0], rotated[2])
    assert not torch.allclose(rotated[0], rotated[1])


@pytest.mark.parametrize(("family", "width"), [("phi", 4), ("glm4", 4), ("llama", 8)])
def test_partial_rotation_leaves_the_rest_of_a_key(families, family, width):
    rotary = Rotary(families.model(family))
    keys = torch.ones(3, 4, 2, 8)
    rotated = rotary.rotate(keys, torch.arange(50, 54)).transpose(1, 2)
    assert torch.equal(rotated[..., width:], keys[..., width:])
    assert (rotated[..., :width] != 1).all()


@pytest.mark.parametrize("family", ["llama", "cohere", "glm4", "phi", "gpt_oss", "llama-llama3"])
def test_rotating_on_by_a_difference_is_rotating_at_once(families, family):
    """Rotations compose, up to the scale that YaRN gives cosines and sines, in float32 bounds."""
    rotary = Rotary(families.model(family))
    keys = torch.randn(3, 6, 2, 8, generator=torch.Generator().manual_seed(1))
    start, on = torch.arange(6) + 10, torch.full((6,), 33)
    scale = rotary._embedding.attention_scaling
    twice = rotary.rotate(rotary.rotate(keys, start).transpose(1, 2), on)
    once = rotary.rotate(keys, start + on)
    width = {"phi": 4, "glm4": 4}.get(family, 8)
    assert torch.allclose(twice[..., :width] / scale, once[..., :width], atol=1e-5)
    still = rotary.rotate(keys, torch.zeros(6, dtype=torch.int64)).transpose(1, 2)
    assert torch.allclose(still[..., :width] / scale, keys[..., :width], atol=1e-6)


def test_rotation_is_the_formula(families):
    """Read literally in float64: pairs (i, i + 4) turn by position times 10000 ** (-i / 4)."""
    rotary = Rotary(families.model("llama"))
    keys = torch.randn(3, 5, 2, 8, generator=torch.Generator().manual_seed(1))
    rotated = rotary.rotate(keys, torch.arange(5) + 7)
    for token in range(5):
        for pair in range(4):
            angle = (token + 7) * 10000 ** (-pair / 4)
            one, two = keys[1, token, 0, pair].item(), keys[1, token, 0, pair + 4].item()
            first = one * math.cos(angle) - two * math.sin(angle)
            second = two * math.cos(angle) + one * math.sin(angle)
            assert rotated[1, 0, token, pair].item() == pytest.approx(first, abs=1e-5)
            assert rotated[1, 0, token, pair + 4].item() == pytest.approx(second, abs=1e-5)


@pytest.mark.parametrize("shift", [37, 300])
@pytest.mark.parametrize("family", ["llama", "cohere", "glm4", "phi", "smollm3", "gemma3_text"])
def test_a_passage_without_parents_may_move_rigidly(families, family, shift):
    engine = families.engine(family, torch.float64)
    passage = Segment(engine.identity, "passage", families.tokens(12), ())
    question = families.tokens(7, seed=9)
    near, far = (
        engine.prefill(
            EncodingPlan("x", None, (PlacedRows(passage, at),), question, at + 12)
        ).logits
        for at in (0, shift)
    )
    # Angles are float32 in every model, so those of position 300 are known to 3e-5.
    assert (near - far).abs().max() < 1e-5
    wrong = EncodingPlan("x", None, (PlacedRows(passage, shift),), question, shift + 20)
    assert (engine.prefill(wrong).logits - near).abs().max() > 1e-3


def test_hooks_are_gone_after_a_capture_even_if_it_fails(families):
    model = families.model("llama")
    rotary = Rotary(model)
    with pytest.raises(RuntimeError, match="in between"), rotary.capture():
        raise RuntimeError("in between")
    assert not any(module._forward_hooks for module in model.modules())


def test_a_norm_tells_its_layout_by_the_strides_of_what_it_reads():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.k_proj, self.k_norm = nn.Identity(), nn.Identity()

    module = Attention()
    keys = torch.randn(1, 3, 3 * 4)
    by_token = keys.view(1, 3, 3, 4)
    for given in (by_token, by_token.transpose(1, 2)):
        with KeyCapture([module], 4, "x")() as captured:
            module.k_norm(given)
        assert torch.equal(captured[0], by_token[0])


REFUSED = {
    "mamba": ({}, "recurrent or convolutional state"),
    "jamba": ({}, "recurrent or convolutional state"),
    "falcon_h1": ({}, "recurrent or convolutional state"),
    "qwen3_next": ({"num_experts": 2}, "recurrent or convolutional state"),
    "lfm2": ({"layer_types": ["conv", "full_attention", "conv"]}, "convolutional state"),
    "minimax": ({"num_local_experts": 2}, "recurrent or convolutional state"),
    "bloom": ({}, "ALiBi"),
    "mpt": ({}, "ALiBi"),
    "gpt2": ({}, "positions are learned"),
    "opt": ({}, "positions are learned"),
    "bart": ({}, "positions are learned"),
    "gpt_neox": ({}, "one projection interleaves queries, keys and values"),
    "deepseek_v3": ({"n_routed_experts": 8}, "latent"),
    "gemma4_text": ({"sliding_window": 16}, "sizes of keys differ"),
    "gemma3n_text": (
        {
            "sliding_window": 16,
            "num_kv_shared_layers": 1,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "vocab_size_per_layer_input": 300,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": [0.0] * 3,
        },
        "keys and values of other layers",
    ),
    "llama4_text": ({"num_local_experts": 2}, "chunked attention"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", REFUSED)
def test_the_gate_names_the_property_that_is_in_the_way(tiny_model, family, monkeypatch):
    changes, reason = REFUSED[family]
    model = tiny_model(family, **changes)
    monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("a forward pass ran"))
    with pytest.raises(UnsupportedModelError, match=rf"^{family}: KV reuse is not .*{reason}"):
        Engine(model, ModelIdentity("tiny", "w", "r", "float32", "t"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use_bidirectional_attention": True}, "bidirectional"),
        ({"attn_temperature_tuning": True}, "temperature tuning"),
        ({"is_encoder_decoder": True}, "output of an encoder"),
        ({"kv_lora_rank": 8}, "latent"),
        ({"num_kv_shared_layers": 1}, "of other layers"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "state"),
    ],
)
def test_the_gate_reads_each_property_by_itself(tiny_model, change, reason):
    model = tiny_model()
    Rotary(model)
    for name, value in change.items():
        setattr(model.config, name, value)
    with pytest.raises(UnsupportedModelError, match=reason):
        Rotary(model)


def test_the_gate_sees_a_convolution_that_no_setting_tells_of(tiny_model):
    model = tiny_model()
    model.model.layers[0].short = nn.Conv1d(1, 1, 1)
    with pytest.raises(UnsupportedModelError, match="recurrent or convolutional state"):
        Rotary(model)


def test_the_gate_wants_attention_that_can_be_replaced_and_read(tiny_model, monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(model, "_can_set_attn_implementation", lambda: False)
    with pytest.raises(UnsupportedModelError, match="attention function cannot be replaced"):
        Rotary(model)
    monkeypatch.undo()
    del model.model.layers[1].self_attn.k_proj
    with pytest.raises(UnsupportedModelError, match="LlamaAttention has no key projection"):
        Rotary(model)
    model.model.rotary_emb = None
    with pytest.raises(UnsupportedModelError, match="no layers with rotary self-attention"):
        Rotary(model)


@pytest.mark.parametrize(
    ("kind", "positions"),
    [("linear", 512), ("llama3", 512), ("yarn", 512), ("dynamic", 512), ("longrope", 256)],
)
def test_requests_may_not_cross_into_other_frequencies(families, scaled, kind, positions):
    family, changes = scaled[kind]
    model = families.model(family, **changes)
    assert Rotary(model).window == reusable_positions(model.config) == positions


def test_a_window_beyond_the_regime_of_longrope_is_refused_or_shortened(
    families, scaled, monkeypatch
):
    family, changes = scaled["longrope"]
    model = families.model(family, **changes)
    identity = ModelIdentity("tiny", "w", "r", "float32", "t")
    monkeypatch.setattr(Engine, "window", property(lambda _: 512))
    with pytest.raises(UnsupportedModelError, match=r"longer than 256 tokens .* its window is 512"):
        Engine(model, identity)
    monkeypatch.setattr(Engine, "window", property(lambda engine: engine._rotary.window))
    engine = Engine(model, identity)
    engine.prefill(sequential_plan(families.tokens(256)))
    with pytest.raises(UnsupportedModelError, match="position 257"):
        engine.prefill(sequential_plan(families.tokens(257)))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_frequencies_stay_the_same_up_to_the_limit(families, scaled, kind):
    family, changes = scaled[kind]
    rotary = Rotary(families.model(family, **changes))
    keys = torch.randn(3, 1, 2, 8, generator=torch.Generator().manual_seed(1)).expand(3, 2, 2, 8)
    alone = rotary.rotate(keys[:, :1], torch.tensor([5]))
    with_last = rotary.rotate(keys, torch.tensor([5, rotary.window - 1]))
    assert torch.equal(with_last[:, :, :1], alone)
    beyond = rotary.rotate(keys, torch.tensor([5, rotary.window]))
    assert not torch.allclose(beyond[:, :, :1], alone)


def test_a_passage_with_longrope_equals_the_sequential_prefill_up_to_the_limit(families):
    engine = families.engine("phi3-longrope", torch.float64)
    prefix, (passage, *_) = families.segments(engine, (100, 100))
    question = families.tokens(56, seed=9)
    plan = parallel_plan(prefix, ((passage, None),), question, ContextWeights())
    ids = (*prefix.token_ids, *passage.token_ids, *question)
    want = engine.prefill(sequential_plan(ids)).logits
    assert (engine.prefill(plan).logits - want).abs().max() < 1e-10
    assert len(list(engine.decode(engine.prefill(plan), Sampling(9), frozenset()))) == 1
