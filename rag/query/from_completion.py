"""Query from a drafted sentence: what the model was sure of, its guesses left out."""

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Completion, Query
from rag.text.normalise import normalised_answer

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class QueryFromCompletion:
    """Searches with the drafted next sentence, words that the model doubts masked out.

    A word goes if one of its tokens is less probable than the threshold: the source masks tokens,
    but half a word finds nothing. The question comes back if no word is left, and the whole draft
    is taken if the model told no probabilities.
    Source: Jiang et al. 2023 (FLARE, implicit queries), arXiv:2305.06983.

    Attributes:
        threshold: least probability of a token that stays, in [0, 1]; the source's 0.4.
        keep_question: put the question before the draft; the source searches with the draft alone.
    """

    threshold: Annotated[float, Bounds(low=0, high=1)] = 0.4
    keep_question: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(self, query: Query, completion: Completion) -> Query:
        """Return the masked draft as a query.

        Args:
            query: the question.
            completion: the drafted sentence, with token probabilities if the model tells them.
        """
        draft = " ".join(self._sure_words(completion))
        if not normalised_answer(draft):
            return query
        return Query(f"{query.text} {draft}" if self.keep_question else draft)

    def _sure_words(self, completion: Completion) -> list[str]:
        if not completion.tokens:
            return completion.text.split()
        raw = "".join(completion.tokens)
        # Tokens may hold white space, or the stop text, around what counts as the text.
        begin = max(0, raw.find(completion.text))
        end = begin + len(completion.text)
        ends = list(accumulate(len(token) for token in completion.tokens))
        doubted = [
            (stop - len(token), stop)
            for token, stop, logprob in zip(
                completion.tokens, ends, completion.logprobs, strict=True
            )
            if math.exp(logprob) < self.threshold
        ]
        return [
            word[0]
            for word in _WORD.finditer(raw, begin, end)
            if not any(start < word.end() and word.start() < stop for start, stop in doubted)
        ]
