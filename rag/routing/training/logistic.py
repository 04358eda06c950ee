"""Logistic regression with an L2 penalty, by scikit-learn, over few rows of many features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag.routing.heads import Linear

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_LARGEST = 4096  # rows whose Gram matrix is made: 128 MiB
_JITTER = 1e-6  # added to its diagonal, as equal rows make it singular
_ITERATIONS = 200
_TOLERANCE = 1e-5  # of the gradient of the mean loss


def fitted_linear(
    features: csr_array | np.ndarray,
    wanted: np.ndarray,
    *,
    strength: float = 10.0,
    independent: bool = False,
) -> Linear:
    """Return the map that is the most likely to give the wanted labels, under the penalty.

    The weights that solve it are sums of rows of the features, so for fewer rows than features the
    problem is solved in as many dimensions as there are rows: Z = chol(X Xᵀ) takes the place of X,
    with the same products of rows and the same penalty, and weights v over Z are Xᵀ Z⁻ᵀ v over X.
    Source: the representer theorem, Schölkopf et al. 2001, doi:10.1007/3-540-44581-1_27.

    Args:
        features: (n, features), sparse or dense.
        wanted: 1 for the labels of a row, else 0, (n, labels). Without `independent` a row has one.
        strength: inverse of the penalty, above 0: 10 suits unit vectors.
        independent: whether a row may have several labels: one regression a label.
    """
    rows, columns = features.shape
    if rows >= columns or rows > _LARGEST:
        return _fitted(features, wanted, strength, independent=independent)
    from scipy.linalg import solve_triangular

    product = features @ features.T
    gram = np.asarray(product.todense() if hasattr(product, "todense") else product, np.float64)
    root = np.linalg.cholesky(gram + _JITTER * np.eye(rows))
    inner = _fitted(root, wanted, strength, independent=independent)
    spread = solve_triangular(root, inner.weight.astype(np.float64), trans="T", lower=True)
    return Linear(np.asarray(features.T @ spread, np.float32), inner.bias)


def _fitted(features: Any, wanted: np.ndarray, strength: float, *, independent: bool) -> Linear:
    if not independent:
        return _solved(features, wanted.argmax(axis=1), strength, wanted.shape[1])
    each = [_solved(features, column.astype(int), strength, 2) for column in wanted.T]
    weight = np.stack([one.weight[:, 1] - one.weight[:, 0] for one in each], axis=1)
    return Linear(weight, np.array([one.bias[1] - one.bias[0] for one in each], np.float32))


def _solved(features: Any, classes: np.ndarray, strength: float, count: int) -> Linear:
    """Return the map to the logits of `count` classes; each must occur, but for a constant one."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    if len(set(classes.tolist())) == 1:
        # Nothing to tell apart: as sure as add-one smoothing of the counts is.
        bias = np.zeros(count, np.float32)
        bias[classes[0]] = np.log(len(classes) + 1.0)
        return Linear(np.zeros((features.shape[1], count), np.float32), bias)
    model = LogisticRegression(
        C=strength, solver="newton-cg", tol=_TOLERANCE, max_iter=_ITERATIONS
    ).fit(features, classes)
    weight, bias = model.coef_.T, model.intercept_
    if count == 2:
        # scikit-learn gives the second class's logit alone
        weight = np.concatenate([np.zeros_like(weight), weight], axis=1)
        bias = np.array([0.0, bias[0]])
    return Linear(weight.astype(np.float32), bias.astype(np.float32))
