"""BM25 over a corpus: an inverted index in numpy arrays."""

import json
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np

from rag.errors import IndexFolderError
from rag.files import write_atomically
from rag.records import Hit, Query
from rag.text.terms import query_terms
from retrievers.arrays import write_array
from retrievers.ranking import best_rows, rows_by_id

Variant = Literal["lucene", "okapi"]
_ARRAYS = ("starts", "rows", "counts", "lengths")
_FORMAT = 1


class BM25Index:
    """Ranks passages by the BM25 of a query's terms. Immutable once built.

    `score = sum over query terms t of idf(t) * f * g / (f + k1 * (1 - b + b * length / mean))`,
    where f counts t in the passage and a term that the query repeats counts again.

    - `lucene`: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), g = 1. Scores are at least 0.
    - `okapi`: idf = ln((N - n + 0.5) / (n + 0.5)), negative ones replaced by a quarter of the
      vocabulary's mean idf, g = k1 + 1: as in `rank_bm25.BM25Okapi`. Scores may be negative.

    Source: Robertson and Zaragoza 2009, doi:10.1561/1500000019; defaults of Anserini.

    Attributes:
        ids: passage ids, ascending; a passage's row is its place in them.
        k1: how slowly repetition saturates.
        b: how far length counts.
        variant: which idf.
    """

    def __init__(
        self,
        ids: Sequence[str],
        vocabulary: Sequence[str],
        arrays: dict[str, np.ndarray],
        *,
        k1: float = 0.9,
        b: float = 0.4,
        variant: Variant = "lucene",
    ) -> None:
        """Wrap finished postings; use `build` or `load`.

        Args:
            ids: passage ids, ascending, unique.
            vocabulary: terms, ascending, unique.
            arrays: `starts` int64 (terms + 1,), into `rows` and `counts`, both int32 (postings,),
                rows ascending within a term; `lengths` int32 (passages,).
            k1: at least 0.
            b: in [0, 1].
            variant: `lucene` or `okapi`.

        Raises:
            ValueError: for a parameter out of range.
        """
        if not (k1 >= 0.0 and math.isfinite(k1)):
            raise ValueError(f"k1 must be at least 0 and finite, got {k1}")
        if not 0.0 <= b <= 1.0:
            raise ValueError(f"b must be in [0, 1], got {b}")
        if variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {get_args(Variant)}, got {variant!r}")
        self.ids = tuple(ids)
        self.k1 = k1
        self.b = b
        self.variant = variant
        self._vocabulary = tuple(vocabulary)
        self._arrays = arrays
        self._column = {term: column for column, term in enumerate(self._vocabulary)}
        lengths = arrays["lengths"].astype(np.float64)
        mean = lengths.mean() if lengths.any() else 1.0
        self._norms = k1 * (1.0 - b + b * lengths / mean)  # (n,)
        found = np.diff(arrays["starts"])  # (terms,), passages that hold each term
        self._idf = _inverse_document_frequency(found, len(self.ids), variant)

    @classmethod
    def build(
        cls,
        ids: Sequence[str],
        texts_terms: Sequence[Sequence[str]],
        *,
        k1: float = 0.9,
        b: float = 0.4,
        variant: Variant = "lucene",
    ) -> Self:
        """Index passages; the order in which they come makes no difference.

        Args:
            ids: unique passage ids; may be empty.
            texts_terms: terms of each passage, as `rag.text.terms.terms` gives them.
            k1: at least 0.
            b: in [0, 1].
            variant: which idf.

        Raises:
            ValueError: if the lengths differ, an id occurs twice, or a parameter is out of range.
        """
        if len(ids) != len(texts_terms):
            raise ValueError(
                f"ids and texts_terms must be as long, got {len(ids)} and {len(texts_terms)}"
            )
        order = rows_by_id(list(ids))
        texts = [texts_terms[row] for row in order]
        vocabulary = sorted(set(chain.from_iterable(texts)))
        column = {term: place for place, term in enumerate(vocabulary)}
        lengths = np.fromiter(map(len, texts), np.int32, len(texts))
        columns = np.fromiter(
            (column[term] for term in chain.from_iterable(texts)), np.int64, int(lengths.sum())
        )
        # One number per (term, row): sorting it sorts by term, then by row.
        pairs = columns * len(texts) + np.repeat(np.arange(len(texts)), lengths)
        found, counts = np.unique(pairs, return_counts=True)
        held, rows = np.divmod(found, max(1, len(texts)))
        arrays: dict[str, np.ndarray] = {
            "starts": np.searchsorted(held, np.arange(len(vocabulary) + 1)).astype(np.int64),
            "rows": rows.astype(np.int32),
            "counts": counts.astype(np.int32),
            "lengths": lengths,
        }
        return cls([ids[row] for row in order], vocabulary, arrays, k1=k1, b=b, variant=variant)

    def __len__(self) -> int:
        return len(self.ids)

    def idf(self, term: str) -> float:
        """Return a term's weight; 0 for a term that no passage holds."""
        column = self._column.get(term)
        return 0.0 if column is None else float(self._idf[column])

    def scores(self, terms: Sequence[str]) -> np.ndarray:
        """Return every passage's score for a query's terms: float64 (n,), in the order of `ids`."""
        scores = np.zeros(len(self.ids))
        gain = self.k1 + 1.0 if self.variant == "okapi" else 1.0
        for column in map(self._column.get, terms):
            if column is None:
                continue
            held = slice(*self._arrays["starts"][column : column + 2])
            rows, counts = self._arrays["rows"][held], self._arrays["counts"][held]
            scores[rows] += self._idf[column] * gain * counts / (counts + self._norms[rows])
        return scores

    def search(self, query: Query, top_k: int) -> list[Hit]:
        """Return at most `top_k` hits, best first, ties by id; passages that score 0 are left out.

        Raises:
            ValueError: if top_k is below 1.
        """
        scores = self.scores(query_terms(query.text))
        rows = best_rows(scores, np.flatnonzero(scores), top_k)
        return [Hit(self.ids[row], float(scores[row])) for row in rows]

    def save(self, folder: Path) -> None:
        """Write the index into a folder, made if need be, as `.npy` and JSON files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            write_array(folder / f"{name}.npy", self._arrays[name])
        about = {
            "format": _FORMAT,
            "k1": self.k1,
            "b": self.b,
            "variant": self.variant,
            "ids": self.ids,
            "vocabulary": self._vocabulary,
        }
        text = json.dumps(about).encode()
        write_atomically(folder / "bm25.json", lambda file: file.write(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a saved index; its postings are mapped, not read.

        Raises:
            IndexFolderError: if a file is missing, damaged, or of another format.
        """
        try:
            about = json.loads((folder / "bm25.json").read_bytes())
            ids, vocabulary = about["ids"], about["vocabulary"]
            parameters = {name: about[name] for name in ("k1", "b", "variant")}
            arrays: dict[str, np.ndarray] = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexFolderError(f"{folder} holds no readable BM25 index: {error!r}") from error
        postings = len(arrays["rows"])
        expected = [len(vocabulary) + 1, postings, postings, len(ids)]
        if (
            about.get("format") != _FORMAT
            or [len(arrays[name]) for name in _ARRAYS] != expected
            or arrays["starts"][-1] != postings
        ):
            raise IndexFolderError(
                f"{folder} holds a BM25 index of another format, or parts of several; index again"
            )
        return cls(ids, vocabulary, arrays, **parameters)


def _inverse_document_frequency(found: np.ndarray, total: int, variant: Variant) -> np.ndarray:
    """Return each term's idf, float64 (terms,), from how many of `total` passages hold it."""
    odds = (total - found + 0.5) / (found + 0.5)
    if variant == "lucene":
        return np.log1p(odds)
    idf = np.log(odds)
    return np.where(idf < 0.0, 0.25 * idf.mean(), idf) if len(idf) else idf
