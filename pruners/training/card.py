"""Model card: what a trained pruner is, how it was made, what it does, and where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pruners.training.held_out import HeldOut
from pruners.training.labelled import LabelledPassage
from rag.evaluation.statistics import Interval
from rag.training.card_parts import bullets, settings_table, table

_NAMES: Mapping[str, str] = {
    "comp@R95": "characters pruned at 95 % recall",
    "comp@R90": "characters pruned at 90 % recall",
    "AUC": "area under the ROC curve",
    "AP": "average precision",
}


@dataclass(frozen=True, slots=True)
class Made:
    """How a pruner was made, as its card tells it.

    Attributes:
        title: of the card.
        what: what the pruner is, a sentence or two.
        command: that made it.
        seed: of everything drawn.
        data_sha: SHA-256 of the training lines.
        licences: what the data says of each of its sets.
        trained: the examples that were trained on.
        held_out: how many examples were not.
        dropped: how many were left out because evaluation data holds their passage.
        left_out: names of that evaluation data.
        parts: name to fingerprint of the models it is made for.
        course: facts of the training, by name.
        recipe: every number, by name.
    """

    title: str
    what: str
    command: str
    seed: int
    data_sha: str
    licences: Sequence[str]
    trained: Sequence[LabelledPassage]
    held_out: int
    dropped: int = 0
    left_out: Sequence[str] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    course: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def model_card(made: Made, found: HeldOut | None, baseline: str = "") -> str:
    """Return the card as Markdown.

    Args:
        made: how the pruner was made.
        found: its figures on held-out data; None where nothing could be held out.
        baseline: name of what `found` compares with.
    """
    parts = [f"# {made.title}", made.what, "## How it was made", f"    {made.command}"]
    parts.append(bullets(_making(made)))
    parts += ["## Training data", bullets(_data(made))]
    parts += ["## Figures", *_figures(found, baseline)]
    parts += ["## Limits", bullets(_LIMITS)]
    if made.recipe:
        parts += ["## Recipe", settings_table(made.recipe)]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    (
        "The labels are of English encyclopedia text. On other text and other languages the "
        "threshold may keep too little: measure with `dovetail eval --curve` on your own questions."
    ),
    (
        "A threshold keeps its share of the needed sentences over all questions, not of each one; "
        "of questions that need several sentences it keeps all of them less often."
    ),
    (
        "A passage without a gold sentence was shown as useless; in truth nobody looked whether it "
        "helps a little."
    ),
)


def _making(made: Made) -> list[str]:
    told = [f"seed: {made.seed}", *(f"{name}: {value}" for name, value in made.course.items())]
    return [*told, *(f"made for {name}: `{value[:16]}`" for name, value in made.parts.items())]


def _data(made: Made) -> list[str]:
    sources = Counter(one.source for one in made.trained)
    with_gold = sum(1 for one in made.trained if one.gold)
    listed = ", ".join(f"{source} {count:,}" for source, count in sorted(sources.items()))
    told = [
        f"SHA-256 of its lines: `{made.data_sha}`",
        (
            f"{len(made.trained):,} question-passage pairs, {with_gold:,} of them with a gold "
            f"sentence ({listed})"
        ),
        f"{made.held_out:,} pairs held out by passage and question, never trained on",
    ]
    if made.left_out:
        told.append(
            f"{made.dropped:,} pairs left out because their passage stands in evaluation data "
            f"({', '.join(made.left_out)})"
        )
    return [*told, *(f"licence: {one}" for one in made.licences)]


def _figures(found: HeldOut | None, baseline: str) -> list[str]:
    if found is None:
        return ["Nothing was held out, so there are none."]
    rows = []
    for name, about in _NAMES.items():
        if name not in found.figures:
            continue
        cells = [f"{name}: {about}", _interval(found.figures[name])]
        if found.baseline:
            cells.append(_interval(found.baseline[name]) if name in found.baseline else "")
            cells.append(
                _interval(found.difference[name], sign=True) if name in found.difference else ""
            )
        rows.append(cells)
    header = ["", "this", *((baseline, "difference") if found.baseline else ())]
    thresholds = ", ".join(
        f"{100 * share:.0f} % above {value:.4g}" for share, value in found.thresholds.items()
    )
    said = (
        f"On {found.questions:,} held-out questions with {found.sentences:,} sentences, with 95 %"
    )
    return [
        f"{said} bootstrap intervals over questions.",
        table(header, rows),
        f"Shares of the held-out gold sentences and the score that they are above: {thresholds}.",
    ]


def _interval(one: Interval, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{one.mean:{form}} [{one.low:{form}}, {one.high:{form}}]"
