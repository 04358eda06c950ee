"""Lessons: examples as tokens, ready to be read in any encoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.adaptation.encodings import SEQUENTIAL, Encoding, Plans
from rag.generation.context_plan import keeps

if TYPE_CHECKING:
    from rag.adaptation.examples import ReadingExample
    from rag.adaptation.plan_pass import Reading
    from rag.generation.prompt import PromptEncoder
    from rag.training.watching import Watcher

Key = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Lesson:
    """An example and the tokens of its answer.

    Attributes:
        example: question and passages.
        answer: tokens to learn, with what ends an answer.
        tokens: of the sequential prompt over what is kept, and the answer.
    """

    example: ReadingExample
    answer: tuple[int, ...]
    tokens: int

    def reading(self, plans: Plans, encoding: Encoding, *, whole: bool = False) -> Reading:
        """Return what the model reads and what it should say, in an encoding."""
        from rag.adaptation.plan_pass import Reading

        one = self.example
        return Reading(plans.plan(encoding, one.query, one.passages, whole=whole), self.answer)

    def key(self, *, whole: bool) -> Key:
        """Return what a teacher's answer is remembered by."""
        return self.example.data, self.example.id, whole


def lessons(
    examples: Sequence[ReadingExample],
    prompt: PromptEncoder,
    plans: Plans,
    window: int,
    watcher: Watcher,
) -> tuple[list[Lesson], Mapping[str, int]]:
    """Return the examples that can be learned, in order, and counts of the others by reason.

    Args:
        examples: any.
        prompt: of the model.
        plans: knows `SEQUENTIAL`.
        window: most tokens of prompt and answer; the passages must fit in whole.
        watcher: told of each example as a step.
    """
    found: list[Lesson] = []
    dropped: Counter[str] = Counter()
    for one in examples:
        watcher.advance()
        if one.target is None:
            dropped["no answer"] += 1
        elif not any(keeps(passage) for passage in one.passages):
            dropped["no sentence kept"] += 1
        else:
            answer = prompt.answer(one.target)
            whole = _tokens(plans, one, whole=True) + len(answer)
            if whole > window:
                dropped["longer than the model's window"] += 1
            else:
                found.append(Lesson(one, answer, _tokens(plans, one, whole=False) + len(answer)))
    return found, dict(dropped)


def _tokens(plans: Plans, one: ReadingExample, *, whole: bool) -> int:
    plan = plans.plan(SEQUENTIAL, one.query, one.passages, whole=whole)
    return plan.cached_tokens + plan.computed_tokens
