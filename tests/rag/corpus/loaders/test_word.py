"""Word: order, headings, lists, tables, tracked changes."""

import io

import pytest

from rag.corpus.loaders import word

docx = pytest.importorskip("docx")


def load(file):
    out = io.BytesIO()
    file.save(out)
    return word.load(out.getvalue(), "d/a.docx", "a")[0]


def test_headings_paragraphs_lists_and_tables_stand_in_document_order():
    file = docx.Document()
    file.core_properties.title = ""
    file.add_heading("One", 1)
    file.add_paragraph("First\tparagraph.")
    table = file.add_table(2, 2)
    for cell, text in zip(table._cells, ["A", "B", "1\n2", ""], strict=True):
        cell.text = text
    file.add_heading("Two", 2)
    file.add_paragraph("a", style="List Bullet")
    file.add_paragraph("b", style="List Bullet")
    file.add_paragraph("   ")
    file.add_paragraph("Last.")
    document = load(file)
    assert document.text == ("One\n\nFirst paragraph.\n\nA | B\n1 2 |\n\nTwo\n\n- a\n- b\n\nLast.")
    assert [(s.level, s.title) for s in document.sections] == [(1, "One"), (2, "Two")]
    assert document.title == "a"


def test_a_title_stands_above_the_headings():
    file = docx.Document()
    file.add_heading("The title", 0)
    file.add_heading("One", 1)
    document = load(file)
    assert document.title == "The title"
    assert [(s.level, s.title) for s in document.sections] == [(1, "The title"), (2, "One")]


def test_the_properties_give_a_title_too():
    file = docx.Document()
    file.core_properties.title = "From  properties"
    file.add_paragraph("x")
    assert load(file).title == "From properties"


def test_a_style_based_on_a_heading_is_a_heading():
    file = docx.Document()
    style = file.styles.add_style("Chapter", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = file.styles["Heading 2"]
    file.add_paragraph("Text", style="Chapter")
    assert [(s.level, s.title) for s in load(file).sections] == [(2, "Text")]


def test_insertions_and_content_controls_count_and_deletions_do_not():
    file = docx.Document()
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    xml = (
        f"<w:sdt {space}><w:sdtContent><w:p><w:r><w:t>kept </w:t></w:r>"
        "<w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p></w:sdtContent></w:sdt>"
    )
    file.element.body.insert(0, docx.oxml.parse_xml(xml))
    assert load(file).text == "kept inserted"


def test_tables_are_marked_with_their_captions():
    file = docx.Document()
    file.add_paragraph("Text.")
    file.add_paragraph("Table 1: Numbers")
    for cells in (["A", "B", "1", "2"], ["Only", "", "one", ""]):
        table = file.add_table(2, 2)
        for cell, text in zip(table._cells, cells, strict=True):
            cell.text = text
    document = load(file)
    assert [table.of(document.text) for table in document.tables] == [
        "Table 1: Numbers\n\nA | B\n1 | 2"
    ]
