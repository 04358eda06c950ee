"""Augmentation: a labelled pair as another retriever, splitter or asker might have shown it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A question and a passage in pieces, as a trainer shows them to a model.

    Attributes:
        question: what is asked.
        title: of the passage; may be empty.
        sentences: of the passage, in order; at least one.
        gold: rows of the sentences to keep; may be none.
        prior: log-odds of a prior for each sentence; empty without one.
    """

    question: str
    title: str
    sentences: tuple[str, ...]
    gold: frozenset[int]
    prior: tuple[float, ...] = ()

    def taking(self, rows: list[int]) -> TrainingPair:
        """Return the pair with only these sentences, in this order, each with its label."""
        return replace(
            self,
            sentences=tuple(self.sentences[row] for row in rows),
            gold=frozenset(place for place, row in enumerate(rows) if row in self.gold),
            prior=tuple(self.prior[row] for row in rows) if self.prior else (),
        )


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often each change is made; every probability is in [0, 1].

    A prior's log-odds move with their sentences. They were made of the whole passage in its own
    order, so after a change they are near what the prior would say, not the same.

    Attributes:
        rotate: probability that the passage begins at a random sentence, its former start coming
            after its end, so that gold sentences stand anywhere.
        crop: probability that only a random run of at least two sentences is shown.
        drop_title: probability that the title is left out.
        drop_question_mark: probability that marks at the question's end are left out.
    """

    rotate: float = 0.2
    crop: float = 0.2
    drop_title: float = 0.15
    drop_question_mark: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rotate", "crop", "drop_title", "drop_question_mark"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def __call__(self, pair: TrainingPair, rng: random.Random) -> TrainingPair:
        """Return a changed pair; it depends on the pair and the generator's state alone.

        The generator is asked equally often for passages of one length, whatever is changed.
        """
        chances = [rng.random() for _ in range(4)]
        count = len(pair.sentences)
        turn, length = rng.randrange(count), rng.randint(min(2, count), count)
        start = rng.randrange(count - length + 1)
        rows = list(range(count))
        if chances[0] < self.rotate:
            rows = rows[turn:] + rows[:turn]
        if chances[1] < self.crop:
            rows = rows[start : start + length]
        changed = pair.taking(rows)
        if chances[2] < self.drop_title:
            changed = replace(changed, title="")
        if chances[3] < self.drop_question_mark:
            bare = pair.question.rstrip().rstrip("?").rstrip()
            changed = replace(changed, question=bare or pair.question)
        return changed


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0)
