"""Choosing tokens: ties, seeds, temperature, and numbers that are refused."""

import pytest
import torch

from rag.generation.decoding import Sampling


def draws(sampling, logits, count=200):
    rng = sampling.generator()
    return [sampling.choose(logits, rng) for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_greedy_takes_the_lower_id_of_a_tie(dtype):
    logits = torch.tensor([0.5, 2.0, -1.0, 2.0, 2.0], dtype=dtype)
    assert draws(Sampling(), logits, 3) == [1, 1, 1]


def test_greedy_takes_the_lowest_of_many_ties():
    logits = torch.zeros(50_000)
    logits[[123, 40_000, 49_999]] = 1.0
    assert draws(Sampling(), logits, 1) == [123]


def test_a_seed_repeats_its_draws_and_another_gives_others():
    logits = torch.randn(30, generator=torch.Generator().manual_seed(0))
    first = draws(Sampling(temperature=1.0, seed=3), logits)
    assert first == draws(Sampling(temperature=1.0, seed=3), logits)
    assert first != draws(Sampling(temperature=1.0, seed=4), logits)


def test_every_request_starts_the_sampler_anew():
    sampling = Sampling(temperature=1.0, seed=3)
    assert torch.equal(
        torch.rand(4, generator=sampling.generator()), torch.rand(4, generator=sampling.generator())
    )


def test_draws_follow_the_softmax_over_the_temperature():
    logits = torch.tensor([0.0, 1.0, 2.0])
    counts = torch.bincount(torch.tensor(draws(Sampling(temperature=0.5), logits, 4000)))
    assert torch.allclose(counts / 4000, torch.softmax(logits / 0.5, -1), atol=0.03)


def test_a_temperature_near_zero_is_greedy():
    logits = torch.tensor([0.5, 2.0, 1.9])
    assert set(draws(Sampling(temperature=1e-3), logits)) == {1}


def test_a_token_that_is_forbidden_is_never_drawn():
    logits = torch.tensor([0.0, -torch.inf, 0.0])
    assert set(draws(Sampling(temperature=5.0), logits)) == {0, 2}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_tokens", 0, "max_tokens must be at least 1, got 0"),
        ("temperature", -0.1, "temperature must be at least 0, got -0.1"),
        ("temperature", float("nan"), "temperature must be at least 0, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**{field: value})
