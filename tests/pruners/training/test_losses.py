"""Losses: by hand, by their definition in float64, and blind to everything but sentences."""

import math

import pytest
import torch

from pruners.training.losses import LossWeights, provence_losses

ROWS = torch.tensor([[-1, 0, 0, 1, -1, 2], [-1, -1, 0, 0, 0, -1]])
GOLD = torch.tensor([[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)


def by_definition(tokens, rerank, rows, gold, keep):
    def ce(p, wanted):
        return -math.log(p if wanted else 1 - p)

    def weighed(pairs):
        return sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)

    token, sentence, passage = [], [], []
    for b in range(len(rows)):
        found = {}
        for t in range(rows.shape[1]):
            row = int(rows[b, t])
            if row < 0:
                continue
            p, wanted = 1 / (1 + math.exp(-float(tokens[b, t]))), bool(gold[b, t])
            token.append((keep if wanted else 1.0, ce(p, wanted)))
            found.setdefault(row, []).append((p, wanted))
        for said in found.values():
            mean = sum(p for p, _ in said) / len(said)
            sentence.append((keep if said[0][1] else 1.0, ce(mean, said[0][1])))
        helps = any(wanted for said in found.values() for _, wanted in said)
        passage.append(ce(1 / (1 + math.exp(-float(rerank[b]))), helps))
    return weighed(token), weighed(sentence), sum(passage) / len(passage)


def test_untrained_logits_cost_the_logarithm_of_two():
    zeros = torch.zeros(2, 6, dtype=torch.float64)
    losses = provence_losses(zeros, torch.zeros(2).double(), ROWS, GOLD, LossWeights())
    for part in (losses.token, losses.sentence, losses.rerank):
        assert float(part) == pytest.approx(math.log(2))
    assert float(losses.total) == pytest.approx(2.1 * math.log(2))


@pytest.mark.parametrize("keep", [1.0, 2.0, 5.0])
def test_matches_the_definition(keep):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    rerank = torch.randn(2, generator=generator, dtype=torch.float64)
    weights = LossWeights(token=0.7, keep=keep, sentence=0.4, rerank=0.3)
    losses = provence_losses(tokens, rerank, ROWS, GOLD, weights)
    token, sentence, passage = by_definition(tokens, rerank, ROWS, GOLD, keep)
    assert float(losses.token) == pytest.approx(token)
    assert float(losses.sentence) == pytest.approx(sentence)
    assert float(losses.rerank) == pytest.approx(passage)
    assert float(losses.total) == pytest.approx(0.7 * token + 0.4 * sentence + 0.3 * passage)


def test_tokens_outside_of_sentences_have_no_gradient():
    tokens = torch.zeros(2, 6, requires_grad=True)
    losses = provence_losses(tokens, torch.zeros(2), ROWS, GOLD, LossWeights())
    losses.total.backward()
    assert (tokens.grad[ROWS < 0] == 0).all()
    assert (tokens.grad[ROWS >= 0] != 0).all()


def test_is_finite_for_a_model_that_is_sure_and_wrong():
    tokens = torch.where(GOLD, -200.0, 200.0).requires_grad_()
    losses = provence_losses(tokens, torch.full((2,), -200.0), ROWS, GOLD, LossWeights())
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert torch.isfinite(tokens.grad).all()


def test_refuses_shapes_and_weights_that_do_not_fit():
    with pytest.raises(ValueError, match=r"rerank \(b,\), got \(2, 6\), .*\(3,\)"):
        provence_losses(torch.zeros(2, 6), torch.zeros(3), ROWS, GOLD, LossWeights())
    with pytest.raises(ValueError, match="keep must be above 0, got 0"):
        LossWeights(keep=0)
    with pytest.raises(ValueError, match="sentence must be at least 0, got -1"):
        LossWeights(sentence=-1)
