"""Term weights: the BM25 family over counts, and learned impacts as they are."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

Variant = Literal["okapi", "robertson", "lucene", "atire", "l", "plus"]
_DELTAS = {"l": 0.5, "plus": 1.0}


class Weighting(Protocol):
    """How much a term in a passage is worth; the product of an idf and a weight in the passage."""

    @property
    def over(self) -> Literal["counts", "any"]:
        """What stored values it makes sense of: counts only, or impacts as well."""

    def idf(self, found: int, passages: int, frequencies: Callable[[], np.ndarray]) -> float:
        """Return the weight of a term in the corpus.

        Args:
            found: passages that hold the term, at least 1.
            passages: passages in all.
            frequencies: gives `found` of every term of the corpus, int64 (terms,), any order.
        """

    def norms(self, lengths: np.ndarray, mean_length: float) -> np.ndarray:
        """Return what a passage's length does to its weights, float64 (n,)."""

    def inside(self, values: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Return the weights of a term in passages that hold it, float64 (n,)."""


@dataclass(frozen=True, slots=True)
class BM25:
    """The BM25 family: `idf(t) * w(f)` for a term t that a passage holds f times, else 0.

    With n of N passages holding t, `B = k1 * (1 - b + b * length / mean length)` and
    `c = f / (1 - b + b * length / mean length)`:

    | variant     | idf                                        | w(f)                           |
    | ----------- | ------------------------------------------ | ------------------------------ |
    | `okapi`     | ln(N - n + .5) - ln(n + .5), negative ones | f (k1 + 1) / (f + B)           |
    |             | replaced by epsilon * the vocabulary's mean |                               |
    | `robertson` | ln(max(1, (N - n + .5) / (n + .5)))        | f / (f + B)                    |
    | `lucene`    | ln(1 + (N - n + .5) / (n + .5))            | f / (f + B)                    |
    | `atire`     | ln(N / n)                                  | f (k1 + 1) / (f + B)           |
    | `l`         | ln((N + 1) / (n + .5))                     | (k1 + 1)(c + d) / (k1 + c + d) |
    | `plus`      | ln((N + 1) / n)                            | f (k1 + 1) / (f + B) + d       |

    The mean of `okapi` counts negative idfs too, so it can be negative itself in a tiny corpus, and
    matching passages then score below 0. `l` and `plus` give d to passages that hold the term, as
    their papers do; rank-bm25 and bm25s add it to every passage, which cancels its effect.

    Sources: Robertson and Zaragoza 2009, doi:10.1561/1500000019; Trotman et al. 2014,
    doi:10.1145/2682862.2682863; Lv and Zhai 2011, doi:10.1145/2009916.2010070 (`l`) and
    doi:10.1145/2063576.2063584 (`plus`). Default k1 and b are Anserini's.

    Attributes:
        variant: which formula.
        k1: how slowly repetition saturates, at least 0.
        b: how far length counts, in [0, 1].
        delta: d, at least 0; None means 0.5 for `l` and 1 for `plus`. Others ignore it.
        epsilon: share of the mean idf that negative ones become in `okapi`; others ignore it.
    """

    variant: Variant = "lucene"
    k1: float = 0.9
    b: float = 0.4
    delta: float | None = None
    epsilon: float = 0.25

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {get_args(Variant)}, got {self.variant!r}")
        if not 0.0 <= self.b <= 1.0:
            raise ValueError(f"b must be in [0, 1], got {self.b}")
        for name, value in (("k1", self.k1), ("delta", self.delta), ("epsilon", self.epsilon)):
            if value is None and name == "delta":
                continue
            if value is None or not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")

    @property
    def over(self) -> Literal["counts", "any"]:
        """It weighs counts only."""
        return "counts"

    def idf(self, found: int, passages: int, frequencies: Callable[[], np.ndarray]) -> float:
        """Return the weight of a term; see `Weighting.idf`."""
        absent = passages - found + 0.5
        match self.variant:
            case "okapi":
                idf = math.log(absent) - math.log(found + 0.5)
                return idf if idf >= 0.0 else self.epsilon * _mean_idf(passages, frequencies())
            case "robertson":
                return math.log(max(1.0, absent / (found + 0.5)))
            case "lucene":
                return math.log(1.0 + absent / (found + 0.5))
            case "atire":
                return math.log(passages / found)
            case "l":
                return math.log((passages + 1) / (found + 0.5))
            case "plus":
                return math.log((passages + 1) / found)

    def norms(self, lengths: np.ndarray, mean_length: float) -> np.ndarray:
        """Return B of each passage, for `l` without its factor k1: float64 (n,)."""
        scale = 1.0 if self.variant == "l" else self.k1
        norms: np.ndarray = scale * (
            1.0 - self.b + self.b * lengths.astype(np.float64) / mean_length
        )
        return norms

    def inside(self, values: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Return w(f) of passages that hold a term f times, float64 (n,)."""
        counts = values.astype(np.float64)
        weights: np.ndarray
        if self.variant == "l":
            shifted = counts / norms + self._delta
            weights = (self.k1 + 1.0) * shifted / (self.k1 + shifted)
        elif self.variant in ("robertson", "lucene"):
            weights = counts / (counts + norms)
        else:
            weights = (self.k1 + 1.0) * (counts / (counts + norms)) + self._delta
        return weights

    @property
    def _delta(self) -> float:
        if self.variant not in _DELTAS:
            return 0.0
        return _DELTAS[self.variant] if self.delta is None else self.delta


@dataclass(frozen=True, slots=True)
class Impact:
    """Stored values as they are: a passage's score is the dot product with the query's weights.

    For uniCOIL and SPLADE, whose models learn both sides.
    """

    @property
    def over(self) -> Literal["counts", "any"]:
        """It weighs impacts and counts alike."""
        return "any"

    def idf(
        self,
        found: int,  # noqa: ARG002 (the protocol's arguments)
        passages: int,  # noqa: ARG002
        frequencies: Callable[[], np.ndarray],  # noqa: ARG002
    ) -> float:
        """Return 1: the model has weighed the term already."""
        return 1.0

    def norms(self, lengths: np.ndarray, mean_length: float) -> np.ndarray:  # noqa: ARG002
        """Return zeros: length does not count."""
        return np.zeros(len(lengths))

    def inside(self, values: np.ndarray, norms: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Return the values themselves, float64 (n,)."""
        return values.astype(np.float64)


def weighting_to_json(weighting: Weighting) -> dict[str, Any]:
    """Return a weighting as a record that `weighting_from_json` reads.

    Raises:
        ValueError: for a weighting of another class, which no record can describe.
    """
    if type(weighting) is BM25:
        return {"name": "bm25", **asdict(weighting)}
    if type(weighting) is Impact:
        return {"name": "impact"}
    raise ValueError(f"weighting must be BM25 or Impact to be saved, got {weighting!r}")


def weighting_from_json(about: Mapping[str, Any]) -> Weighting:
    """Return the weighting that a record describes.

    Raises:
        ValueError: if there is none of that name, or a parameter is out of range.
        TypeError: for unknown parameters.
    """
    parameters = {key: value for key, value in about.items() if key != "name"}
    if about.get("name") == "bm25":
        return BM25(**parameters)
    if about.get("name") == "impact":
        return Impact(**parameters)
    raise ValueError(f"weighting must be bm25 or impact, got {about.get('name')!r}")


def _mean_idf(passages: int, frequencies: np.ndarray) -> float:
    """Return the mean of okapi's raw idf over a vocabulary, the same whatever the terms' order."""
    found, terms = np.unique(frequencies, return_counts=True)
    raw = (math.log(passages - n + 0.5) - math.log(n + 0.5) for n in found.tolist())
    return math.fsum(idf * of for idf, of in zip(raw, terms.tolist(), strict=True)) / int(
        terms.sum()
    )
