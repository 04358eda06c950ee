"""Model card of an adapter: what it is, how it was made, what it learned, and where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag.adaptation.answer_loss import MEAN, SAID
from rag.training.card_parts import bullets, settings_table, table

if TYPE_CHECKING:
    from rag.adaptation.examples import ReadingExample
    from rag.training.training_run import Course

_LIMITS = (
    (
        "It fits one base model: the weights whose hash stands above. Another model, or another "
        "revision of it, needs its own."
    ),
    (
        "It learns short answers that stand in the passages, and a plain refusal where the data "
        "has unanswerable questions. Long answers, summaries and talk are no part of it."
    ),
    (
        "The figures are losses on held-out questions of the training data's own kinds. Of other "
        "text and other languages they say nothing: measure with `dovetail eval` on your questions."
    ),
    "Citations are the engine's attribution; the model learns none.",
)


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Where the examples came from, as a card tells it.

    Attributes:
        command: that made the adapter.
        licences: what the data says of each of its sets.
        data_sha: SHA-256 of the data that the examples were made from.
        left_out: how many questions were not used, by reason.
    """

    command: str = ""
    licences: Sequence[str] = ()
    data_sha: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)


def adaptation_card(
    base: str,
    base_weights: str,
    course: Course,
    recipe: Mapping[str, Any],
    learned: Sequence[ReadingExample],
    held_out: Sequence[ReadingExample],
    facts: DataFacts,
    device: str,
    start: str = "",
) -> str:
    """Return the card as Markdown.

    Args:
        base: name of the model.
        base_weights: SHA-256 of its weights.
        course: of the training.
        recipe: every number, by name.
        learned: examples that were trained on.
        held_out: examples that chose the weights.
        facts: of the data.
        device: that trained.
        start: hash of the adapter that was trained further, if it was one.
    """
    parts = [
        f"# Reading adapter for {base}",
        (
            "Low-rank updates (LoRA) that teach a language model to answer from passages that are "
            "encoded apart and cached, with masks and positions of inference. Use: `--adapter` "
            "with this folder."
        ),
        "## How it was made",
    ]
    if facts.command:
        parts.append(f"    {facts.command}")
    parts += [
        bullets(
            [
                f"base: {base}, weights `{base_weights[:16]}`",
                *([f"trained further from adapter `{start[:16]}`"] if start else []),
                f"seed: {recipe['seed']}",
                (
                    f"steps: {course.steps:,} of {course.planned:,}, ended: {course.stopped}; the "
                    f"weights are of step {course.best_step:,}"
                ),
                f"trained parameters: {course.parameters:,}",
                f"precision of the forward passes: {course.precision}",
                f"time: {course.seconds:.0f} s on {device}",
            ]
        ),
        "## Training data",
        bullets(_data(learned, held_out, facts)),
        "## Figures",
        *_figures(course, len(held_out)),
        "## Limits",
        bullets(_LIMITS),
        "## Recipe",
        settings_table(recipe),
    ]
    return "\n\n".join(parts) + "\n"


def _data(
    learned: Sequence[ReadingExample], held_out: Sequence[ReadingExample], facts: DataFacts
) -> list[str]:
    told = [f"SHA-256 of it: `{facts.data_sha}`"] if facts.data_sha else []
    told.append(f"{len(learned):,} examples ({_by_set(learned)})")
    refused = sum(one.unanswerable for one in learned)
    if refused:
        told.append(f"{refused:,} of them unanswerable")
    told.append(
        f"{len(held_out):,} examples held out, which chose the weights"
        + (f" ({_by_set(held_out)})" if held_out else "")
    )
    told += [f"left out: {count:,}, {reason}" for reason, count in facts.left_out.items()]
    return [*told, *(f"licence: {one}" for one in facts.licences)]


def _by_set(examples: Sequence[ReadingExample]) -> str:
    counts = Counter(one.data for one in examples)
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _figures(course: Course, held_out: int) -> list[str]:
    if course.before is None or course.after is None:
        return ["Nothing was held out, so there are none."]
    names = {MEAN: "mean"} | {
        name: name.removeprefix(f"{MEAN}_") for name in course.before if name not in {MEAN, SAID}
    }
    rows = [
        (shown, f"{course.before[name]:.3f}", f"{course.after[name]:.3f}")
        for name, shown in names.items()
    ]
    return [
        (
            f"Mean negative log-probability of a token of the answer, in nats, over {held_out:,} "
            "held-out examples at most, by the way in which passages are read:"
        ),
        table(("encoding", "before", "after"), rows),
        (
            "Greedy decoding says the first accepted answer, word for word, to "
            f"{course.before[SAID]:.0%} of the questions before and to {course.after[SAID]:.0%} "
            "after, a mean over these ways."
        ),
    ]
