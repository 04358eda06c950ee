"""Slides: titles, text, tables, charts, groups, notes, pages."""

import io

import pytest

from rag.corpus.loaders import slides

pptx = pytest.importorskip("pptx")


@pytest.fixture
def document():
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    file = pptx.Presentation()
    first = file.slides.add_slide(file.slide_layouts[1])
    first.shapes.title.text = "The talk"
    first.placeholders[1].text = "One\vline\nTwo"
    first.notes_slide.notes_text_frame.text = "Say hello."
    second = file.slides.add_slide(file.slide_layouts[6])
    table = second.shapes.add_table(2, 2, 0, 0, 9999, 9999).table
    for cell, text in zip(table.iter_cells(), "AB12", strict=True):
        cell.text = text
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 99, 99).text_frame.text = "Grouped"
    data = CategoryChartData()
    data.categories = ["2000", "2001"]
    data.add_series("Sales", (1.5, None))
    second.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 99, 99, data)
    out = io.BytesIO()
    file.save(out)
    return slides.load(out.getvalue(), "d/a.pptx", "a")[0]


def test_slides_are_sections_and_pages(document):
    assert document.text == (
        "The talk\n\nOne line\n\nTwo\n\nNotes: Say hello.\n\n"
        "Slide 2\n\nA | B\n1 | 2\n\nGrouped\n\nCategory | Sales\n2000 | 1.5\n2001 |"
    )
    assert [(s.level, s.title) for s in document.sections] == [(1, "The talk"), (1, "Slide 2")]
    assert document.pages == tuple(s.start for s in document.sections)


def test_the_first_slide_gives_the_title(document):
    assert document.title == "The talk"


def test_tables_and_the_numbers_of_charts_are_marked(document):
    assert [table.of(document.text) for table in document.tables] == [
        "A | B\n1 | 2", "Category | Sales\n2000 | 1.5\n2001 |",
    ]  # fmt: skip
