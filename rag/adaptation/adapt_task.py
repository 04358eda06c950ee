"""What an adaptation does in a step: examples read in several encodings at once, and their loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.adaptation.answer_loss import MEAN, SAID, AnswerLoss
from rag.adaptation.encodings import SEQUENTIAL, Encoding, Plans, drawn_encodings
from rag.adaptation.losses import Taught, answer_loss, distillation_loss, taught
from rag.adaptation.packing import passes
from rag.training.batch_order import epoch_batches, generator
from rag.training.precision import Precision, autocast
from rag.training.training_run import Place

if TYPE_CHECKING:
    from torch import Tensor

    from rag.adaptation.lessons import Key, Lesson
    from rag.adaptation.plan_pass import PlanPass, Reading
    from rag.adaptation.recipe import ReadingRecipe
    from rag.adaptation.teacher import BaseTeacher


@dataclass(frozen=True, slots=True)
class Drawn:
    """A lesson of a step, in the encodings that were drawn for it.

    Attributes:
        encodings: the sequential one first.
        readings: one an encoding.
        key: what a teacher remembers it by.
    """

    encodings: tuple[Encoding, ...]
    readings: tuple[Reading, ...]
    key: Key


class ReadingTask:
    """Learning to read: satisfies `rag.training.training_run.Task`.

    A step reads each of its examples in the sequential prompt and in some cached encodings, in one
    pass that encodes the passages once; the gradients of the passes of a step add up.
    """

    def __init__(
        self,
        model: Any,
        reads: PlanPass,
        plans: Plans,
        recipe: ReadingRecipe,
        lessons: Sequence[Lesson],
        checks: AnswerLoss | None,
        base: BaseTeacher | None,
    ) -> None:
        """Hold what is learned.

        Args:
            model: that `reads` runs.
            reads: the forward pass.
            plans: knows the encodings of the recipe.
            recipe: every number.
            lessons: to learn, at least one.
            checks: scores held-out examples; None looks at nothing.
            base: the teacher, if the recipe asks for the base model.
        """
        self._model, self._reads, self._plans = model, reads, plans
        self._recipe, self._lessons = recipe, lessons
        self._checks, self._base = checks, base

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the rows of each batch: examples of like length together."""
        recipe = self._recipe
        lengths = [one.tokens for one in self._lessons]
        return epoch_batches(lengths, recipe.batch_size, recipe.seed, epoch)

    def drawn(self, row: int, place: Place) -> Drawn:
        """Return how a lesson is read in a step: a function of seed, step and row."""
        recipe = self._recipe
        rng = generator(recipe.seed, place.step, row)
        whole = rng.random() < recipe.whole
        alone = (
            place.step < int(recipe.sequential_first * place.planned)
            or (place.planned - 1 - place.step) % recipe.cached_every
        )
        mix = () if alone else drawn_encodings(recipe.mix, recipe.readings, rng)
        return self._read(row, (SEQUENTIAL, *mix), whole=whole)

    def add_gradients(
        self, rows: Sequence[int], place: Place, precision: Precision
    ) -> dict[str, float]:
        """Add the gradients of a batch; return its loss, the parts of it, and that by encoding."""
        return self._learn([self.drawn(row, place) for row in rows], precision)

    def look(self, precision: Precision) -> dict[str, float] | None:
        """Return the loss of held-out answers by encoding."""
        return None if self._checks is None else self._checks.figures(precision)

    def merit(self, figures: Mapping[str, float]) -> float:
        """Return how good figures are: by the share of answers that are said.

        Their loss decides where that share stands still. By itself it would end a training early:
        it grows with the confidence in wrong answers while more and more of the others are right.
        """
        return figures[SAID] - 0.01 * figures[MEAN]

    def charted(self, figures: Mapping[str, float]) -> Mapping[str, float]:
        """Return all figures."""
        return figures

    def probe(self, precision: Precision) -> None:
        """Learn from the lesson of middle length."""
        rows = sorted(range(len(self._lessons)), key=lambda row: self._lessons[row].tokens)
        mix = self._recipe.mix[: self._recipe.readings]
        self._learn([self._read(rows[len(rows) // 2], (SEQUENTIAL, *mix), whole=False)], precision)

    def _read(self, row: int, encodings: tuple[Encoding, ...], *, whole: bool) -> Drawn:
        lesson = self._lessons[row]
        readings = tuple(lesson.reading(self._plans, one, whole=whole) for one in encodings)
        return Drawn(encodings, readings, lesson.key(whole=whole))

    def _learn(self, batch: Sequence[Drawn], precision: Precision) -> dict[str, float]:
        import torch

        told = _Told()
        for together in passes([one.readings for one in batch], self._recipe.pass_tokens):
            some = [batch[row] for row in together]
            teachers = self._base_teachers(some, precision)
            with autocast(precision, self._model.device):
                said = self._reads.logits([one for drawn in some for one in drawn.readings])
            total = torch.zeros((), device=self._model.device)
            at = 0
            for drawn, teacher in zip(some, teachers, strict=True):
                count = len(drawn.readings)
                total = total + self._loss(drawn, said[at : at + count], teacher, told)
                at += count
            (total / len(batch)).backward()  # type: ignore[no-untyped-call]
        return told.means()

    def _base_teachers(
        self, some: Sequence[Drawn], precision: Precision
    ) -> Sequence[Taught | None]:
        if self._base is None:
            return [None] * len(some)
        return self._base.of(
            [one.key for one in some], [one.readings[0] for one in some], precision
        )

    def _loss(
        self, drawn: Drawn, said: Sequence[Tensor], teacher: Taught | None, told: _Told
    ) -> Tensor:
        """Return the loss of an example: a mean over its readings, which are noted."""
        import torch

        recipe = self._recipe
        answer = torch.tensor(drawn.readings[0].answer, device=said[0].device)
        losses = [answer_loss(logits, answer) for logits in said]
        loss = torch.stack(losses).mean()
        told.add("answer", loss)
        for encoding, one in zip(drawn.encodings, losses, strict=True):
            told.add(f"loss_{encoding.name}", one)
        students = said
        if recipe.teacher == "self":
            # The sequential prompt is its own teacher, which would add nothing.
            teacher, students = taught(said[0]), said[1:]
        if teacher is not None and recipe.distil and students:
            apart = torch.stack([distillation_loss(one, teacher) for one in students]).mean()
            told.add("distil", apart)
            loss = loss + recipe.distil * apart
        told.add("loss", loss)
        return loss


class _Told:
    """Means of named losses; they leave the device once a step."""

    def __init__(self) -> None:
        self._found: dict[str, list[Tensor]] = {}

    def add(self, name: str, loss: Tensor) -> None:
        self._found.setdefault(name, []).append(loss.detach())

    def means(self) -> dict[str, float]:
        import torch

        means = [torch.stack(losses).double().mean().cpu() for losses in self._found.values()]
        return dict(zip(self._found, torch.stack(means).tolist(), strict=True))
