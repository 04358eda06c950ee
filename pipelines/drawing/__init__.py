"""Pipelines as drawings: a tree of text, an SVG image, Mermaid text; all made offline."""

from collections.abc import Mapping
from typing import Literal, get_args

from pipelines.catalogue.spec import OperatorSpec
from pipelines.drawing import mermaid, svg, text
from pipelines.drawing.shapes import picture
from pipelines.flow.blocks import Definition

Form = Literal["text", "svg", "mermaid"]
FORMS: tuple[Form, ...] = get_args(Form)

__all__ = ["FORMS", "Form", "draw"]


def draw(
    definition: Definition,
    form: Form = "text",
    operators: Mapping[str, OperatorSpec] | None = None,
) -> str:
    """Return a drawing of a pipeline, its blocks nested; nothing is loaded or checked for it.

    Args:
        definition: the pipeline.
        form: `text`, `svg` or `mermaid`.
        operators: the catalogue's, to name the variables that steps write without saying so.

    Raises:
        ValueError: for another form.
    """
    forms = {"text": text.drawn, "svg": svg.drawn, "mermaid": mermaid.drawn}
    if form not in forms:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    return forms[form](picture(definition, operators or {}))
