"""Merge answers: one short answer from those to the parts of a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from rag.bounds import Bounds
from rag.generation.citations import SupportMatcher
from rag.generation.evidence import merged_passages, with_costs
from rag.generation.refusal import is_refusal
from rag.protocols import Encoder, TextModel
from rag.records import Answer, Query
from rag.text.normalise import normalised_answer
from rag.text.template import check_template, filled, one_line

LONGEST_ANSWER = 300  # code points of a part's answer that the model reads

INSTRUCTIONS = """\
Answer the question from the facts, as briefly as possible.

Fact: Where was Marie Curie born? Warsaw, Poland
Fact: Where was Niels Bohr born? Copenhagen, Denmark
Question: Were Marie Curie and Niels Bohr born in the same country?
Answer: no

Fact: How long is the Nile? 6,650 kilometres
Fact: How long is the Danube? 2,850 kilometres
Question: Which is longer, the Nile or the Danube?
Answer: the Nile

Fact: Are cats mammals? yes
Fact: Are whales mammals? yes
Question: Are both cats and whales mammals?
Answer: yes

Fact: Who invented dynamite? Alfred Nobel
Fact: Where was Alfred Nobel born? Stockholm
Question: In which city was the inventor of dynamite born?
Answer: Stockholm

{answers}
Question: {question}
Answer:"""


@dataclass(frozen=True)
class MergeAnswers:
    """Asks a language model for one answer, given the answers to parts of the question.

    Empty and abstained answers are not shown. If all are, the last one comes back; so does a single
    answer, as nothing is to merge; without any it abstains. In these cases the model is not asked.
    If it writes nothing, the last answer shown stands: parts lead up to the question.

    Citations are attributed anew over the passages of the answers shown. What no passage says in
    one sentence, as the outcome of a comparison, is unsupported but no abstention: it rests on
    answers that have their support. Cache use, timings and tokens are the sum over all answers;
    what the merge wrote is added, its prompt is not counted.
    Source: Zhou et al. 2022 (least-to-most), arXiv:2205.10625, for answers that lead to the next.

    Attributes:
        lm: writes the answer.
        encoder: for the cosine of `SupportMatcher`; None attributes citations by terms alone.
        instructions: prompt with the places `{answers}` and `{question}`; its first line of
            continuation counts.
        max_tokens: the most to write.
    """

    lm: TextModel
    encoder: Encoder | None = None
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 32

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("answers", "question"))
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def __call__(
        self, query: Query, answers: Sequence[Answer], queries: Sequence[Query] | None = None
    ) -> Answer:
        """Return one answer.

        Args:
            query: the question.
            answers: to its parts, in order.
            queries: the parts, shown with their answers; as many as answers.

        Raises:
            ValueError: if there are more or fewer queries than answers.
        """
        if queries is not None and len(queries) != len(answers):
            raise ValueError(f"queries must be one an answer, {len(answers)}, got {len(queries)}")
        told = [
            (row, answer)
            for row, answer in enumerate(answers)
            if not answer.abstained and normalised_answer(answer.text)
        ]
        if not answers:
            return Answer("", abstained=True)
        if len(answers) == 1 or not told:
            return with_costs(answers[-1], answers)
        facts = [
            f"Fact: {queries[row].text} {answer.text}" if queries else f"Fact: {answer.text}"
            for row, answer in told
        ]
        return self._merged(query, [answer for _, answer in told], facts, answers)

    def _merged(
        self, query: Query, told: Sequence[Answer], facts: Sequence[str], parts: Sequence[Answer]
    ) -> Answer:
        prompt = filled(
            self.instructions,
            answers="\n".join(one_line(fact)[:LONGEST_ANSWER].rstrip() for fact in facts),
            question=one_line(query.text),
        )
        wrote = self.lm.complete([prompt], max_tokens=self.max_tokens, stop=("\n",))[0]
        text = one_line(wrote.text.strip().partition("\n")[0])
        passages = merged_passages(told)
        if not normalised_answer(text):
            text = told[-1].text
        found = SupportMatcher(self.encoder)(query, text, passages)
        answer = Answer(
            text,
            passages,
            found.citations,
            found.unsupported,
            mode=told[-1].mode,
            model=self.lm.name,
            prompt=prompt,
            finish=wrote.finish,
        )
        if is_refusal(text):
            answer = found.attached_to(answer)
        costs = with_costs(answer, parts)
        tokens = replace(costs.tokens, generated=costs.tokens.generated + len(wrote.tokens))
        return replace(costs, tokens=tokens)
