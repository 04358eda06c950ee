"""Tuning a trunk: LoRA and top layers on four families."""

import pytest
import torch
from torch import nn

from pruners.provence import LoRA, ProvenceModel, TopLayers, collate, merge_lora, pair_blocks
from rag.training.lora import ALL_LINEARS, ATTENTION, LoRALinear

FAMILIES = ["bert", "xlm-roberta", "modernbert", "deberta-v2"]


def draw(trunk, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, LoRALinear):
                module.lora_b.copy_(torch.randn(module.lora_b.shape, generator=generator))


def states(trunk):
    ids = torch.tensor([[2, 5, 6, 7, 3, 8, 9, 3]])
    return trunk(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def test_layer_matches_the_definition():
    torch.manual_seed(0)
    base = nn.Linear(5, 3).double()
    layer = LoRALinear(base, rank=2, alpha=6.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(4, 5, dtype=torch.float64)
    update = x @ layer.lora_a.T @ layer.lora_b.T * (6.0 / 2)
    torch.testing.assert_close(layer(x), x @ base.weight.T + base.bias + update)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pattern", [ATTENTION, ALL_LINEARS])
def test_patterns_fit_every_family(trunk, family, pattern):
    names = LoRA(rank=2, pattern=pattern).apply(trunk(family))
    attention = 2 if family == "modernbert" else 4  # one product for query, key and value
    assert len(names) == 3 * (attention + (2 if pattern == ALL_LINEARS else 0))
    assert not any("embeddings" in name or "pooler" in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untrained_update_changes_nothing_and_merging_keeps_a_trained_one(trunk, family):
    body = trunk(family)
    before = states(body)
    LoRA(rank=2, pattern=ALL_LINEARS).apply(body)
    assert torch.equal(states(body), before)
    draw(body)
    trained = states(body)
    assert not torch.allclose(trained, before, atol=0.1)
    merge_lora(body)
    assert not any(isinstance(module, LoRALinear) for module in body.modules())
    torch.testing.assert_close(states(body), trained, atol=1e-5, rtol=0)
    assert not any(p.requires_grad for p in body.parameters())


def test_merging_leaves_the_base_as_it_was():
    base = nn.Linear(5, 3)
    kept = base.weight.clone()
    layer = LoRALinear(base, rank=2, alpha=2.0)
    nn.init.normal_(layer.lora_b)
    layer.merged()
    assert torch.equal(base.weight, kept)


def test_a_layer_without_bias_stays_without():
    layer = LoRALinear(nn.Linear(5, 3, bias=False), rank=2, alpha=2.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(2, 5)
    torch.testing.assert_close(layer.merged()(x), layer(x))
    assert layer.merged().bias is None


@pytest.mark.parametrize("family", FAMILIES)
def test_only_updates_are_trainable(trunk, family):
    body = trunk(family)
    LoRA(rank=2).apply(body)
    names = [name for name, p in body.named_parameters() if p.requires_grad]
    assert names
    assert all(name.endswith(("lora_a", "lora_b")) for name in names)


def test_a_seed_gives_the_same_start(trunk):
    def first(seed):
        body = trunk("bert")
        LoRA(rank=2).apply(body, torch.Generator().manual_seed(seed))
        return next(m.lora_a for m in body.modules() if isinstance(m, LoRALinear))

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("layers", "kept"), [(0, set()), (1, {2}), (2, {1, 2}), (9, {0, 1, 2})])
def test_top_layers_are_trainable_and_nothing_else_is(trunk, family, layers, kept):
    body = trunk(family)
    names = TopLayers(layers).apply(body)
    assert {int(name.split(".")[-1]) for name in names} == kept
    for name, parameter in body.named_parameters():
        assert parameter.requires_grad == name.startswith(tuple(f"{n}." for n in names))


@pytest.mark.parametrize("tuning", [LoRA(rank=4, alpha=8.0, pattern=ALL_LINEARS), TopLayers(2)])
def test_training_a_tuned_model_lowers_its_loss(trunk, tokenizers, passage, tuning):
    body = trunk("bert")
    tuning.apply(body, torch.Generator().manual_seed(0))
    frozen = {n: p.clone() for n, p in body.named_parameters() if not p.requires_grad}
    model = ProvenceModel(body)
    reads = [passage("yield ", "returns"), passage("returns ", "yield")]
    blocks = [b for p in reads for b in pair_blocks(tokenizers["pieces"], "yield", p, 96)]
    batch = collate(blocks, 0)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).gather(1, batch.rows.clamp(min=0))
    counted = batch.rows >= 0
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        said = model(batch)
        loss = nn.functional.binary_cross_entropy_with_logits(said.tokens[counted], labels[counted])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.05
    assert all(torch.equal(p, frozen[n]) for n, p in body.named_parameters() if n in frozen)


def test_mistakes_are_named(trunk):
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        LoRA(rank=0)
    with pytest.raises(ValueError, match=r"alpha must be above 0, got 0\.0"):
        LoRA(alpha=0.0)
    with pytest.raises(
        ValueError, match="pattern must fit a linear layer of the trunk, got 'conv'"
    ):
        LoRA(pattern="conv").apply(trunk("bert"))
    with pytest.raises(ValueError, match="layers must be at least 0, got -1"):
        TopLayers(-1)
