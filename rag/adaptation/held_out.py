"""Split of examples into those to learn from and those held out, which share no article."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.records import text_sha
from rag.training.linked_groups import drawn_groups, linked_groups

if TYPE_CHECKING:
    from rag.adaptation.examples import ReadingExample
    from rag.records import Passage

HELD_OUT = 0.05
"""Share of the examples that is held out where nobody gives some."""
_PARTS = re.compile(r" (?:>|-) ")


def split_examples(
    examples: Sequence[ReadingExample], share: float = HELD_OUT, seed: int = 0
) -> tuple[list[ReadingExample], list[ReadingExample]]:
    """Return the examples to learn from and those held out, each in the given order.

    Examples that ask the same question, or need passages of the same article, are linked, and a
    linked group is not torn. What an example needs are its gold passages; without any, its best
    one. Distractors link nothing: nobody learns an answer from them. Whole groups are held out
    until the share is reached; the part may be smaller.

    Args:
        examples: any number.
        share: of the examples to hold out, in [0, 1).
        seed: of the choice.

    Raises:
        ValueError: if the share is out of its range.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share must be in [0, 1), got {share}")
    keys = [_keys(one) for one in examples]
    group = linked_groups((of_one[0], key) for of_one in keys for key in of_one)
    members: dict[str, list[str]] = {}
    for one, of_one in zip(examples, keys, strict=True):
        members.setdefault(group[of_one[0]], []).append(f"{one.data}/{one.id}")
    out = drawn_groups(members, int(share * len(examples) + 1e-9), seed)  # 0.29 * 100 must be 29
    held = [group[of_one[0]] in out for of_one in keys]
    train = [one for one, is_out in zip(examples, held, strict=True) if not is_out]
    return train, [one for one, is_out in zip(examples, held, strict=True) if is_out]


def article(passage: Passage) -> str:
    """Return the article that a passage is of: the first part of its title, else its own text."""
    title = _PARTS.split(passage.title)[0].strip().casefold()
    return title or text_sha(" ".join(passage.text.split()).casefold())


def _keys(one: ReadingExample) -> list[str]:
    needed = one.gold_passages or one.passages[:1]
    question = " ".join(one.query.text.split()).casefold()
    return [f"question {question}", *(f"article {article(passage)}" for passage in needed)]
