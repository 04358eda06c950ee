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


def answer_ids(prompt: PromptEncoder, text: str) -> tuple[int, ...]:
    """Return the tokens of an answer as a model should generate it, and then end it.

    After a raw prompt that is the text with a space before it, unless the prompt ends with one, and
    the template's stop text; after a chat the text and the token that ends a turn. The text is put
    on one line.

    Args:
        prompt: of the model and template.
        text: the answer.
    """
    said = " ".join(text.split())
    template = prompt.template
    if template.chat:
        eos = prompt.tokenizer.eos_token_id
        ends = sorted(prompt.stop_ids - {eos}) or sorted(prompt.stop_ids)
        return (*prompt.ids(said), *(ends[:1] or prompt.ids(template.stop)))
    space = "" if template.question[-1:].isspace() else " "
    return (*prompt.ids(space + said), *prompt.ids(template.stop))


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
            answer = answer_ids(prompt, one.target)
            whole = _tokens(plans, one, whole=True) + len(answer)
            if whole > window:
                dropped["longer than the model's window"] += 1
            else:
                found.append(Lesson(one, answer, _tokens(plans, one, whole=False) + len(answer)))
    return found, dict(dropped)


def _tokens(plans: Plans, one: ReadingExample, *, whole: bool) -> int:
    plan = plans.plan(SEQUENTIAL, one.query, one.passages, whole=whole)
    return plan.cached_tokens + plan.computed_tokens
