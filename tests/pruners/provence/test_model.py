"""The model: its formula, four families of trunk, padding, precision, what is trainable."""

import pytest
import torch
from torch import nn

from pruners.provence import PairBatch, ProvenceModel, RerankHead, collate, pair_blocks

FAMILIES = ["bert", "xlm-roberta", "modernbert", "deberta-v2"]
KINDS = {"bert": "pieces", "xlm-roberta": "spaces", "modernbert": "bytes", "deberta-v2": "spaces"}


@pytest.fixture
def blocks(tokenizers, passage):
    """Return a function family -> blocks of three lengths."""

    def build(family):
        reads = [
            passage("yield returns. ", "a program", title="the"),
            passage("a"),
            passage("checks ", "values ", "lazily ", "into"),
        ]
        kind = tokenizers[KINDS[family]]
        return [block for read in reads for block in pair_blocks(kind, "a statement", read, 128)]

    return build


@pytest.mark.parametrize("labels", [1, 2])
def test_matches_the_definition(random_model, blocks, labels):
    model = random_model("bert", labels=labels, dtype=torch.float64, residual=True)
    batch = collate(blocks("bert")[:1], 0, [[0.5, -2.0]])
    said = model(batch)
    states = model.trunk(
        input_ids=batch.ids, attention_mask=batch.mask.long(), token_type_ids=batch.types
    ).last_hidden_state[0]
    weight, bias = model.token_head.weight, model.token_head.bias
    for at, state in enumerate(states):
        logits = [sum(weight[label] * state) + bias[label] for label in range(labels)]
        own = logits[1] - logits[0] if labels == 2 else logits[0]
        row = int(batch.rows[0, at])
        prior = 0.0 if row < 0 else [0.5, -2.0][row]
        assert said.tokens[0, at].item() == pytest.approx((own + prior).item(), abs=1e-9)
    head = model.rerank_head.classifier
    own = sum(head.weight[0] * states[0]) + head.bias[0]
    assert said.rerank.item() == pytest.approx(own.item() + 0.5, abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(random_model, blocks, family):
    model = random_model(family, dtype=torch.float64)
    found = blocks(family)
    together = model(collate(found, 0))
    # ModernBERT takes its softmax in float32, whatever it computes in.
    near = {"atol": 1e-5 if family == "modernbert" else 1e-9, "rtol": 0}
    for line, block in enumerate(found):
        alone = model(collate([block], 0))
        torch.testing.assert_close(together.tokens[line, : len(block)], alone.tokens[0], **near)
        torch.testing.assert_close(together.rerank[line], alone.rerank[0], **near)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_is_read(random_model, blocks, family):
    model = random_model(family, dtype=torch.float64)
    batch = collate(blocks(family)[:1], 0)
    before = model(batch)
    for at in range(batch.ids.shape[1]):
        ids = batch.ids.clone()
        ids[0, at] = 40 if int(ids[0, at]) != 40 else 41
        changed = PairBatch(ids, batch.mask, batch.types, batch.rows)
        assert not torch.allclose(model(changed).rerank, before.rerank)


def test_token_types_reach_a_trunk_that_has_them(random_model, blocks):
    model = random_model("bert")
    batch = collate(blocks("bert")[:1], 0)
    flat = PairBatch(batch.ids, batch.mask, torch.zeros_like(batch.types), batch.rows)
    assert not torch.allclose(model(batch).rerank, model(flat).rerank)


def test_an_untrained_model_is_its_prior_to_the_last_bit(trunk, blocks):
    model = ProvenceModel(trunk("bert"), residual=True).eval()
    priors = [[0.25, -1.5], [3.0], [0.1, 0.2, 0.3, -13.8]]
    batch = collate(blocks("bert"), 0, priors)
    said = model(batch)
    for line, values in enumerate(priors):
        for at, row in enumerate(batch.rows[line].tolist()):
            if row >= 0:
                assert said.tokens[line, at] == torch.tensor(values[row])
        assert said.rerank[line] == torch.tensor(max(values))


def test_alpha_and_beta_weigh_the_prior(random_model, blocks):
    model = random_model("bert", residual=True)
    batch = collate(blocks("bert")[:1], 0, [[0.5, -2.0]])
    before = model(batch)
    with torch.no_grad():
        model.alpha.fill_(3.0)
        model.beta.fill_(-1.0)
    after = model(batch)
    torch.testing.assert_close(after.tokens - before.tokens, 2.0 * batch.prior)
    torch.testing.assert_close(after.rerank - before.rerank, -2.0 * batch.passage_prior)


def test_a_prior_goes_with_a_residual_model_only(random_model, blocks):
    found = blocks("bert")[:1]
    with pytest.raises(ValueError, match="batch must have a prior for this model"):
        random_model("bert", residual=True)(collate(found, 0))
    with pytest.raises(ValueError, match="batch must have no prior for this model"):
        random_model("bert")(collate(found, 0, [[0.0, 0.0]]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["autocast", "trunk"])
def test_bfloat16_gives_float32_logits_near_those_of_float32(random_model, blocks, family, how):
    model = random_model(family)
    batch = collate(blocks(family), 0)
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        if how == "trunk":
            model.trunk.to(torch.bfloat16)
        said = model(batch)
    assert said.tokens.dtype == said.rerank.dtype == torch.float32
    scale = exact.tokens[batch.mask].std()
    assert (said.tokens - exact.tokens)[batch.mask].abs().max() < 0.25 * scale
    assert not torch.equal(said.tokens, exact.tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_losses_reach_heads_and_trunk(random_model, blocks, family):
    model = random_model(family, residual=True)
    said = model(collate(blocks(family), 0, [[0.1] * 2, [0.2], [0.3] * 4]))
    said.tokens.sum().backward(retain_graph=True)
    assert all(p.grad is not None for p in (*model.token_head.parameters(), model.alpha))
    assert model.rerank_head.classifier.weight.grad is None
    said.rerank.sum().backward()
    assert all(p.grad is not None for p in (*model.rerank_head.parameters(), model.beta))
    assert any(p.grad is not None and p.grad.any() for p in model.trunk.parameters())


def test_trainable_parameters_are_those_not_frozen(random_model):
    model = random_model("bert", residual=True)
    model.trunk.requires_grad_(requires_grad=False)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert names == {
        *("alpha", "beta", "token_head.weight", "token_head.bias"),
        *("rerank_head.classifier.weight", "rerank_head.classifier.bias"),
    }
    assert {id(p) for p in model.trainable_parameters()} == {
        id(p) for p in model.parameters() if p.requires_grad
    }


@pytest.mark.parametrize("activation", ["gelu", "tanh"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_rerank_head_matches_the_definition(activation, pooling):
    torch.manual_seed(0)
    head = RerankHead(4, labels=2, activation=activation, norm=nn.LayerNorm(4), pooling=pooling)
    nn.init.normal_(head.classifier.weight)
    head = head.double()
    hidden = torch.randn(2, 3, 4, dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    for line, count in enumerate((2, 3)):
        state = hidden[line, 0] if pooling == "first" else hidden[line, :count].mean(0)
        state = head.dense.weight @ state + head.dense.bias
        erf = torch.erf(state / 2**0.5)
        state = state * (1 + erf) / 2 if activation == "gelu" else state.tanh()
        state = (state - state.mean()) / (state.var(unbiased=False) + 1e-5).sqrt()
        score = head.classifier.weight[0] @ state + head.classifier.bias[0]
        torch.testing.assert_close(head(hidden, mask)[line], score)


def test_a_token_head_of_three_labels_is_refused(trunk):
    with pytest.raises(ValueError, match="token_head must have 1 or 2 labels, got 3"):
        ProvenceModel(trunk("bert"), token_head=nn.Linear(16, 3))


def test_collate_pads_at_the_end(blocks):
    found = blocks("bert")
    batch = collate(found, 7, [[1.0, -2.0], [3.0], [0.0] * 4])
    longest = max(map(len, found))
    assert batch.ids.shape == batch.mask.shape == batch.types.shape == (3, longest)
    for line, block in enumerate(found):
        rest = longest - len(block)
        assert batch.ids[line].tolist() == [*block.ids, *[7] * rest]
        assert batch.rows[line].tolist() == [*block.rows, *[-1] * rest]
        assert batch.mask[line].tolist() == [True] * len(block) + [False] * rest
    assert batch.passage_prior.tolist() == [1.0, 3.0, 0.0]
    by_row = {-1: 0.0, 0: 1.0, 1: -2.0}
    assert batch.prior[0].tolist() == [by_row[row] for row in batch.rows[0].tolist()]


def test_collate_refuses_no_block_and_priors_that_do_not_fit(blocks):
    with pytest.raises(ValueError, match="blocks must be at least one, got none"):
        collate([], 0)
    with pytest.raises(ValueError, match="priors must be one a block, got 1 for 3"):
        collate(blocks("bert"), 0, [[1.0]])
