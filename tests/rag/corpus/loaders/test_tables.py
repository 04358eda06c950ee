"""Tables: rows that stand alone, delimiters, captions, sheets, kinds of values."""

import datetime as dt
import io

import pytest

from rag.corpus.loaders import tables


def load_csv(text):
    return tables.load_csv(text.encode(), "d/a.csv", "a")[0]


def test_each_row_names_its_columns():
    document = load_csv("Team,Cups\nBlues,1\nMaple Leafs,13\n")
    assert document.text == "Team: Blues; Cups: 1.\nTeam: Maple Leafs; Cups: 13."
    assert document.metadata == {"modality": "table", "encoding": "utf-8"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_rows_agree_on(delimiter):
    text = f"Name{delimiter}Note\nA{delimiter}one, two; three\nB{delimiter}four\n"
    assert load_csv(text.replace("one, two; three", '"one, two; three"')).text == (
        "Name: A; Note: one, two; three.\nName: B; Note: four."
    )


def test_quotes_line_ends_and_empty_cells():
    text = '\ufeffA,B,\r\n"x\ny",,"q ""r"""\r\n\r\n,,\r\nlast.,z\r\n'
    assert load_csv(text).text == 'A: x y; column 3: q "r".\nA: last.; B: z.'


def test_a_row_with_one_cell_above_the_header_is_a_caption():
    text = "Stanley Cups,,\nTeam,Location,Cups\nBlues,STL,1\n"
    assert load_csv(text).text == "Stanley Cups\n\nTeam: Blues; Location: STL; Cups: 1."


@pytest.mark.parametrize(
    ("text", "expected"), [("", ""), ("A,B\n", "A; B"), ("A\nx\ny\n", "A: x.\nA: y.")]
)
def test_small_tables(text, expected):
    assert load_csv(text).text == expected


def test_a_workbook_has_a_section_a_sheet():
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "First"
    book.active.append(["Day", "Value", "Yes"])
    book.active.append([dt.datetime(2024, 5, 1), 2.0, True])  # noqa: DTZ001
    book.active.append([dt.datetime(2024, 5, 1, 12, 30), 0.1, None])  # noqa: DTZ001
    book.create_sheet("Empty")
    book.create_sheet("Second").append(["only"])
    out = io.BytesIO()
    book.save(out)
    document = tables.load_xlsx(out.getvalue(), "d/a.xlsx", "a")[0]
    assert document.text == (
        "First\n\nDay: 2024-05-01; Value: 2; Yes: True.\n"
        "Day: 2024-05-01T12:30:00; Value: 0.1.\n\nSecond\n\nonly"
    )
    assert [s.title for s in document.sections] == ["First", "Second"]
    assert document.metadata == {"modality": "table"}


@pytest.mark.parametrize(
    "text",
    [
        "Team,Cups\nBlues,1\n",
        "Stanley Cups,,\nTeam,Location,Cups\nBlues,STL,1\n",
        "A,B\n",
        "A\nx\n",
    ],
)
def test_all_of_a_delimited_text_is_a_table(text):
    document = load_csv(text)
    assert [table.of(document.text) for table in document.tables] == [document.text]


def test_an_empty_text_has_no_table():
    assert load_csv("").tables == ()


def test_each_sheet_of_a_workbook_is_a_table_below_its_heading():
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "First"
    for row in (["Cups", None], ["Team", "Cups"], ["Blues", 1]):
        book.active.append(row)
    book.create_sheet("Empty")
    book.create_sheet("Second").append(["only"])
    out = io.BytesIO()
    book.save(out)
    document = tables.load_xlsx(out.getvalue(), "d/a.xlsx", "a")[0]
    assert [table.of(document.text) for table in document.tables] == [
        "Cups\n\nTeam: Blues; Cups: 1.", "only",
    ]  # fmt: skip
