"""What a pipeline made of a question, and every metric that this and the data can tell."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag.evaluation.answers import contains_answer, exact_match, token_f1
from rag.evaluation.citations import citation_precision
from rag.evaluation.data import Question
from rag.evaluation.pruning import pruning_metrics
from rag.evaluation.retrieval import ALL_AT_5, MEASURES, first_occurrences, retrieval_metrics
from rag.records import Answer, Hit, Passage

RETRIEVAL = ("nDCG@10", "R@5", "R@10", "R@100", ALL_AT_5, "RR@10", "AP")
ANSWERS = ("EM", "F1", "Contains", "Abstain")
PRUNING = ("SentR", "SentP", "Kept", "AnswerKept")
METRICS = (*RETRIEVAL, *ANSWERS, *PRUNING, "CiteP", "TTFT_ms", "Tokens")

assert set(RETRIEVAL) == {*MEASURES, ALL_AT_5}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pipeline made of one question.

    Attributes:
        ranking: document ids in order; a later occurrence of one does not count.
        passages: what was read, best first, with `kept` attached.
        answer: None if the pipeline gives none.
        ttft_ms: time to the first token with every cache filled, where it was measured.
        prompt_tokens: length of the prompt, where there was one.
        error: why the question failed; then nothing else is set.
    """

    ranking: Sequence[Hit] = ()
    passages: Sequence[Passage] = ()
    answer: Answer | None = None
    ttft_ms: float | None = None
    prompt_tokens: int | None = None
    error: str | None = None

    @property
    def documents(self) -> list[str]:
        """Document ids of the ranking, each once."""
        return first_occurrences([hit.id for hit in self.ranking])


def answer_text(answer: Answer) -> str:
    """Return the text that is judged: none if the answer abstains, as nobody is told it."""
    return "" if answer.abstained else answer.text


def outcome_metrics(
    questions: Sequence[Question], outcomes: Sequence[Outcome]
) -> list[dict[str, float]]:
    """Return the metrics of each question by name, those only that can be told.

    A failed question has 0 for every metric of rankings and answers that its data can judge, and
    nothing else: whether the pipeline would have given answers at all, other questions tell.
    `EM`, `F1` and `Contains` need gold answers; an answer that abstains counts as an empty one.
    `Abstain` is 1 for an answer that abstains.

    Raises:
        ValueError: if there are not as many outcomes as questions.
    """
    if len(questions) != len(outcomes):
        raise ValueError(
            f"outcomes must be one a question, got {len(outcomes)} for {len(questions)}"
        )
    pairs = list(zip(questions, outcomes, strict=True))
    rankings = {q.id: o.documents for q, o in pairs if o.ranking or o.error}
    retrieval = retrieval_metrics(rankings, {q.id: q.relevant for q in questions})
    return [
        {name: found[name] for name in METRICS if name in found}
        for found in (retrieval.get(q.id, {}) | _metrics(q, o) for q, o in pairs)
    ]


def _metrics(question: Question, outcome: Outcome) -> dict[str, float]:
    """Return all metrics but those of the ranking."""
    if outcome.error is not None:
        return dict.fromkeys(ANSWERS[:3], 0.0) if question.answers else {}
    found: dict[str, float | None] = {
        "TTFT_ms": outcome.ttft_ms,
        "Tokens": outcome.prompt_tokens,
        **pruning_metrics(outcome.passages, question.supporting, question.answers),
    }
    answer = outcome.answer
    if answer is not None:
        found["Abstain"] = float(answer.abstained)
        found["CiteP"] = citation_precision(
            answer.citations,
            answer.passages or outcome.passages,
            question.supporting,
            question.gold_documents,
        )
        if question.answers:
            text = answer_text(answer)
            found["EM"] = exact_match(text, question.answers)
            found["F1"] = token_f1(text, question.answers)
            found["Contains"] = contains_answer(text, question.answers)
    return {name: float(value) for name, value in found.items() if value is not None}
