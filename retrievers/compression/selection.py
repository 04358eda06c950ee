"""Selection: from vectors and relevance to a compact set of rows and the reasons for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from retrievers.compression.budget import within_budget
from retrievers.compression.checking import (
    checked_costs,
    checked_first,
    checked_groups,
    checked_row,
    checked_vectors,
)
from retrievers.compression.chosen import Chosen, diversity_term
from retrievers.compression.coverage import Coverage
from retrievers.compression.greedy import block, lazy, plain, stochastic
from retrievers.compression.objective import Greedy, Objective

GreedyChoice = Literal["auto", "plain", "lazy", "block", "stochastic"]

_SMALL, _LARGE = 500, 5_000


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compact set of rows, and what each was taken for.

    Attributes:
        rows: in the order in which they were taken, those that were forced first.
        gains: what each added to the objective; sums of the three that follow.
        relevance: what each added by relevance, coefficient included.
        coverage: what each added by coverage, coefficient included.
        diversity: what each added by diversity, coefficient included.
        objective: F of the set, the sum of `gains`.
        coverage_ratio: C of the set over C of the whole pool, in [0, 1]; 1 if the latter is 0.
        greedy: how the rows were chosen.
        guarantee: how close to the best set that is sure to come, in a sentence.
    """

    rows: tuple[int, ...] = ()
    gains: tuple[float, ...] = ()
    relevance: tuple[float, ...] = ()
    coverage: tuple[float, ...] = ()
    diversity: tuple[float, ...] = ()
    objective: float = 0.0
    coverage_ratio: float = 1.0
    greedy: Greedy = "plain"
    guarantee: str = "the best set: there was nothing to choose from."


def compress(
    vectors: np.ndarray,
    relevance: np.ndarray,
    *,
    k: int | None = None,
    objective: Objective,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    costs: np.ndarray | None = None,
    budget: float | None = None,
    greedy: GreedyChoice = "auto",
    seed: int = 0,
    epsilon: float = 0.1,
    first: Sequence[int] = (),
) -> Compressed:
    """Choose rows greedily so that the objective of the set is large.

    All arithmetic is float64, whatever the dtype of the arguments: a float32 product of all pairs
    would save about a fifth of the time at 20 of 1,000 rows, and round the objective. Equal rows
    tie exactly, and ties go to the lower row. `plain`, `lazy` and `block` choose the same rows.
    Fewer than k rows come back where there are no more, none fits the budget, or each would lower
    the objective.

    `auto` is plain greedy for up to 500 rows, without coverage, or with dispersion; else block, and
    stochastic from 5,000 rows on unless there is a budget. `lazy` looks at the fewest rows, but one
    at a time, which costs more than `block` at these sizes.

    Args:
        vectors: (n, dim), any norms; one of length 0 has similarity 0 with all. n may be 0.
        relevance: r, (n,), at least 0.
        k: most rows, at least 1, `first` included; None for no limit but the budget.
        objective: what a set is worth.
        weights: w, (n,), at least 0: how much it counts that a row is covered; None takes r.
        groups: integer label of each row, (n,); needed for the kind `groups` only.
        costs: of each row, (n,), above 0; with `budget` only.
        budget: the most that all rows may cost together; above 0.
        greedy: how rows are chosen.
        seed: of the stochastic greedy, at least 0.
        epsilon: of the stochastic greedy, in (0, 1); the lower, the better and slower.
        first: distinct rows that are in the set already, in order.

    Raises:
        ValueError: if an argument is not as said, neither k nor budget is given, costs and budget
            do not come together, lazy or block is asked for with dispersion, stochastic with a
            budget, or `first` exceeds k or the budget.
    """
    vectors = checked_vectors(vectors)
    count = len(vectors)
    relevance = checked_row("relevance", relevance, count)
    weights = relevance if weights is None else checked_row("weights", weights, count)
    if groups is not None:
        groups = checked_groups(groups, count)
    first = checked_first(first, count, k)
    if k is None and budget is None:
        raise ValueError("k must be given where budget is not, got None for both")
    if (costs is None) != (budget is None):
        raise ValueError("costs and budget must come together, got one of them")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if not 0.0 < epsilon < 1.0:
        raise ValueError(f"epsilon must be in (0, 1), got {epsilon}")
    check_greedy(greedy, objective, budgeted=budget is not None)
    way = _way(greedy, objective, count, budgeted=budget is not None)
    coverage = Coverage(vectors, weights)
    chosen = Chosen(
        objective, relevance, coverage, diversity_term(objective, vectors, relevance, groups)
    )
    chosen.restart(first)
    picks = (count if k is None else min(k, count)) - len(first)
    capped = False
    if costs is None or budget is None:
        if way == "stochastic":
            stochastic(chosen, picks, np.random.default_rng(seed), epsilon)
        else:
            _EXACT[way](chosen, picks)
    else:
        costs = checked_costs(costs, count)
        if not 0.0 < budget < np.inf:
            raise ValueError(f"budget must be finite and above 0, got {budget}")
        capped = within_budget(chosen, first, costs, budget, picks, _EXACT[way])
    sure = objective.guarantee(
        way, budget is not None, epsilon=epsilon, forced=bool(first), capped=capped
    )
    return _result(chosen, coverage, way, sure)


_EXACT = {"plain": plain, "lazy": lazy, "block": block}


def _result(chosen: Chosen, coverage: Coverage, way: Greedy, guarantee: str) -> Compressed:
    relevance, covered, diverse = zip(*chosen.parts, strict=True) if chosen.parts else ((), (), ())
    gains = tuple(map(sum, chosen.parts))
    whole = coverage.whole
    return Compressed(
        rows=tuple(chosen.rows),
        gains=gains,
        relevance=relevance,
        coverage=covered,
        diversity=diverse,
        objective=chosen.value,
        coverage_ratio=min(1.0, coverage.value(chosen.rows) / whole) if whole > 0.0 else 1.0,
        greedy=way,
        guarantee=guarantee,
    )


def check_greedy(greedy: GreedyChoice, objective: Objective, *, budgeted: bool) -> None:
    """Raise ValueError if an objective or a budget does not allow a way to choose."""
    if greedy not in get_args(GreedyChoice):
        raise ValueError(f"greedy must be one of {get_args(GreedyChoice)}, got {greedy!r}")
    if greedy in ("lazy", "block") and not objective.submodular:
        raise ValueError(
            "greedy must be plain, stochastic or auto for dispersion, which is not submodular, got "
            f"{greedy!r}"
        )
    if greedy == "stochastic" and budgeted:
        raise ValueError(
            "greedy must be plain, lazy, block or auto with a budget, as a sample's size follows "
            f"from the number of rows, got {greedy!r}"
        )


def _way(greedy: GreedyChoice, objective: Objective, count: int, *, budgeted: bool) -> Greedy:
    """Return how rows are chosen where that goes by the size of the pool."""
    if greedy != "auto":
        return greedy
    if count <= _SMALL or not objective.submodular or not objective.coverage:
        return "plain"
    return "block" if count < _LARGE or budgeted else "stochastic"
