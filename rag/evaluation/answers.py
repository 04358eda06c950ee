"""Answer metrics: exact match, token F1 and containment, as the SQuAD evaluation normalises."""

from collections import Counter
from collections.abc import Sequence

from rag.text.normalise import normalised_answer


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """Return 1.0 if the answer equals one of the gold answers once both are normalised, else 0.0.

    Source: Rajpurkar et al. 2016, arXiv:1606.05250.

    Raises:
        ValueError: if there is no gold answer.
    """
    said = normalised_answer(answer)
    return float(any(said == normalised_answer(text) for text in _judged(gold)))


def token_f1(answer: str, gold: Sequence[str]) -> float:
    """Return the best harmonic mean of token precision and recall over the gold answers, in [0, 1].

    Tokens are the words of the normalised texts, counted as often as they occur. Two empty texts
    agree, and an empty text agrees with no other. Source: Rajpurkar et al. 2016, arXiv:1606.05250.

    Raises:
        ValueError: if there is no gold answer.
    """
    said = normalised_answer(answer).split()
    return max(_overlap(said, normalised_answer(text).split()) for text in _judged(gold))


def contains_answer(text: str, gold: Sequence[str]) -> float:
    """Return 1.0 if a gold answer's words stand in the text, in order and unbroken, else 0.0.

    Both are normalised. Whole words count: `art` does not stand in `party`. A gold answer of which
    normalisation leaves nothing stands in no text.

    Raises:
        ValueError: if there is no gold answer.
    """
    words = f" {normalised_answer(text)} "
    wanted = (normalised_answer(answer) for answer in _judged(gold))
    return float(any(answer and f" {answer} " in words for answer in wanted))


def _overlap(said: list[str], gold: list[str]) -> float:
    if not (said and gold):
        return float(said == gold)
    shared = (Counter(said) & Counter(gold)).total()
    return 2 * shared / (len(said) + len(gold))


def _judged(gold: Sequence[str]) -> Sequence[str]:
    if not gold:
        raise ValueError("gold must hold at least one answer, got none")
    return gold
