"""Held-out figures: how probable, and how often said, the answers are that are not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rag.adaptation.losses import answer_loss
from rag.adaptation.packing import passes
from rag.training.precision import Precision, autocast

if TYPE_CHECKING:
    from rag.adaptation.encodings import Encoding, Plans
    from rag.adaptation.lessons import Lesson
    from rag.adaptation.plan_pass import PlanPass

MEAN = "nll"
"""Name of the mean over all encodings; that of one of them is `nll_` and the encoding's name."""
SAID = "said"
"""Name of the share of the answers that greedy decoding says word for word, a mean likewise."""
REFUSALS = "refusals"
"""Name of the mean over all encodings of what is to be refused."""


class AnswerLoss:
    """Scores a model that changes from one look to the next."""

    def __init__(
        self,
        model: Any,
        reads: PlanPass,
        plans: Plans,
        lessons: Sequence[Lesson],
        encodings: Sequence[Encoding],
        pass_tokens: int,
    ) -> None:
        """Make the plans.

        Args:
            model: that `reads` runs.
            reads: the forward pass.
            plans: knows the encodings.
            lessons: held out, at least one.
            encodings: in which each is read, as it was pruned.
            pass_tokens: most tokens of a pass.
        """
        self._model, self._reads = model, reads
        self._names = [one.name for one in encodings]
        groups = [[one.reading(plans, way) for way in encodings] for one in lessons]
        self._passes = [
            [groups[row] for row in together] for together in passes(groups, pass_tokens)
        ]
        self._refused = [one.example.unanswerable for one in lessons]

    def figures(self, precision: Precision = "float32") -> dict[str, float]:
        """Return the mean negative log-probability of an answer's token, in nats, by encoding.

        It is a mean over the tokens of an answer first, and then over the answers. An answer is
        said if each of its tokens is the most probable one after those before it. Refusals have a
        figure of their own, unless all are: a model learns them at another pace, and where they are
        few they would say more than all answers.
        """
        import torch

        device = self._model.device
        found: list[torch.Tensor] = []
        right: list[torch.Tensor] = []
        with torch.no_grad():
            for groups in self._passes:
                readings = [one for group in groups for one in group]
                with autocast(precision, device):
                    said = self._reads.logits(readings)
                answers = [torch.tensor(one.answer, device=device) for one in readings]
                pairs = list(zip(said, answers, strict=True))
                losses = torch.stack([answer_loss(*pair) for pair in pairs])
                greedy = torch.stack([(one.argmax(-1) == of).all() for one, of in pairs])
                found.append(losses.double().cpu().view(len(groups), -1))
                right.append(greedy.double().cpu().view(len(groups), -1))
        by_lesson = torch.cat(found)
        refused = torch.tensor(self._refused)
        judged = refused if refused.all() else ~refused
        means = by_lesson[judged].mean(0).tolist()
        by_name = {f"{MEAN}_{name}": one for name, one in zip(self._names, means, strict=True)}
        figures = {MEAN: sum(means) / len(means)} | by_name
        figures[SAID] = float(torch.cat(right)[judged].mean())
        if refused.any() and not refused.all():
            figures[REFUSALS] = float(by_lesson[refused].mean())
        return figures
