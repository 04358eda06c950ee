"""Vote: of several answers the one that was given most often."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag.generation.evidence import merged_citations, merged_passages, with_costs
from rag.records import Answer
from rag.text.normalise import normalised_answer


@dataclass(frozen=True, slots=True)
class Vote:
    """Returns the answer of the majority, with the evidence of all who gave it.

    Answers are the same if they differ in case, punctuation, articles or white space only; ties go
    to the earliest. Empty and abstained answers do not vote unless all are. The earliest of the
    winners gives the text. Passages are those of all winners, citations those of winners with this
    very text, as their positions count in it. Cache use, tokens and timings are the sum over all
    answers, losers too: what the vote cost. Without any answer it abstains.
    Source: Wang et al. 2022 (self-consistency), arXiv:2203.11171.
    """

    def __call__(self, answers: Sequence[Answer]) -> Answer:
        """Return the answer of the majority."""
        if not answers:
            return Answer("", abstained=True)
        voting = [a for a in answers if not a.abstained and normalised_answer(a.text)] or answers
        groups: dict[str, list[Answer]] = {}
        for answer in voting:
            groups.setdefault(normalised_answer(answer.text), []).append(answer)
        winners = max(groups.values(), key=len)  # the first of the longest
        first = winners[0]
        citations = merged_citations([answer for answer in winners if answer.text == first.text])
        uncited = [
            span
            for span in first.unsupported
            if not any(c.answer_start < span.end and span.start < c.answer_end for c in citations)
        ]
        won = replace(
            first,
            passages=merged_passages(winners),
            citations=citations,
            unsupported=tuple(uncited),
        )
        return with_costs(won, answers)
