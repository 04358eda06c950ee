"""Hashed n-grams of a text: counts of words or characters in a fixed number of buckets."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

Unit = Literal["words", "characters"]
Counted: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""The buckets that a text fills, rising, and how often."""
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")
# Odd constants of the 64-bit finaliser of SplitMix64, Steele et al. 2014, doi:10.1145/2660193.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class HashedNGrams:
    """Counts a text's n-grams by hash, so that no vocabulary is kept and every text has features.

    Texts are normalised (NFKC) and case-folded. Words are runs of letters and digits; characters
    are code points, with runs of white space as one space and one more at either end. A hash
    depends on the n-gram alone, on every machine; n-grams that share a bucket are counted together.

    Attributes:
        unit: what an n-gram is made of.
        low: fewest units of an n-gram, at least 1.
        high: most units, at least `low`.
        buckets: how many features, at least 1.
    """

    unit: Unit
    low: int
    high: int
    buckets: int

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit must be one of {get_args(Unit)}, got {self.unit!r}")
        if not 1 <= self.low <= self.high:
            raise ValueError(
                f"low and high must be 1 or more, low first, got {self.low} and {self.high}"
            )
        if self.buckets < 1:
            raise ValueError(f"buckets must be at least 1, got {self.buckets}")

    def __call__(self, text: str) -> Counted:
        """Return the buckets that a text fills, rising, int64 (m,), and their counts, int64 (m,).

        An empty text fills none.
        """
        normal = unicodedata.normalize("NFKC", text).casefold()
        if self.unit == "words":
            hashes = self._of_words(_WORD.findall(normal))
        else:
            hashes = self._of_characters(_SPACE.sub(" ", normal).strip())
        filled, counts = np.unique(hashes % np.uint64(self.buckets), return_counts=True)
        return filled.astype(np.int64), counts

    def _of_words(self, words: Sequence[str]) -> np.ndarray:
        hashes = [
            zlib.crc32(" ".join(words[start : start + size]).encode("utf-8", "surrogatepass"))
            for size in range(self.low, self.high + 1)
            for start in range(len(words) - size + 1)
        ]
        return np.array(hashes, np.uint64)

    def _of_characters(self, text: str) -> np.ndarray:
        if not text:
            return np.empty(0, np.uint64)
        raw = f" {text} ".encode("utf-32-le", "surrogatepass")
        points = np.frombuffer(raw, "<u4").astype(np.uint64)
        rolled, found = np.zeros(len(points) + 1, np.uint64), []
        for size in range(1, min(self.high, len(points)) + 1):
            # (rolled before + next point) * odd number, modulo 2^64: one more unit for every start
            rolled = (rolled[: len(points) - size + 1] + points[size - 1 :] + np.uint64(1)) * _STEP
            if size >= self.low:
                mixed = (rolled ^ (rolled >> np.uint64(30))) * _MIX
                found.append(mixed ^ (mixed >> np.uint64(27)))
        return np.concatenate(found) if found else np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedNGrams:
    """N-grams as a vector: sublinear frequency times rarity in the training texts.

    The weight of a bucket is `(1 + ln count) * idf`, over the norm of all weights of the text. Only
    buckets of at least two training texts are features. The others count in the norm, as rare as
    can be: the less of a text is known, the shorter its vector and the weaker what it says.
    Source: Salton and Buckley 1988, doi:10.1016/0306-4573(88)90021-0.

    Attributes:
        ngrams: counts them.
        kept: the buckets that are features, rising, int64 (m,).
        idf: of the kept, `1 + ln((1 + n) / (1 + texts with the bucket))`, float32 (m,).
        rarest: idf of a bucket that no training text has, `1 + ln(1 + n)`.
    """

    ngrams: HashedNGrams
    kept: np.ndarray
    idf: np.ndarray
    rarest: float

    @classmethod
    def fitted(cls, ngrams: HashedNGrams, counted: Sequence[Counted]) -> WeightedNGrams:
        """Return n-grams with the rarities of some texts.

        Args:
            ngrams: counts them.
            counted: what `ngrams` returned for each text.
        """
        seen = np.zeros(ngrams.buckets, np.int64)
        for filled, _ in counted:
            seen[filled] += 1
        kept = np.flatnonzero(seen >= 2)
        idf = 1 + np.log((1 + len(counted)) / (1 + seen[kept]))
        return cls(ngrams, kept, idf.astype(np.float32), float(1 + np.log(1 + len(counted))))

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a text's features, rising rows of `kept`, int64 (m,), and weights, float64 (m,).

        The norm of the weights is at most 1.
        """
        return self.weighted(self.ngrams(text))

    def weighted(self, counted: Counted) -> tuple[np.ndarray, np.ndarray]:
        """Return what a call returns for a text that is counted already."""
        filled, counts = counted
        rows = np.minimum(np.searchsorted(self.kept, filled), max(0, len(self.kept) - 1))
        known = np.zeros(len(filled), bool)
        if len(self.kept):
            known = self.kept[rows] == filled
        weights = 1 + np.log(counts)
        weights[known] *= self.idf[rows[known]]
        weights[~known] *= self.rarest
        norm = float(np.linalg.norm(weights)) or 1.0
        return rows[known], weights[known] / norm
