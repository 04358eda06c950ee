"""A budget of tokens: the most worth for the tokens, or the best single passage."""

from collections.abc import Callable, Sequence

import numpy as np

from retrievers.compression.chosen import Chosen
from retrievers.compression.greedy import Candidates


class Affordable:
    """Candidates by worth a token; what no longer fits the budget is closed.

    What is left of the budget only shrinks, so what does not fit once never fits again.

    Attributes:
        open: bool (n,), what fits and was not taken.
    """

    def __init__(self, chosen: Chosen, costs: np.ndarray, left: float) -> None:
        """Close what does not fit.

        Args:
            chosen: what was taken; it grows with each take.
            costs: of each row, (n,), above 0.
            left: what may still be spent.
        """
        self._chosen = chosen
        self._costs = costs
        self._left = left
        self._close()

    @property
    def open(self) -> np.ndarray:
        """Which rows may still be taken, bool (n,)."""
        return self._chosen.open

    def worth(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row is worth for a unit of its cost, float64 (m,)."""
        ratios: np.ndarray = self._chosen.worth(rows) / self._costs[rows]
        return ratios

    def take(self, row: int) -> None:
        """Take a row, pay for it, and close what no longer fits."""
        self._chosen.take(row)
        self._left -= float(self._costs[row])
        self._close()

    def _close(self) -> None:
        np.logical_and(self._chosen.open, self._costs <= self._left, out=self._chosen.open)


def within_budget(
    chosen: Chosen,
    first: Sequence[int],
    costs: np.ndarray,
    budget: float,
    picks: int,
    greedy: Callable[[Candidates, int], None],
) -> bool:
    """Take rows whose costs stay within a budget; return whether `picks` ended the choice.

    Greedy takes the row with the largest gain for its cost and passes over what does not fit. Where
    one single row that fits would be worth more than all of them, that row is taken instead; at
    equal worth, greedy's. For a monotone submodular objective this is at least (1 - 1/e)/2 of the
    best set, unless `picks` ended it. Source: Khuller, Moss and Naor 1999,
    doi:10.1016/S0020-0190(99)00031-9; Tang et al. 2021, arXiv:2008.05391, show 0.405, and that the
    1 - 1/sqrt(e) often quoted from the former was not proved.

    Args:
        chosen: holds `first` and nothing else.
        first: rows that are in the set already.
        costs: of each row, (n,), above 0.
        budget: the most that all rows, `first` included, may cost together.
        picks: the most rows beside `first`.
        greedy: `plain`, or `lazy` or `block` for a submodular objective.

    Raises:
        ValueError: if `first` alone exceeds the budget.
    """
    left = budget - float(costs[list(first)].sum())
    if left < 0.0:
        raise ValueError(
            f"budget must hold the rows of first, which cost {budget - left:g}, got {budget:g}"
        )
    affordable = Affordable(chosen, costs, left)
    fits = np.flatnonzero(chosen.open)
    if not picks or not len(fits):
        return bool(len(fits))
    alone = chosen.gains(fits)
    single, value = int(fits[alone.argmax()]), chosen.value + float(alone.max())
    greedy(affordable, picks)
    capped = len(chosen.rows) - len(first) == picks and bool(chosen.open.any())
    if value > chosen.value:
        chosen.restart([*first, single])
    return capped
