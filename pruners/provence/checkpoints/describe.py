"""What a checkpoint is, without loading it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from pruners.provence.checkpoints.contents import Contents
from pruners.provence.checkpoints.layout import recognise
from pruners.provence.checkpoints.licence import is_non_commercial, licence_of
from pruners.provence.checkpoints.published import Published


@dataclass(frozen=True, slots=True)
class Description:
    """A checkpoint in another project's layout.

    Attributes:
        layout: name of the project.
        family: of its trunk.
        parameters: numbers in its file.
        published: recommended settings, and the licence that its folder states.
    """

    layout: str
    family: str
    parameters: int
    published: Published

    @property
    def commercial(self) -> bool:
        """Whether the licence does not forbid commercial use."""
        return not is_non_commercial(self.published.licence)

    def __str__(self) -> str:
        """Return one line for a person."""
        told = self.published
        use = "" if self.commercial else ", no commercial use"
        languages = "/".join(told.languages) or "many languages"
        return (
            f"{self.layout} ({self.family}, {self.parameters / 1e6:.0f} M parameters, "
            f"{languages}), licence {told.licence}{use}; "
            f"threshold {told.threshold}, rounding {told.rounding}, rerank score {told.rerank}"
        )


def describe_checkpoint(folder: Path) -> Description:
    """Return what a checkpoint's folder holds, from its headers.

    Raises:
        ModelNotFoundError: if a part is missing, or the layout is unknown.
        ValueError: if a setting in its configuration is not allowed.
    """
    contents = Contents.read(folder)
    layout, plan = recognise(contents)
    licence = licence_of(folder, plan.published.licence)
    return Description(
        layout.name,
        plan.family.model_type,
        sum(prod(shape) for shape in contents.shapes.values()),
        replace(plan.published, licence=licence),
    )
