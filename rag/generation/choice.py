"""Constrained label scoring: how probable each of some fixed answers is after a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rag.generation.engines import AnyEngine
    from rag.generation.prefilled import Prefilled

Normalise = Literal["sum", "mean"]


def choose_label(
    engine: AnyEngine,
    state: Prefilled,
    labels: Sequence[tuple[int, ...]],
    *,
    normalise: Normalise = "sum",
    content_free: Tensor | None = None,
) -> Tensor:
    """Return the log-probability of each label, given that the answer is one of them.

    With `content_free`, what this function returned for the same labels after a prompt without
    content ("N/A" in place of the question's text), each label's probability is divided by the one
    that it has there: a label that the model favours whatever it reads loses that advantage. The
    quotients are scaled to sum 1; the paper takes a softmax of them, which has the same winner.
    Source: contextual calibration, Zhao et al. 2021, arXiv:2102.09690.

    Args:
        engine: read the prompt.
        state: of the prompt; it stays as it is.
        labels: token ids of each label, at least one token each, no two alike. One that begins
            with another is never above it in `sum`: end both with a stop token.
        normalise: `sum` takes a label's log-probability, `mean` that per token, which does not
            favour short labels.
        content_free: (n,), or None for no correction.

    Returns:
        (n,), float64, natural logarithms whose exponentials have sum 1; on the logits' device.

    Raises:
        UnsupportedModelError: if a label passes the model's window.
        ValueError: if a label is empty or comes twice, there is none, `normalise` is unknown, or
            `content_free` has another shape.
    """
    import torch

    _require_labels(labels, normalise)
    if content_free is not None and content_free.shape != (len(labels),):
        raise ValueError(
            f"content_free must have one score a label, shape ({len(labels)},), "
            f"got {tuple(content_free.shape)}"
        )
    each = [engine.score(state, label).double() for label in labels]
    scores = torch.stack([one.sum() if normalise == "sum" else one.mean() for one in each])
    if content_free is not None:
        scores = scores - content_free.to(scores)
    return scores.log_softmax(-1)


def _require_labels(labels: Sequence[tuple[int, ...]], normalise: str) -> None:
    if normalise not in get_args(Normalise):
        raise ValueError(
            f"normalise must be one of {', '.join(get_args(Normalise))}, got {normalise!r}"
        )
    if not labels:
        raise ValueError("labels must hold at least one label, got none")
    seen: dict[tuple[int, ...], int] = {}
    for row, label in enumerate(labels):
        if not label:
            raise ValueError(f"labels must have at least one token each, got none in row {row}")
        if seen.setdefault(tuple(label), row) != row:
            raise ValueError(f"labels must differ, got rows {seen[tuple(label)]} and {row} alike")
