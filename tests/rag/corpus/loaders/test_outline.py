"""Outlines: text of tables, where they stand, captions, rows, rules."""

import pytest

from rag.corpus.loaders.outline import (
    Outline,
    holds_data,
    is_caption,
    is_rule,
    row_text,
    split_row,
)


def built(fill):
    outline = Outline()
    fill(outline)
    document = outline.document("d", "T", {})
    return document.text, [table.of(document.text) for table in document.tables]


def test_a_table_is_marked_from_its_header_to_its_last_row():
    def fill(outline):
        outline.block("Before.")
        outline.cells([["", " "], ["A", "B"], ["1\n2", ""], ["", ""], ["3", "4"]])
        outline.block("Behind.")

    text, tables = built(fill)
    assert text == "Before.\n\nA | B\n1 2 |\n3 | 4\n\nBehind."
    assert tables == ["A | B\n1 2 |\n3 | 4"]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda outline: None, "Table 3: Sales\n\nA | B"),
        (lambda outline: outline.block("  "), "Table 3: Sales\n\nA | B"),
        (lambda outline: outline.block("Text."), "A | B"),
        (lambda outline: outline.heading("H", 1), "A | B"),
        (lambda outline: outline.page(), "A | B"),
        (lambda outline: outline.table(["x | y"]), "A | B"),
    ],
)
def test_a_caption_right_above_belongs_to_the_table(between, expected):
    def fill(outline):
        outline.block("Table 3: Sales")
        between(outline)
        outline.cells([["A", "B"]])

    assert built(fill)[1][-1] == expected


def test_captions_that_come_with_the_table_are_paragraphs_above_it():
    text, tables = built(lambda outline: outline.table(["x", "y"], captions=["One", "", "Two"]))
    assert text == "One\n\nTwo\n\nx\ny"
    assert tables == [text]


def test_blank_and_layout_tables_are_not_marked():
    def fill(outline):
        outline.cells([["", " "]])
        outline.table(["", " "])
        outline.cells([["Only one"], ["cell", ""]])

    assert built(fill) == ("Only one\ncell |", [])
    assert holds_data([["a"], ["", "b", "c"]])
    assert not holds_data([["a"], ["", "b", " "], []])


@pytest.mark.parametrize(
    "text",
    [
        "Table 3: Sales by region", "Table 3. Sales", "TABLE 12 – Sales", "Table IV", "Tab. 2: x",
        "Table A.1: Sales", "Table 2.3b | Sales", "Tabelle 1: Umsatz", "Tableau 2 : Ventes",
        "Table B", "表 1 x: y".replace(" x", ""), " Table 3: two\nlines ",
    ],
)  # fmt: skip
def test_captions(text):
    assert is_caption(text)


@pytest.mark.parametrize(
    "text",
    [
        "Table 3 shows the sales.", "Tables 3: x", "The table: x", "Table of contents",
        "Table civil: x", "Figure 3: x", "", "Table 3: " + "x" * 400,
    ],
)  # fmt: skip
def test_what_is_no_caption(text):
    assert not is_caption(text)


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("a | b", ["a", "b"]),
        ("| a | b |", ["a", "b"]),
        ("  | a | b |", ["a", "b"]),
        ("|a|b", ["a", "b"]),
        (" | b", ["", "b"]),
        ("a |", ["a", ""]),
        ("| a |", ["a"]),
        ("| a | |", ["a", ""]),
        ("a \\| b | c", ["a \\| b", "c"]),
        ("alone", ["alone"]),
        ("", [""]),
    ],
)
def test_cells_of_a_row(line, cells):
    assert split_row(line) == cells


def test_rows_are_split_as_they_were_joined():
    for cells in (["a", "b"], ["", "b"], ["a", ""], ["a", "", "c"]):
        assert split_row(row_text(cells).rstrip()) == cells


def test_rules():
    assert all(map(is_rule, ["|---|---|", "-|-", " | :--- | ---: |", "|-|", "--- | :-:"]))
    assert not any(map(is_rule, ["---", "| a | - |", "||", "", "|--- ---|", "|:|"]))
    assert not is_rule("|" + " " * 20_000 + "x-|" * 20)
