"""Split of labelled passages into two parts that share no passage and no question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pruners.training.labelled import LabelledPassage, passage_key
from rag.training.linked_groups import drawn_groups, linked_groups

Key = tuple[str, str]


def split_by_passage(
    examples: Sequence[LabelledPassage], held_out: float = 0.1, seed: int = 0
) -> tuple[list[LabelledPassage], list[LabelledPassage]]:
    """Return the examples to train on and those held out, each in the given order.

    A passage, and all passages of one question, stand on one side: examples that share either are
    linked, and a linked group is not torn. The one exception keeps groups small: a passage that
    answers other questions, shown as a negative for this one, does not link the two. Where they
    come to stand on different sides, that negative is in neither part.

    Groups are held out in the order of a hash of the seed and their smallest id, until the share is
    reached; a group that would go past it is passed over. So the split depends on content and seed,
    not on the order of the examples.

    Args:
        examples: any number.
        held_out: share of the examples to hold out, in [0, 1), negatives between groups not
            counted; the part may be smaller.
        seed: of the choice.

    Raises:
        ValueError: if held_out is out of its range.
    """
    if not 0.0 <= held_out < 1.0:
        raise ValueError(f"held_out must be in [0, 1), got {held_out}")
    keys = [_keys(one) for one in examples]
    group = linked_groups(_links(examples, keys))
    ids: dict[Key, list[str]] = {}
    for one, (question, passage) in zip(examples, keys, strict=True):
        if group[question] == group[passage]:
            ids.setdefault(group[question], []).append(one.id)
    out = drawn_groups(ids, int(held_out * len(examples) + 1e-9), seed)  # 0.29 * 100 must be 29
    sides = [{group[question] in out, group[passage] in out} for question, passage in keys]
    train = [one for one, side in zip(examples, sides, strict=True) if side == {False}]
    return train, [one for one, side in zip(examples, sides, strict=True) if side == {True}]


def question_key(question: str) -> str:
    """Return what two copies of a question have in common: its words in lower case."""
    return passage_key(question)


def _keys(one: LabelledPassage) -> tuple[Key, Key]:
    return ("question", question_key(one.question)), ("passage", one.key)


def _links(
    examples: Sequence[LabelledPassage], keys: Sequence[tuple[Key, Key]]
) -> Iterator[tuple[Key, Key]]:
    """Yield what belongs together: each key with itself, and questions with their passages."""
    helps = {key for one, pair in zip(examples, keys, strict=True) if one.gold for key in pair}
    for one, (question, passage) in zip(examples, keys, strict=True):
        yield question, question
        yield passage, passage
        if one.gold or not (question in helps and passage in helps):
            yield question, passage
