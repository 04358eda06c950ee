"""Append the answer so far to the question, so that the next retrieval looks further."""

from dataclasses import dataclass

from rag.records import Answer, Query


@dataclass(frozen=True, slots=True)
class AppendAnswer:
    """Joins a question and the answer of the round before into one query.

    Give it the original question each round, or answers pile up. An answer that is missing, empty
    or abstained adds nothing. The answer follows the question; the source puts it first, which
    makes no difference to sparse search and little to dense.
    Source: Shao et al. 2023 (ITER-RETGEN), arXiv:2305.15294.
    """

    def __call__(self, query: Query, answer: Answer | None = None) -> Query:
        """Return question and answer, or the question alone."""
        if answer is None or answer.abstained or not answer.text.strip():
            return query
        return Query(f"{query.text} {answer.text}")
