"""Filters of a distribution: by hand, by their definitions, and as transformers computes them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rag.generation.decoding import Sampling
from rag.generation.sampling import keep_min_p, keep_top_k, keep_top_p, largest

DTYPES = (torch.float32, torch.float64)


def logits_of(probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def kept(logits):
    return logits.isfinite().nonzero()[:, 0].tolist()


def random_logits(size, seed, dtype=torch.float64, levels=None):
    """Random logits; with few levels many of them tie."""
    rng = torch.Generator().manual_seed(seed)
    if levels is not None:
        return torch.randint(levels, (size,), generator=rng).to(dtype)
    return 3 * torch.randn(size, generator=rng, dtype=dtype)


def nucleus_by_definition(logits, p):
    """Add tokens, most probable first and lower ids before higher, until p is reached."""
    weights = logits.double().softmax(-1).tolist()
    chosen, mass = [], 0.0
    for token in sorted(range(len(weights)), key=lambda row: (-weights[row], row)):
        chosen.append(token)
        mass += weights[token]
        if mass >= p:
            break
    return sorted(chosen)


def stock(logits, *warpers):
    row = logits[None]
    for warper in warpers:
        row = warper(None, row)
    return row[0]


def same_kept_values(ours, theirs):
    """Whether as many tokens of the same logits are kept: which ones of a tie may differ."""
    return torch.equal(ours[ours.isfinite()].sort().values, theirs[theirs.isfinite()].sort().values)


def test_a_hand_worked_distribution_through_each_filter():
    logits = logits_of([0.1, 0.4, 0.05, 0.25, 0.2])
    assert kept(keep_top_k(logits, 2)) == [1, 3]
    assert kept(keep_top_p(logits, 0.6)) == [1, 3]
    assert kept(keep_top_p(logits, 0.66)) == [1, 3, 4]
    assert kept(keep_min_p(logits, 0.3)) == [1, 3, 4]
    assert kept(keep_min_p(logits, 0.51)) == [1, 3]


def test_a_token_at_the_very_border_is_out_of_the_nucleus_and_within_min_p():
    half = torch.zeros(2)  # the softmax is exactly 0.5 twice
    assert kept(keep_top_p(half, 0.5)) == [0]
    assert kept(keep_top_p(half, 0.500001)) == [0, 1]
    logits = torch.tensor([0.0, -1.0, -5.0], dtype=torch.float64)
    weights = logits.softmax(-1)
    ratio = float(weights[1] / weights[0])
    assert ratio * float(weights[0]) == float(weights[1])
    assert kept(keep_min_p(logits, ratio)) == [0, 1]
    assert kept(keep_min_p(logits, ratio * 1.000001)) == [0]


def test_each_filter_sees_what_the_one_before_left():
    # Of top-k's three, 0.4 / 0.85 is below 0.5, so two make the nucleus; of all five three would.
    logits = logits_of([0.1, 0.4, 0.05, 0.25, 0.2])
    both = Sampling(temperature=1.0, top_k=3, top_p=0.7).filtered(logits)
    assert kept(both) == [1, 3]
    assert kept(Sampling(temperature=1.0, top_p=0.7).filtered(logits)) == [1, 3, 4]


def test_the_temperature_comes_before_the_filters():
    logits = logits_of([0.7, 0.2, 0.1])
    assert kept(Sampling(temperature=1.0, top_p=0.65).filtered(logits)) == [0]
    assert kept(Sampling(temperature=3.0, top_p=0.65).filtered(logits)) == [0, 1]
    assert kept(Sampling(temperature=1.0, min_p=0.5).filtered(logits)) == [0]
    assert kept(Sampling(temperature=3.0, min_p=0.5).filtered(logits)) == [0, 1, 2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("seed", range(10))
def test_every_filter_keeps_what_transformers_keeps(dtype, levels, seed):
    logits = random_logits(60, seed, dtype, levels)
    for k in (1, 5, 59, 60, 200):
        assert torch.equal(keep_top_k(logits, k), stock(logits, TopKLogitsWarper(k)))
    for p in (1e-9, 0.3, 0.5, 0.9, 0.999):
        found, theirs = keep_top_p(logits, p), stock(logits, TopPLogitsWarper(p))
        assert torch.equal(found, theirs) if levels is None else same_kept_values(found, theirs)
    for p in (1e-9, 0.05, 0.5, 0.999):
        assert torch.equal(keep_min_p(logits, p), stock(logits, MinPLogitsWarper(p)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(20))
def test_all_together_give_the_distribution_of_transformers(dtype, seed):
    sampling = Sampling(temperature=0.7, top_k=40, top_p=0.9, min_p=0.02)
    logits = random_logits(300, seed, dtype) / 3
    theirs = stock(
        logits,
        TemperatureLogitsWarper(0.7),
        TopKLogitsWarper(40),
        TopPLogitsWarper(0.9),
        MinPLogitsWarper(0.02),
    )
    ours = sampling.filtered(logits).softmax(-1)
    error = 1e-6 if dtype == torch.float32 else 1e-14
    assert 1 < len(kept(theirs)) < 40
    assert (ours - theirs.softmax(-1)).abs().max() < error


@given(
    size=st.integers(1, 30),
    seed=st.integers(0, 99),
    p=st.floats(1e-6, 0.999),
    levels=st.sampled_from([None, 3]),
)
def test_the_nucleus_is_the_smallest_set_that_reaches_p(size, seed, p, levels):
    logits = random_logits(size, seed, levels=levels)
    weights = logits.softmax(-1)
    found = kept(keep_top_p(logits, p))
    expected = nucleus_by_definition(logits, p)
    # At the very border rounding decides; elsewhere the sets are the same.
    mass = float(weights[expected].sum())
    border = min(abs(mass - p), abs(mass - float(weights[expected].min()) - p))
    assert found == expected or border < 1e-12


@given(size=st.integers(1, 30), seed=st.integers(0, 99), k=st.integers(1, 40))
def test_a_wider_filter_only_adds_and_the_best_token_always_stays(size, seed, k):
    logits = random_logits(size, seed)
    best = int(logits.argmax())
    for narrow, wide in (
        (keep_top_k(logits, k), keep_top_k(logits, k + 1)),
        (keep_top_p(logits, 0.3), keep_top_p(logits, 0.8)),
        (keep_min_p(logits, 0.8), keep_min_p(logits, 0.3)),
    ):
        assert best in kept(narrow)
        assert set(kept(narrow)) <= set(kept(wide))
        assert torch.equal(wide[kept(wide)], logits[kept(wide)])


def test_of_a_tie_top_k_keeps_all_and_top_p_the_lower_ids():
    logits = torch.zeros(6)
    assert kept(keep_top_k(logits, 2)) == [0, 1, 2, 3, 4, 5]
    assert kept(keep_top_p(logits, 0.4)) == [0, 1, 2]
    assert kept(keep_min_p(logits, 0.99)) == [0, 1, 2, 3, 4, 5]


def test_a_token_that_is_forbidden_stays_so():
    logits = torch.tensor([0.0, -torch.inf, 1.0, -torch.inf])
    for found in (keep_top_k(logits, 3), keep_top_p(logits, 0.9999), keep_min_p(logits, 1e-3)):
        assert kept(found) == [0, 2]


@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    count=st.integers(1, 25),
)
def test_the_largest_values_come_first_and_ties_by_their_row(values, count):
    expected = sorted(range(len(values)), key=lambda row: (-values[row], row))[:count]
    assert largest(torch.tensor(values).float(), count).tolist() == expected


def test_the_largest_of_many_ties_are_the_first():
    values = torch.zeros(70_000)
    values[[69_000, 5, 123]] = 1.0
    assert largest(values, 5).tolist() == [5, 123, 69_000, 0, 1]
