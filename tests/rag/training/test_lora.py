"""LoRA on decoders: which layers it finds, merging and rounding, and switching it off."""

import copy
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from torch import nn

from rag.training.lora import (
    ATTENTION,
    DECODER_LINEARS,
    LoRA,
    LoRALinear,
    lora_layers,
    merge_lora,
    merged_weight,
    without_lora,
)

_AT = Path(__file__).parents[1] / "generation" / "conftest.py"
_SPEC = spec_from_file_location("generation_conftest", _AT)
GENERATION = module_from_spec(_SPEC)
_SPEC.loader.exec_module(GENERATION)

IDS = torch.tensor([[5, 9, 31, 7, 200, 8]])
EXPERTS = {"gpt_oss", "mixtral", "qwen3_moe"}  # their feed-forward parts are no linear layers


@pytest.fixture(params=GENERATION.FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def decoder(tiny_model):
    """Return a function family -> a tiny random model of it, a fresh one each time."""
    return GENERATION.Families(tiny_model).model


def with_updates(model, rank=3, seed=1, size=0.3):
    """Put random updates into a model; return it with the names of its layers."""
    generator = torch.Generator().manual_seed(seed)
    names = LoRA(rank, 2.0 * rank, DECODER_LINEARS).apply(model, generator)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_b.copy_(size * torch.randn(layer.lora_b.shape, generator=generator))
    return model, names


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits[0]


def test_the_pattern_finds_all_linear_layers_of_a_familys_blocks(family, decoder):
    model = decoder(family)
    names = LoRA(rank=2, pattern=DECODER_LINEARS).apply(model)
    linears = {n for n, m in decoder(family).named_modules() if type(m) is nn.Linear}
    assert set(names) == linears - {"lm_head"}
    kinds = {name.split(".")[3] for name in names}
    assert kinds == ({"self_attn"} if family in EXPERTS else {"self_attn", "mlp"})
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.{part}" for name in names for part in ("lora_a", "lora_b")}


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens", "model.layers.0.mlp.gate"])
def test_the_pattern_leaves_embeddings_output_and_routers_alone(name):
    assert re.search(DECODER_LINEARS, name) is None
    assert re.search(DECODER_LINEARS, "model.layers.11.self_attn.q_proj") is not None


def test_merged_and_unmerged_logits_are_equal(tiny_model):
    model, _ = with_updates(tiny_model(dtype=torch.float64))
    base, before = logits(tiny_model(dtype=torch.float64)), logits(model)
    assert (before - base).abs().max() > 0.1
    merge_lora(model)
    assert not lora_layers(model)
    assert (logits(model) - before).abs().max() < 1e-10


def test_an_update_of_zero_changes_nothing(family, decoder):
    model = decoder(family)
    before = logits(model)
    LoRA(rank=2, pattern=DECODER_LINEARS).apply(model)
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(merge_lora(model)), before)


@pytest.mark.parametrize(
    ("base", "updates"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_updates_are_float32_or_better(tiny_model, base, updates):
    model, _ = with_updates(tiny_model(dtype=base))
    for layer in lora_layers(model).values():
        assert (layer.lora_a.dtype, layer.lora_b.dtype) == (updates, updates)
        assert layer.base.weight.dtype == layer.merged().weight.dtype == base
    assert model(IDS).logits.dtype == base


def test_another_dtype_of_the_updates_can_be_asked_for():
    layer = LoRALinear(nn.Linear(4, 3), 2, 2.0, dtype=torch.float64)
    assert (layer.lora_a.dtype, layer(torch.randn(1, 4)).dtype) == (torch.float64, torch.float32)


def test_a_bfloat16_layer_rounds_its_product_once_and_gradients_are_float32():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(48, 32, bias=False).bfloat16(), 4, 8.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(7, 48).bfloat16()
    exact = 2.0 * x.double() @ layer.lora_a.double().T @ layer.lora_b.double().T
    said = layer.base(x) + exact.bfloat16()
    assert (layer(x) - said).abs().max() <= said.abs().max() * 2**-8
    layer(x).float().square().sum().backward()
    assert layer.lora_a.grad.dtype == layer.lora_b.grad.dtype == torch.float32
    assert layer.base.weight.grad is None


def test_merging_into_bfloat16_is_within_half_a_step_of_the_exact_sum():
    generator = torch.Generator().manual_seed(0)
    weight, a, b = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((32, 48), (4, 48), (32, 4))
    )
    exact = weight.bfloat16().double() + 0.5 * b.float().double() @ a.float().double()
    got = merged_weight(weight.bfloat16(), a.float(), b.float(), 0.5)
    assert got.dtype == torch.bfloat16
    # Half a step of eight significant bits, and float32's own rounding of the sum before it.
    assert ((got.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-5).all()
    # Adding in bfloat16 would round three times.
    low = weight.bfloat16() + 0.5 * (b.bfloat16() @ a.bfloat16())
    assert (low.double() - exact).abs().mean() > 1.5 * (got.double() - exact).abs().mean()


def test_merging_follows_the_definition():
    weight, a, b = torch.zeros(2, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [5.0]])
    assert merged_weight(weight + 1, a, b, 0.5).tolist() == [[2.5, 4.0], [3.5, 6.0]]


def test_without_its_updates_a_model_is_its_base_and_then_itself_again(tiny_model):
    base = logits(tiny_model(dtype=torch.float64))
    model, _ = with_updates(tiny_model(dtype=torch.float64))
    trained = logits(model)
    with without_lora(model):
        assert torch.equal(logits(model), base)
        with without_lora(model):
            pass
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), trained)


def test_updates_come_back_after_an_error_and_each_as_it_was(tiny_model):
    model, names = with_updates(tiny_model())
    off = lora_layers(model)[names[0]]
    off.enabled = False

    def fail():
        with without_lora(model):
            assert not any(layer.enabled for layer in lora_layers(model).values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    enabled = [layer.enabled for layer in lora_layers(model).values()]
    assert enabled == [False] + [True] * (len(names) - 1)


def test_a_pattern_for_encoders_finds_nothing_in_a_decoder(tiny_model):
    with pytest.raises(ValueError, match="pattern must fit a linear layer of the trunk"):
        LoRA(pattern=ATTENTION).apply(tiny_model())


def test_a_copy_of_a_model_has_updates_of_its_own(tiny_model):
    model, _ = with_updates(tiny_model())
    other = copy.deepcopy(model)
    merge_lora(other)
    assert lora_layers(model)
