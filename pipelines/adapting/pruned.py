"""Examples out of questions and their passages: the pruner decides, and an answer is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rag.adaptation.examples import ReadingExample
from rag.evaluation.answers import contains_answer
from rag.records import Passage, Query
from rag.training.watching import Watcher

if TYPE_CHECKING:
    from pipelines.adapting.questions import AskedQuestion
    from pruners.threshold import ThresholdPruner
    from pruners.training.sentence_vectors import RememberedVectors
    from rag.protocols import Encoder

_TOGETHER = 256  # questions that are pruned in one go


class Reader:
    """Makes examples as inference would: the pruner sees all passages of a question at once.

    Sentences of passages that are read are encoded, each text once.
    """

    def __init__(
        self,
        pruner: str,
        encoder: Callable[[], Encoder],
        threshold: float | None,
        watcher: Watcher,
    ) -> None:
        """Make a reader.

        Args:
            pruner: `features`, `sentences`, `none`, or the folder of a feature head.
            encoder: gives the encoder of questions and sentences; not asked for by `none`.
            threshold: of the pruner; None takes its own.
            watcher: sees the stages `encode` and `prune`.

        Raises:
            ValueError: for a pruner that is none of these, or a threshold below 0.
        """
        if pruner not in {"features", "sentences", "none"} and not Path(pruner).is_dir():
            raise ValueError(
                "pruner must be 'features', 'sentences', 'none' or the folder of a feature head, "
                f"got {pruner!r}"
            )
        if threshold is not None and not threshold >= 0.0:
            raise ValueError(f"threshold must be at least 0, got {threshold}")
        self._name = pruner
        self._encoder = encoder
        self._threshold = threshold
        self._watcher = watcher

    def __call__(
        self, pairs: Sequence[tuple[AskedQuestion, Sequence[Passage]]]
    ) -> list[ReadingExample]:
        """Return an example of each question with its passages, best first."""
        if self._name == "none":
            return [_example(question, passages) for question, passages in pairs]
        if not pairs:
            return []
        pruner = self._pruner
        self._vectors.learn([p for _, passages in pairs for p in passages], self._watcher)
        self._watcher.stage("prune", len(pairs))
        found = []
        for start in range(0, len(pairs), _TOGETHER):
            part = pairs[start : start + _TOGETHER]
            pruned = pruner.batch(
                query=[Query(question.text) for question, _ in part],
                passages=[passages for _, passages in part],
            )
            found += [_example(pair[0], of) for pair, of in zip(part, pruned, strict=True)]
            self._watcher.advance(len(part))
        return found

    @cached_property
    def _vectors(self) -> RememberedVectors:
        from pruners.training.sentence_vectors import RememberedVectors

        return RememberedVectors(self._encoder())

    @cached_property
    def _pruner(self) -> ThresholdPruner:
        """The pruner as its operator makes it."""
        from pruners.features.head import SHIPPED, FeatureHead
        from pruners.features.scorer import FeatureScorer
        from pruners.sentences import SentenceMix
        from pruners.threshold import ThresholdPruner

        scorer: Any
        if self._name == "sentences":
            scorer = SentenceMix(self._encoder(), sentence_vectors=self._vectors)
        else:
            folder = SHIPPED if self._name == "features" else Path(self._name)
            scorer = FeatureScorer(self._encoder(), FeatureHead.load(folder), self._vectors)
        threshold = scorer.threshold if self._threshold is None else self._threshold
        if threshold is None:
            raise ValueError(f"threshold must be given: the pruner {self._name!r} has none")
        return ThresholdPruner(scorer, threshold=threshold, on_error="raise")


def _example(question: AskedQuestion, passages: Sequence[Passage]) -> ReadingExample:
    return ReadingExample(
        id=question.id,
        data=question.data,
        query=Query(question.text),
        passages=tuple(replace(p, title=readable_title(p.title)) for p in passages),
        answers=in_order(question.answers, passages),
        unanswerable=question.unanswerable,
        gold=question.gold,
    )


def in_order(answers: Sequence[str], passages: Sequence[Passage]) -> tuple[str, ...]:
    """Return accepted answers, the one to learn first, each once, stripped.

    It is the first that stands in what is kept of a passage, or the first of all if none does; of
    answers that differ in final marks it is the one without.
    """
    different = list(dict.fromkeys(answer.strip() for answer in answers))
    kept = [p.text if p.kept is None else p.kept.text(p.text) for p in passages]
    stands = (a for a in different if any(contains_answer(text, [a]) for text in kept))
    first = next(stands, different[0] if different else "")
    bare = first.rstrip(".,;: ")
    first = bare if bare in different else first
    return tuple(sorted(different, key=lambda answer: answer != first))


def readable_title(title: str) -> str:
    """Return a title as people write it; names of pages have no space, but `_` and `%20`."""
    return title if " " in title else unquote(title).replace("_", " ")
