"""Calibration: from logits of labels to honest probabilities, by one temperature."""

import numpy as np

LOWEST, HIGHEST = 0.01, 100.0
_STEPS = 60  # of the search; each shortens the range by the golden ratio


def probabilities(
    logits: np.ndarray, temperature: float = 1.0, *, independent: bool = False
) -> np.ndarray:
    """Return probabilities of labels, float64 (n, labels).

    Args:
        logits: (n, labels), finite or minus infinity; not all of a row are the latter.
        temperature: above 0; above 1 makes them more alike, and less sure.
        independent: whether a query may have several labels: a sigmoid each instead of a softmax.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    if independent:
        # exp(min(z, 0)) / (1 + exp(-|z|)) is the sigmoid where nothing overflows
        grown: np.ndarray = np.exp(np.minimum(scaled, 0.0)) / (1.0 + np.exp(-np.abs(scaled)))
        return grown
    grown = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: np.ndarray = grown / grown.sum(axis=1, keepdims=True)
    return shares


def log_loss(
    logits: np.ndarray, wanted: np.ndarray, temperature: float, *, independent: bool = False
) -> float:
    """Return the mean negative log-likelihood of a query's labels, in nats.

    Args:
        logits: (n, labels).
        wanted: 1 for the labels of a query, else 0, (n, labels). Without `independent` each of
            several labels counts in equal parts.
        temperature: above 0.
        independent: as of `probabilities`.
    """
    probs = np.clip(probabilities(logits, temperature, independent=independent), 1e-12, 1.0)
    if independent:
        missed = np.clip(1.0 - probs, 1e-12, 1.0)
        return float(-np.mean(np.sum(np.where(wanted > 0, np.log(probs), np.log(missed)), axis=1)))
    shares = wanted / wanted.sum(axis=1, keepdims=True)
    return float(-np.mean(np.sum(shares * np.log(probs), axis=1)))


def fitted_temperature(
    logits: np.ndarray, wanted: np.ndarray, *, independent: bool = False
) -> float:
    """Return the temperature in [0.01, 100] of the least loss, within a thousandth of itself.

    The search is by golden section over its logarithm. Queries whose labels the logits always find
    would want it ever lower: it ends at the bound.
    Source: Guo et al. 2017, arXiv:1706.04599.

    Args:
        logits: of queries that the router has not learned from, (n, labels); n at least 1.
        wanted: as of `log_loss`.
        independent: as of `probabilities`.

    Raises:
        ValueError: if the shapes differ, there is no row, or a row has no label.
    """
    if logits.shape != wanted.shape or not len(logits):
        raise ValueError(
            f"logits and wanted must be of one shape (n, labels), n at least 1, got "
            f"{logits.shape} and {wanted.shape}"
        )
    if not (wanted.sum(axis=1) > 0).all():
        raise ValueError("wanted must have at least one label a row, got a row of zeros")

    def loss(log_temperature: float) -> float:
        return log_loss(logits, wanted, float(np.exp(log_temperature)), independent=independent)

    ratio = (5**0.5 - 1) / 2
    low, high = float(np.log(LOWEST)), float(np.log(HIGHEST))
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    of_left, of_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - ratio * (high - low)
            of_left = loss(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + ratio * (high - low)
            of_right = loss(right)
    return float(np.exp((low + high) / 2))
