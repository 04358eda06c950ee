"""Rounding: from keep-probabilities of tokens to one score of their sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Rounding = Literal["mean", "majority", "same_t"]
LEAST = 1e-6


def sentence_score(fragments: Sequence[np.ndarray], rule: Rounding = "mean") -> float:
    """Return a score s in [1e-6, 1] such that the rule keeps the sentence iff `s > threshold`.

    - `mean`: the mean of the probabilities exceeds the threshold T (OpenProvence's rule).
    - `majority`: more than half of the tokens exceed T (as the XProvence paper, arXiv:2601.18886,
      describes Provence). s is the k-th largest probability, k = floor(n / 2) + 1.
    - `same_t`: more than a share T of the tokens exceeds T (as Provence's own code is reported to
      do). s is the largest min(p, i / n) over the i-th largest p.

    The equivalence is exact for every T in [1e-6, 1]. A sentence in several fragments gets the mean
    of their scores, weighted by tokens. A sentence without tokens gets 1: no text is lost because a
    tokenizer cannot read it.

    Args:
        fragments: probabilities of the sentence's tokens, each of shape (tokens,), in [0, 1].
        rule: how they are rounded.

    Raises:
        ValueError: for an unknown rule.
    """
    if rule not in get_args(Rounding):
        raise ValueError(f"rounding must be one of {get_args(Rounding)}, got {rule!r}")
    parts = [np.asarray(part, np.float64) for part in fragments if len(part)]
    if not parts:
        return 1.0
    scores = np.array([_rounded(part, rule) for part in parts])
    score = _mean(scores, np.array([len(part) for part in parts]))
    return min(max(score, LEAST), 1.0)


def _rounded(probabilities: np.ndarray, rule: Rounding) -> float:
    tokens = len(probabilities)
    if rule == "mean":
        return _mean(probabilities, np.ones(tokens))
    falling = np.sort(probabilities)[::-1]
    if rule == "majority":
        return float(falling[tokens // 2])
    return float(np.minimum(falling, np.arange(1, tokens + 1) / tokens).max())


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    # Taken as a distance from one of them, the mean of equal values is exactly that value: a model
    # that only repeats its prior ranks sentences as the prior does, ties included.
    return float(values[0] + ((values - values[0]) * weights).sum() / weights.sum())
