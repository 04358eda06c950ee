"""Lines of a table: captions, headers with and without a rule, rows that name their columns."""

import pytest

from rag.corpus.table_lines import read_table
from rag.records import Span


def read(text, start=0):
    """What each part of a table says, stripped of line ends."""
    lines = read_table(text, Span(start, len(text)))
    header = None if lines.header is None else lines.header.of(text).rstrip()
    rows = [row.of(text).rstrip() for row in lines.rows]
    parts = [lines.above, *([lines.header] if lines.header else []), *lines.rows, lines.below]
    assert "".join(part.of(text) for part in parts) == text[start:]
    assert len(lines.alone) == len(rows)
    return lines.above.of(text).rstrip(), header, rows, lines.below.of(text)


def columns(text):
    return read_table(text, Span(0, len(text))).columns


def test_caption_header_and_rows():
    text = "Table 3: Sales\nRegion | Sales | Share\nNorth | 1 | 2%\nSouth | 3 | 4%"
    assert read(text) == (
        "Table 3: Sales", "Region | Sales | Share", ["North | 1 | 2%", "South | 3 | 4%"], "",
    )  # fmt: skip
    assert columns(text) == ("Region", "Sales", "Share")


def test_a_rule_makes_the_line_above_it_the_header_whatever_it_says():
    text = "| 1 | 2 |\n|---|:-:|\n| 3 | 4 |\nfive | 6\nseven"
    assert read(text) == (
        "", "| 1 | 2 |\n|---|:-:|", ["| 3 | 4 |", "five | 6", "seven"], ""
    )  # fmt: skip
    assert columns(text) == ("1", "2")
    assert columns("| a \\| b | c |\n|---|---|\n| 1 | 2 |") == ("a \\| b", "c")
    assert columns("| | |\n|---|---|\n| 1 | 2 |") == ()


def test_rows_that_name_their_columns_have_no_header():
    text = "Cups of all time\n\nTeam: Blues; Cups: 1.\nTeam: Flyers; Cups: 2 | 3."
    assert read(text) == (
        "Cups of all time", None, ["Team: Blues; Cups: 1.", "Team: Flyers; Cups: 2 | 3."], "",
    )  # fmt: skip
    assert columns(text) == ()


def test_first_cells_that_all_differ_are_no_names_of_columns():
    assert read("Quarter | Sales\nQ1: cold | 2\nQ2: warm | 4")[1] == "Quarter | Sales"


def test_a_rule_outweighs_cells_that_begin_alike():
    text = "A | B\n--|--\nsize: 1 | 2\nsize: 3 | 4\nsize: 5 | 6"
    assert read(text)[1] == "A | B\n--|--"


def test_rows_whose_first_cell_is_empty_here_and_there_still_name_their_columns():
    text = "Region: North; City: A.\nCity: B.\nCity: C.\nRegion: South; City: D."
    assert len(read(text)[2]) == 4


@pytest.mark.parametrize(
    "text",
    [
        "1 | 2 | 3\n4 | 5 | 6",  # numbers
        "2005 | a | b\n2006 | c | d",  # years, and years below
        "Singer | Anna | won\nSinger | Bert | lost",  # what comes again
        "Founded | Albuquerque\nIndustry | Software",  # names and values
        "Anna | a text of far more words than any column would ever be named by here | x\nB | c | d",
        "x | | \ny | z | a",  # most cells empty
        "only | one | line",
    ],
)
def test_a_first_line_that_does_not_look_like_names_is_a_row(text):
    _, header, rows, _ = read(text)
    assert header is None
    assert rows == [line.rstrip() for line in text.split("\n")]
    assert columns(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        " | 2010 | 2011\nSales | 1 | 2\nCosts | 3 | 4",  # years above columns, an empty corner
        "Country | Capital | Note\nFrance | Paris |\nPeru | Lima | old",
        "Shareholder | Percentage\nA | 8.9%\nOthers | 68.5%",
    ],
)
def test_a_first_line_that_looks_like_names_is_the_header(text):
    assert read(text)[1] == text.split("\n")[0]
    assert [column for column in columns(text) if column] == [
        cell.strip() for cell in text.split("\n")[0].split("|") if cell.strip()
    ]


def test_lines_with_one_cell_are_told_from_rows():
    text = "A | B | C\nWest\na | 1 | 2\nEast\nb | 3 | 4\nNote: none."
    lines = read_table(text, Span(0, len(text)))
    assert [row.of(text).strip() for row in lines.rows] == [
        "West",
        "a | 1 | 2",
        "East",
        "b | 3 | 4",
    ]
    assert lines.alone == (False, True, False, True)
    assert lines.below.of(text) == "Note: none."


def test_text_without_rows_is_above_them():
    assert read("A; B") == ("A; B", None, [], "")
    assert read("Some text. And more.\nNo row.") == ("Some text. And more.\nNo row.", None, [], "")


def test_ragged_rows_are_rows():
    assert len(read("A | B | C\n1 | 2\n3 | 4 | 5 | 6 | 7")[2]) == 2


def test_a_table_in_the_middle_of_a_line_and_of_a_text():
    text = "See A | B | C\n1 | 2 | 3"
    assert read(text, start=4) == ("", "A | B | C", ["1 | 2 | 3"], "")
