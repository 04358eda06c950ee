"""Curves of an adaptation: the loss of each encoding, in training and on held-out examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rag.adaptation.answer_loss import MEAN
from rag.training.loss_picture import Curve, loss_svg

if TYPE_CHECKING:
    from rag.adaptation.encodings import Encoding

_COLOURS = (
    ("#5b6067", "#a2a8b0"),
    ("#2f5fb3", "#8fb4f5"),
    ("#0f7a6c", "#5cc9ba"),
    ("#b45f06", "#f0a35e"),
    ("#8a3ea8", "#cf9be6"),
    ("#a8324a", "#f08ba0"),
)


def loss_picture(
    records: Sequence[Mapping[str, Any]], encodings: Sequence[Encoding], title: str
) -> str:
    """Return the image of an adaptation's journal, as `loss_svg` does.

    Args:
        records: as `read_journal` returned them.
        encodings: each gets a thin line for its training loss, a thick one for held-out answers.
        title: in one line.
    """
    curves = []
    for row, one in enumerate(encodings):
        light, dark = _COLOURS[row % len(_COLOURS)]
        curves += [
            Curve(f"loss_{one.name}", "", light, dark, width=0.8, smooth=True),
            Curve(f"{MEAN}_{one.name}", one.name, light, dark, width=2.2),
        ]
    return loss_svg(
        records, title, curves, note="loss of an answer's token in nats; thick: held out"
    )
