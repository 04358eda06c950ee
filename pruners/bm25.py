"""BM25 of sentences: the terms that a sentence shares with the query."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruners.decide import LEAST_SCORE
from pruners.scored_texts import sentence_texts
from rag.records import Passage, PassageScores, Query
from rag.text.bm25 import bm25_scores
from rag.text.terms import query_terms, terms


@dataclass(frozen=True)
class BM25Sentences:
    """Scorer by BM25 over title and sentence, as a share of the largest of this query.

    Document frequencies and lengths are those of all sentences given: a rare term is rare in what
    was retrieved. The best sentence has 1, those that share no term 1e-6; where none shares any,
    all have 1e-6. Source: Robertson and Zaragoza 2009, doi:10.1561/1500000019.
    """

    name = "bm25"

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the score of each sentence, in [1e-6, 1]; it depends on the set of passages."""
        return [
            PassageScores(tuple(max(LEAST_SCORE, share) for share in of_passage))
            for of_passage in bm25_shares(query, passages)
        ]


def bm25_shares(query: Query, passages: Sequence[Passage]) -> list[list[float]]:
    """Return the BM25 of each sentence over the largest of all: in [0, 1], all 0 if that is 0."""
    texts = [[terms(text) for text in sentence_texts(passage)] for passage in passages]
    found = bm25_scores(query_terms(query.text), [text for of in texts for text in of])
    largest = max(found, default=0.0) or 1.0
    shares = iter([score / largest for score in found])
    return [[next(shares) for _ in of_passage] for of_passage in texts]
