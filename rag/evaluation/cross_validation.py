"""Cross-validation: a choice among configurations, and what it is worth on unseen questions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, TypeVar

Config = TypeVar("Config", bound=Hashable)
Score = Callable[[Config], Sequence[float]]
"""A configuration's value for every question, in the questions' order."""


@dataclass(frozen=True)
class Tuned(Generic[Config]):
    """The outcome of a nested cross-validation.

    Attributes:
        chosen: the configuration that all questions together choose.
        held_out: for each question the value of the configuration that the other folds chose, so
            that no question is judged by a choice it took part in.
        of_folds: what each fold's other questions chose, in the folds' order.
    """

    chosen: Config
    held_out: tuple[float, ...]
    of_folds: tuple[Config, ...]


def fold_rows(ids: Sequence[str], folds: int, seed: int = 0) -> list[list[int]]:
    """Return the rows of each fold: every row once, sizes alike within one.

    Ids are ordered by the SHA-256 of `seed:id` and dealt out in turn, so folds depend on nothing
    else.

    Args:
        ids: of the questions, unique.
        folds: at least 2, at most as many as questions.
        seed: of the order.

    Raises:
        ValueError: for too few or too many folds.
    """
    if not 2 <= folds <= len(ids):
        raise ValueError(f"folds must be in [2, {len(ids)}], one question each, got {folds}")
    order = sorted(
        range(len(ids)), key=lambda row: hashlib.sha256(f"{seed}:{ids[row]}".encode()).digest()
    )
    return [sorted(order[fold::folds]) for fold in range(folds)]


def best_of(configs: Sequence[Config], score: Score[Config], rows: Sequence[int]) -> Config:
    """Return the configuration of the highest mean over some questions; the earliest of equals.

    Means that differ by less than 1e-12 are equal.

    Args:
        configs: at least one, the simplest first.
        score: gives a configuration's values.
        rows: questions to judge by, at least one.
    """
    best, highest = configs[0], -float("inf")
    for config in configs:
        values = score(config)
        mean = fmean(values[row] for row in rows)
        if mean > highest + 1e-12:
            best, highest = config, mean
    return best


def staged(
    start: Config,
    stages: Sequence[Callable[[Config], Sequence[Config]]],
    score: Score[Config],
    rows: Sequence[int],
) -> Config:
    """Return what is found by improving one group of settings after another.

    Args:
        start: the configuration that each stage may keep.
        stages: each gives the alternatives to the best configuration so far.
        score: gives a configuration's values.
        rows: questions to judge by.
    """
    for stage in stages:
        start = best_of(tuple(dict.fromkeys([start, *stage(start)])), score, rows)
    return start


def cross_validated(
    ids: Sequence[str],
    choose: Callable[[Sequence[int]], Config],
    score: Score[Config],
    *,
    folds: int = 5,
    seed: int = 0,
) -> Tuned[Config]:
    """Return the choice of all questions, and what choices are worth on questions left out.

    Source: nested cross-validation, Cawley and Talbot 2010, JMLR 11.

    Args:
        ids: of the questions, unique.
        choose: a configuration by some of the questions, given as rows.
        score: a configuration's value for every question.
        folds: how many parts; each is judged by the choice of the others.
        seed: of the parts.

    Raises:
        ValueError: for too few or too many folds.
    """
    parts = fold_rows(ids, folds, seed)
    held_out = [0.0] * len(ids)
    of_folds = []
    for part in parts:
        left_out = set(part)
        config = choose([row for row in range(len(ids)) if row not in left_out])
        of_folds.append(config)
        values = score(config)
        for row in part:
            held_out[row] = values[row]
    return Tuned(choose(range(len(ids))), tuple(held_out), tuple(of_folds))
