"""Split of labelled passages into two parts that share no passage and no question."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pruners.training.labelled import LabelledPassage, passage_key

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
    group = _groups(examples, keys)
    rows_of: dict[Key, list[int]] = {}
    for row, (question, passage) in enumerate(keys):
        if group[question] == group[passage]:
            rows_of.setdefault(group[question], []).append(row)
    drawn = sorted(
        rows_of, key=lambda one: _draw(min(examples[row].id for row in rows_of[one]), seed)
    )
    room = int(held_out * len(examples) + 1e-9)  # 0.29 * 100 must be 29
    out: set[Key] = set()
    taken = 0
    for one in drawn:
        if taken + len(rows_of[one]) <= room:
            taken += len(rows_of[one])
            out.add(one)
    sides = [{group[question] in out, group[passage] in out} for question, passage in keys]
    train = [one for one, side in zip(examples, sides, strict=True) if side == {False}]
    return train, [one for one, side in zip(examples, sides, strict=True) if side == {True}]


def question_key(question: str) -> str:
    """Return what two copies of a question have in common: its words in lower case."""
    return passage_key(question)


def _keys(one: LabelledPassage) -> tuple[Key, Key]:
    return ("question", question_key(one.question)), ("passage", one.key)


def _groups(examples: Sequence[LabelledPassage], keys: Sequence[tuple[Key, Key]]) -> dict[Key, Key]:
    """Return the group of each question and passage, named by one of its members: union-find."""
    parent: dict[Key, Key] = {key: key for pair in keys for key in pair}

    def root(key: Key) -> Key:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    helps = {key for one, pair in zip(examples, keys, strict=True) if one.gold for key in pair}
    for one, (question, passage) in zip(examples, keys, strict=True):
        if one.gold or not (question in helps and passage in helps):
            parent[root(question)] = root(passage)
    return {key: root(key) for key in parent}


def _draw(id_: str, seed: int) -> bytes:
    """Return the place of a group in the draw."""
    return hashlib.sha256(f"{seed}:{id_}".encode()).digest()
