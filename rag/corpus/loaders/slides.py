"""Slides (.pptx): a section and a page for each slide."""

import io
from collections.abc import Iterator
from typing import Any

from rag.corpus.loaders.outline import Outline
from rag.errors import MissingExtraError
from rag.records import Document


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a presentation.

    Each slide is a page and a section called by its title (`Slide n` without one), with the text
    of its shapes, tables and charts as lines `cell | cell`, and the speaker's notes after
    `Notes:`.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title where neither the first slide nor the file's properties give one.

    Raises:
        MissingExtraError: if python-pptx is not installed.
    """
    try:
        from pptx import Presentation
    except ImportError:
        raise MissingExtraError(
            'reading .pptx needs python-pptx: pip install "dovetail-rag[docs]"'
        ) from None
    file = Presentation(io.BytesIO(data))
    outline = Outline()
    first = ""
    for number, slide in enumerate(file.slides, 1):
        title = _folded(slide.shapes.title.text_frame.text) if slide.shapes.title else ""
        first = first or (title if number == 1 else "")
        outline.page()
        outline.heading(title or f"Slide {number}", 1)
        for shape in _shapes(slide.shapes):
            if slide.shapes.title is None or shape.shape_id != slide.shapes.title.shape_id:
                _add_shape(outline, shape)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text.replace("\v", "\n").strip()
            outline.block(f"Notes: {notes}" if notes else "")
    title = first or _folded(file.core_properties.title or "") or name
    return [outline.document(source, title, {})]


def _shapes(shapes: Any) -> Iterator[Any]:
    """Yield shapes in the order of the file, those of groups one by one."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _add_shape(outline: Outline, shape: Any) -> None:
    """Add the text, table or chart of a shape."""
    if shape.has_text_frame:
        for paragraph in shape.text_frame.paragraphs:
            outline.block(_folded(paragraph.text))
    elif getattr(shape, "has_table", False):
        outline.cells([[cell.text for cell in row.cells] for row in shape.table.rows])
    elif getattr(shape, "has_chart", False):
        chart = shape.chart
        if chart.has_title and chart.chart_title.has_text_frame:
            outline.block(_folded(chart.chart_title.text_frame.text))
        for plot in chart.plots:
            series = list(plot.series)
            values = zip(*(each.values for each in series), strict=False)
            rows = [["Category", *(each.name for each in series)]]
            rows += [
                [str(category), *("" if value is None else f"{value:g}" for value in row)]
                for category, row in zip(plot.categories, values, strict=False)
            ]
            outline.cells(rows)


def _folded(text: str) -> str:
    """Return a text with its white space folded."""
    return " ".join(text.split())
