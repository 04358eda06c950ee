"""Markdown: headings and what only looks like them, front matter, links, tables."""

import pytest

from rag.corpus.loaders import markdown


def load(text):
    return markdown.load(text.encode(), "d/a.md", "a")[0]


def headings(text):
    document = load(text)
    for section in document.sections:
        line = document.text[section.start :].split("\n")[0]
        assert section.title.split()[0] in line
    return [(section.level, section.title) for section in document.sections]


def test_atx_and_setext_headings_are_sections():
    text = "# One #\n\ntext\n\n### Three\nTwo\n===\n\nOther `code` **bold** [link](x)\n---\n"
    assert headings(text) == [(1, "One"), (3, "Three"), (1, "Two"), (2, "Other code bold link")]


def test_what_only_looks_like_a_heading_is_none():
    assert headings("```\n# no\n```\n") == []
    assert headings("~~~~\n# no\n~~~\n# nor this\n~~~~\n# Yes\n") == [(1, "Yes")]
    assert headings("#no\n\n    # code\n\n####### seven\n") == []
    assert headings("Text\n\n---\n\n- item\n---\n\n| a |\n|---|\n\nOne\ntwo\n---\n") == []
    assert headings("``` not a fence `x`\n# Yes\n") == [(1, "Yes")]


def test_front_matter_is_metadata_and_not_text():
    document = load('---\ntitle: "A title"\nauthor: Me\ntags: [a, b]\n---\n# Heading\n\nText.\n')
    assert document.title == "A title"
    assert document.metadata == {"author": "Me", "encoding": "utf-8"}
    assert document.text == "# Heading\n\nText.\n"


def test_the_title_is_the_only_topmost_heading_else_the_file_s_name():
    assert load("Text\n\n## Guide\n\n### A\n\n### B\n").title == "Guide"
    assert load("## A\n\n## B\n").title == "a"
    assert load("Text.\n").title == "a"


def test_links_and_images_become_their_text_outside_code():
    text = 'See [the `code`](http://x.y/(z) "t") and ![alt](i.png), `[a](b)`.\n'
    assert load(text).text == "See the `code` and alt, `[a](b)`.\n"
    assert load("[![badge](b.svg)](c)\n").text == "badge\n"
    assert load("```\n[a](b)\n```\n").text == "```\n[a](b)\n```\n"
    assert load("[not a link] (x) and [x][y]\n").text == "[not a link] (x) and [x][y]\n"


def test_html_tables_become_rows_and_comments_go():
    head = "<!-- no\n -->\n<table>\n<tr><th>A</th>\n<th>B</th></tr>"
    text = f"{head}<tr><td>1 &amp; <b>2</b><td>3</table>\n"
    assert load(text).text == "\nA | B\n1 & 2 | 3\n"


def test_offsets_count_after_front_matter_and_links():
    document = load("---\na: b\n---\n[x](http://long.example/link)\n\n# H\n\nText.\n")
    assert document.text[document.sections[0].start :] == "# H\n\nText.\n"


def tables(text):
    document = load(text)
    return [table.of(document.text) for table in document.tables]


def test_pipe_tables_are_marked_with_header_rule_and_rows():
    table = "| A | B |\n|---|:-:|\n| 1 | 2 |\nthree | 4\nfive"
    assert tables(f"Text.\n\n{table}\n\nBehind.\n") == [table]
    assert tables(f"Text.\n{table}") == [table]
    assert tables("A | B\n--|--\n") == ["A | B\n--|--"]
    assert tables("> quote\n\n- item\n\n  | A | B |\n  |--|--|\n") == ["  | A | B |\n  |--|--|"]


@pytest.mark.parametrize("end", ["# H", "- item", "> quote", "1. one", "```\na | b\n```", "", " "])
def test_another_block_ends_a_table(end):
    assert tables(f"| A | B |\n|---|---|\n| 1 | 2 |\n{end}\n| 3 | 4 |\n") == [
        "| A | B |\n|---|---|\n| 1 | 2 |"
    ]


def test_what_only_looks_like_a_table_is_none():
    assert tables("```\n| A |\n|---|\n```\n") == []
    assert tables("| A | B |\n|---|\n") == []
    assert tables("| A | B |\n| 1 | 2 |\n") == []
    assert tables("# A | B\n|---|---|\n") == []
    assert tables("Text\n---|---\n") == []
    assert tables("|---|---|\n") == []


@pytest.mark.parametrize(
    "caption",
    ["Table 3: Sales\n", "**Table 3:** Sales\n\n", "Table 3: Sales of\nall regions\n\n\n"],
)
def test_a_caption_right_above_belongs_to_a_pipe_table(caption):
    table = "| A | B |\n|---|---|\n| 1 | 2 |"
    assert tables(f"Text.\n\n{caption}{table}\n") == [f"{caption}{table}"]


@pytest.mark.parametrize(
    "above", ["Table 3 shows it.\n\n", "# Table 3: Sales\n\n", "Table 3: Sales\n\nText.\n\n"]
)
def test_what_else_stands_above_does_not(above):
    table = "| A | B |\n|---|---|\n| 1 | 2 |"
    assert tables(f"{above}{table}\n") == [table]


def test_a_row_of_one_table_is_no_caption_of_the_next():
    table = "| A | B |\n|---|---|\n| Table 1 | 2 |\nTable 1: x"
    assert tables(f"{table}\n\n{table}\n") == [table, table]


def test_html_tables_are_marked_where_they_hold_data():
    text = "Text <table><tr><td>A<td>[B](b.md)</tr><tr><td>-<td>-</tr></table> and\n\n| C | D |\n|--|--|\n"
    assert tables(text) == ["A | B\n- | -", "| C | D |\n|--|--|"]
    assert load(text).text == "Text A | B\n- | - and\n\n| C | D |\n|--|--|\n"
    dashes = "<table><tr><td>A<td>B</tr><tr><td>-<td>-</tr></table>\n\nText.\n"
    assert tables(dashes) == ["A | B\n- | -"]
    assert tables("<table><tr><td>One</table>\n\n<table><tr><td></table>") == []
    assert load("\ufdd2a\ufdd3\ufdd3 | \ufdd2").text == "a | "


def test_tables_stand_where_links_and_front_matter_have_gone():
    table = "| [A](a.md) | B |\n|---|---|\n| [1](b.md) | [2](http://x.y) |"
    document = load(f"---\nkey: value\n---\n[Link](c.md) here.\n\n{table}\n\nBehind.\n")
    (span,) = document.tables
    assert span.of(document.text) == "| A | B |\n|---|---|\n| 1 | 2 |"
    assert [link.target for link in document.links] == ["c.md", "a.md", "b.md"]
