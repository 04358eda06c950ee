"""Critique: a language model says yes or no to an answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.records import Answer, Judgement, Passage, Query
from rag.text.template import check_template, filled, one_line

LONGEST_EVIDENCE = 1500  # code points of all passages together that the model reads
_VERDICTS = (" yes", " no")

INSTRUCTIONS = """\
Does the text support the answer to the question?

Text: Yeast ferments the sugars in the dough and produces carbon dioxide.
Question: Who painted the Sistine Chapel?
Answer: yeast
Supported: no

Text: The Great Barrier Reef lies off the coast of Queensland. It stretches for 2,300 kilometres.
Question: How long is the Great Barrier Reef?
Answer: 2,300 kilometres
Supported: yes

Text: Mount Kenya is the second highest mountain of Africa.
Question: How high is Kilimanjaro?
Answer: Mount Kenya
Supported: no

Text: Castling moves the king two squares. It is not allowed if the king is in check.
Question: When is castling not allowed?
Answer: if the king is in check
Supported: yes

Text: {passages}
Question: {question}
Answer: {answer}
Supported:"""


@dataclass(frozen=True)
class LMJudge:
    """Asks a language model a yes-or-no question about an answer.

    The score is the probability of " yes" among " yes" and " no" as the next words. A model that
    tells no probabilities is asked to write instead: 1 for a text that begins with "yes", else 0.
    An answer that is empty or abstained fails with score 0, and the model is not asked.
    Source: Asai et al. 2023 (Self-RAG's critique tokens), arXiv:2310.11511, here prompted.

    Attributes:
        lm: judges. The default model of 135 million parameters does no better than chance: AUC 0.51
            for right against wrong answers to 30 questions of SQuAD. Bring a larger one.
        threshold: least score that passes, in [0, 1].
        instructions: prompt with the places `{question}` and `{answer}`, and if wanted
            `{passages}`: the kept text of what the answer was read from, its first 1,500
            characters.
    """

    lm: TextModel
    threshold: Annotated[float, Bounds(low=0, high=1)] = 0.5
    instructions: str = INSTRUCTIONS

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("question", "answer"), allowed=("passages",))
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(self, query: Query, answer: Answer) -> Judgement:
        """Judge an answer to a question."""
        return self.batch(query=[query], answer=[answer])[0]

    def batch(self, *, query: Sequence[Query], answer: Sequence[Answer]) -> list[Judgement]:
        """Judge each answer; a model that only writes is asked once for all."""
        given = [row for row, one in enumerate(answer) if one.text.strip() and not one.abstained]
        prompts = [self._prompt(query[row], answer[row]) for row in given]
        nothing = Judgement(passed=False, score=0.0, reason="there is no answer")
        verdicts = [nothing] * len(query)
        for row, (score, reason) in zip(given, self._scores(prompts), strict=True):
            verdicts[row] = Judgement(score >= self.threshold, score, reason)
        return verdicts

    def _scores(self, prompts: Sequence[str]) -> list[tuple[float, str]]:
        try:
            return [self._probability(prompt) for prompt in prompts]
        except NotImplementedError:
            found = self.lm.complete(prompts, max_tokens=4, stop=("\n",))
            return [_read(completion.text) for completion in found]

    def _probability(self, prompt: str) -> tuple[float, str]:
        yes, no = self.lm.logprobs(prompt, _VERDICTS)
        # exp(yes) / (exp(yes) + exp(no)) where neither can overflow
        score = 1.0 / (1.0 + math.exp(min(no - yes, 700.0)))
        return score, f"yes has {score:.2f} against no"

    def _prompt(self, query: Query, answer: Answer) -> str:
        return filled(
            self.instructions,
            question=one_line(query.text),
            answer=one_line(answer.text),
            passages=_evidence(answer.passages),
        )


def _read(text: str) -> tuple[float, str]:
    first = one_line(text).lower()
    if first.startswith("yes"):
        return 1.0, "the model wrote yes"
    return 0.0, "the model wrote no" if first.startswith("no") else f"neither yes nor no: {text!r}"


def _evidence(passages: Sequence[Passage]) -> str:
    texts = [p.text if p.kept is None else p.kept.text(p.text) for p in passages]
    return one_line(" ".join(texts))[:LONGEST_EVIDENCE].rstrip()
