"""Learning rate: up, then down to zero."""

import math

import pytest

from rag.training.rate_schedule import rate_share


def test_a_hand_worked_case():
    shares = [rate_share(step, 10, warmup=0.2, decay="linear") for step in range(10)]
    assert shares == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_the_cosine_read_literally():
    for step in range(20):
        wanted = (1 + math.cos(math.pi * step / 20)) / 2
        assert rate_share(step, 20, warmup=0.0) == pytest.approx(wanted)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_is_positive_at_most_one_and_falls_after_the_warm_up(decay):
    shares = [rate_share(step, 100, decay=decay) for step in range(100)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:6] == sorted(shares[:6])
    assert shares[6:] == sorted(shares[6:], reverse=True)
    assert rate_share(0, 1) == 1


def test_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match=r"step must be in \[0, steps\), got 5 of 5"):
        rate_share(5, 5)
    with pytest.raises(ValueError, match=r"warmup must be in \[0, 1\), got 1.0"):
        rate_share(0, 5, warmup=1.0)
    with pytest.raises(ValueError, match="decay must be one of"):
        rate_share(0, 5, decay="steps")
