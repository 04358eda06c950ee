"""Calibration: softmax and sigmoid by definition, the temperature that a grid would find."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.routing.calibration import HIGHEST, LOWEST, fitted_temperature, log_loss, probabilities


def drawn(seed, n=200, labels=4, sharpness=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, labels))
    truth = [rng.choice(labels, p=row) for row in probabilities(sharpness * logits)]
    return logits, np.eye(labels)[truth]


def test_probabilities_by_hand():
    np.testing.assert_allclose(probabilities(np.array([[math.log(3), 0.0]])), [[0.75, 0.25]])
    np.testing.assert_allclose(
        probabilities(np.array([[2 * math.log(3), 0.0]]), 2.0, independent=True), [[0.75, 0.5]]
    )


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6), st.floats(0.05, 20))
def test_probabilities_add_up_and_keep_the_order(row, temperature):
    probs = probabilities(np.array([row]), temperature)[0]
    assert probs.sum() == pytest.approx(1.0)
    assert probs[int(np.argmax(row))] == probs.max()
    each = probabilities(np.array([row]), temperature, independent=True)[0]
    assert ((each >= 0) & (each <= 1)).all()


def test_a_label_that_is_ruled_out_has_no_probability():
    assert probabilities(np.array([[0.0, -np.inf]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_the_temperature_is_that_of_the_least_loss(sharpness):
    logits, wanted = drawn(0, sharpness=sharpness)
    found = fitted_temperature(logits, wanted)
    grid = np.exp(np.linspace(math.log(0.05), math.log(20), 4000))
    best = grid[np.argmin([log_loss(logits, wanted, t) for t in grid])]
    assert found == pytest.approx(best, rel=3e-3)


def test_independent_labels_have_a_loss_of_their_own():
    logits, wanted = np.array([[1.0, -2.0]]), np.array([[1.0, 0.0]])
    expected = math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-1.0))
    assert log_loss(logits, wanted, 2.0, independent=True) == pytest.approx(expected)


def test_several_labels_share_the_loss_of_one():
    logits = np.array([[math.log(2), math.log(1), math.log(1)]])
    loss = log_loss(logits, np.array([[1.0, 1.0, 0.0]]), 1.0)
    assert loss == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)


def test_the_search_ends_at_its_bounds():
    right = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert fitted_temperature(right, np.eye(2)) >= LOWEST
    assert fitted_temperature(right, np.eye(2)[::-1]) == pytest.approx(HIGHEST, rel=1e-2)


def test_mistaken_shapes_are_named():
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(3, 2\)"):
        fitted_temperature(np.zeros((2, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="n at least 1"):
        fitted_temperature(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match="got a row of zeros"):
        fitted_temperature(np.zeros((2, 2)), np.array([[1, 0], [0, 0]]))
