"""The worth of a set of passages: relevance, coverage of the pool and diversity, weighed."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["none", "redundancy", "logdet", "groups", "dispersion"]
Greedy = Literal["plain", "lazy", "block", "stochastic"]

_SHARE = 1.0 - 1.0 / math.e


@dataclass(frozen=True, slots=True)
class Objective:
    """F(S) = a * A(S) + c * C(S) + lambda * Div(S), for a set S of a pool V of passages.

    With s(u, v) = max(0, cos(u, v)), relevance r >= 0 and weights w >= 0:

    - relevance A(S) = sum over u in S of r_u: a plain sum;
    - coverage C(S) = sum over v in V of w_v * max over u in S of s(u, v), and C of nothing is 0:
      facility location, monotone and submodular;
    - diversity Div(S), of the kind chosen:
      `none`: 0;
      `redundancy`: minus the sum of s over pairs of S; submodular, not monotone;
      `logdet`: log det(I + L_S), L_uv = sqrt(r_u r_v) cos(u, v); monotone and submodular;
      `groups`: sum over groups of the root of the relevance of S in them; monotone and submodular;
      `dispersion`: sum of metric distances over pairs of S; monotone, not submodular.

    The terms are sums, not means: C grows with the pool and sums over pairs with the square of the
    set, so coefficients that suit one size of pool do not suit another.

    Sources: Nemhauser, Wolsey and Fisher 1978, doi:10.1007/BF01588971, for coverage and 1 - 1/e;
    Lin and Bilmes 2011, aclanthology.org/P11-1052, for groups; Kulesza and Taskar 2012,
    arXiv:1207.6083, for log det; Borodin et al. 2012, arXiv:1203.6397, for dispersion.

    Attributes:
        relevance: a, at least 0.
        coverage: c, at least 0; with 0, no similarity of all pairs is computed.
        diversity: lambda, at least 0.
        kind: what Div is.
    """

    relevance: float = 1.0
    coverage: float = 1.0
    diversity: float = 0.0
    kind: Kind = "none"

    def __post_init__(self) -> None:
        for name in ("relevance", "coverage", "diversity"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        if self.kind == "none" and self.diversity > 0.0:
            raise ValueError(f"diversity must be 0 for the kind 'none', got {self.diversity}")

    @property
    def monotone(self) -> bool:
        """Whether no passage ever lowers F, whatever was taken before."""
        return self.diversity == 0.0 or self.kind != "redundancy"

    @property
    def submodular(self) -> bool:
        """Whether what a passage adds to F never grows as others are taken."""
        return self.diversity == 0.0 or self.kind != "dispersion"

    @property
    def modular(self) -> bool:
        """Whether F is a plain sum over passages, so that top-k is the best set."""
        return self.coverage == 0.0 and self.diversity == 0.0

    def guarantee(
        self,
        greedy: Greedy,
        budgeted: bool,
        *,
        epsilon: float = 0.1,
        forced: bool = False,
        capped: bool = False,
    ) -> str:
        """Return, in one sentence, how close to the best set a greedy choice is sure to come.

        The bounds are those of exact arithmetic.

        Args:
            greedy: how passages are chosen.
            budgeted: whether they are chosen by gain a token within a budget, the best single one
                tried as well.
            epsilon: of the stochastic greedy.
            forced: whether some passages stood in the set before; a bound is then one on what is
                added to them.
            capped: whether, beside a budget, a greatest number of passages ended the choice.
        """
        if not self.monotone:
            return "none: redundancy is not monotone."
        if not self.submodular:
            return _of_dispersion(greedy, budgeted, forced)
        best = "best addition to the forced passages" if forced else "best set"
        if budgeted:
            return _within_a_budget(best, capped)
        if greedy == "stochastic":
            return _in_expectation(best, epsilon)
        if self.modular:
            return f"the {best} of that size: the objective is a sum over passages."
        return f"at least 1 - 1/e = {_SHARE:.3f} of the {best} of that size."


def _of_dispersion(greedy: Greedy, budgeted: bool, forced: bool) -> str:
    if budgeted:
        return "none: dispersion is not submodular, and no bound for a budget is known to us."
    if greedy != "plain":
        return f"none: dispersion is not submodular, and {greedy} greedy needs that."
    if forced:
        return "none: the bound for dispersion starts from the empty set."
    return (
        "at least 1/2 of the best set of that size, for the distance is a metric and each step "
        "weighs half the gain in quality against the whole distance."
    )


def _within_a_budget(best: str, capped: bool) -> str:
    if capped:
        return "none: the number of passages, not only the budget, ended the choice."
    return (
        f"at least (1 - 1/e)/2 = {_SHARE / 2:.3f} of the {best} within the budget, as ratio greedy "
        "or best single passage."
    )


def _in_expectation(best: str, epsilon: float) -> str:
    if epsilon >= _SHARE:
        return f"none: epsilon = {epsilon:g} is not below 1 - 1/e = {_SHARE:.3f}."
    return (
        f"at least 1 - 1/e - {epsilon:g} = {_SHARE - epsilon:.3f} of the {best} of that size, in "
        "expectation."
    )
