"""Logistic regression: few rows and many agree, the optimum's conditions, one label for all."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from rag.routing.calibration import probabilities
from rag.routing.training.logistic import fitted_linear


def drawn(n, features, labels=3):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, features)) / np.sqrt(features)
    wanted = np.eye(labels)[np.arange(n) % labels]
    return rows, wanted


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("n", "features"), [(30, 8), (30, 200)])
def test_the_penalised_loss_is_at_its_least(n, features, sparse):
    """Its gradient is zero: strength times (probability - truth) against the weights."""
    rows, wanted = drawn(n, features)
    found = fitted_linear(csr_array(rows) if sparse else rows, wanted, strength=2.0)
    error = probabilities(rows @ found.weight + found.bias) - wanted
    np.testing.assert_allclose(2.0 * rows.T @ error + found.weight, 0.0, atol=2e-3)
    np.testing.assert_allclose(error.sum(axis=0), 0.0, atol=2e-3)


@pytest.mark.parametrize("features", [8, 200])
def test_independent_labels_are_fitted_each_on_its_own(features):
    rows, wanted = drawn(30, features)
    wanted[:10] = [1, 1, 0]
    found = fitted_linear(rows, wanted, strength=2.0, independent=True)
    error = probabilities(rows @ found.weight + found.bias, independent=True) - wanted
    np.testing.assert_allclose(2.0 * rows.T @ error + found.weight, 0.0, atol=2e-3)


def test_two_labels_are_told_apart():
    rows, wanted = drawn(20, 4, labels=2)
    found = fitted_linear(rows, wanted, strength=2.0)
    assert found.weight.shape == (4, 2)
    error = probabilities(rows @ found.weight + found.bias) - wanted
    np.testing.assert_allclose(error.sum(axis=0), 0.0, atol=2e-3)


def test_equal_rows_are_no_trouble():
    found = fitted_linear(np.ones((6, 40)), np.eye(2)[[0, 1, 0, 1, 0, 1]])
    assert np.isfinite(found.weight).all()


def test_a_label_that_all_have_is_nearly_certain():
    found = fitted_linear(np.eye(4), np.ones((4, 1)), independent=True)
    assert found.bias.tolist() == pytest.approx([np.log(5)])
    assert not found.weight.any()
