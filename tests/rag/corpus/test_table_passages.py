"""Tables as passages: parts and rows by hand, invariants on any table, edges, errors."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.loaders import markdown, records, tables
from rag.corpus.loaders.outline import Outline
from rag.corpus.nesting import covers
from rag.corpus.table_passages import TableChunker
from rag.records import Document, Link, Span

CUPS = "Stanley Cups,,\nTeam,Location,Cups\nBlues,STL,1\nFlyers,PHI,2\n"
SALES = (
    "# Report\n\nText before.\n\n## 2023\n\nTable 3: Sales by region\n\n"
    "| Region | Sales |\n|---|---|\n| North | 1.5 Mio. Up. |\n| South | 2 |\n\nText behind.\n"
)


def csv(text):
    return tables.load_csv(text.encode(), "d/a.csv", "a")[0]


def parsed(text):
    return markdown.load(text.encode(), "d/a.md", "a")[0]


def barred(count, name="n"):
    """A document that is one table of so many rows of four words."""
    lines = ["Name | Number | Note", *(f"{name}{row} | {row} | some note" for row in range(count))]
    text = "\n".join(lines)
    return Document("d", text, "T", tables=(Span(0, len(text)),))


def test_rows_that_name_their_columns():
    whole, first, second = TableChunker()(csv(CUPS))
    assert whole.text == (
        "Stanley Cups\n\nTeam: Blues; Location: STL; Cups: 1.\nTeam: Flyers; Location: PHI; Cups: 2."
    )
    assert [span.of(whole.text) for span in whole.sentences] == [
        "Stanley Cups\n\n", "Team: Blues; Location: STL; Cups: 1.\n",
        "Team: Flyers; Location: PHI; Cups: 2.",
    ]  # fmt: skip
    assert first.text == "Team: Blues; Location: STL; Cups: 1."
    assert [p.id for p in (whole, first, second)] == ["d/a.csv:t0", "d/a.csv:r0", "d/a.csv:r1"]
    assert {p.title for p in (whole, first, second)} == {"a > Stanley Cups"}
    assert (whole.parent, first.parent, second.parent) == ("d/a.csv", "d/a.csv:t0", "d/a.csv:t0")
    assert (whole.previous, whole.next) == (None, None)
    assert (first.previous, first.next, second.previous) == (None, second.id, first.id)


def test_a_table_in_a_text_takes_caption_and_columns_into_its_title():
    document = parsed(SALES)
    whole, north, south = TableChunker()(document)
    assert whole.text == document.text[document.text.index("Table 3") :].split("\n\nText")[0]
    assert whole.title == north.title == "Report > Table 3: Sales by region > Region | Sales"
    assert (whole.parent, north.parent) == ("d/a.md#1", "d/a.md:t0")
    assert [span.of(whole.text) for span in whole.sentences] == [
        "Table 3: Sales by region\n\n", "| Region | Sales |\n|---|---|\n",
        "| North | 1.5 Mio. Up. |\n", "| South | 2 |",
    ]  # fmt: skip
    assert north.text == "| North | 1.5 Mio. Up. |"
    assert north.sentences == (Span(0, len(north.text)),)
    assert south.text == "| South | 2 |"
    assert {p.modality for p in (whole, north, south)} == {"table"}
    assert north.metadata == document.metadata


def test_without_a_caption_the_headings_are_in_the_title():
    document = parsed(SALES.replace("Table 3: Sales by region\n\n", ""))
    assert TableChunker()(document)[0].title == "Report > 2023 > Region | Sales"
    first = parsed("| A | B |\n|---|---|\n| 1 | 2 |\n\n# Later\n")
    assert [p.title for p in TableChunker()(first)] == ["Later > A | B"] * 2
    assert {p.parent for p in TableChunker(rows=False)(first)} == {"d/a.md"}


def test_a_long_text_above_the_rows_is_no_title():
    text = "Long story. " * 30 + "\nA | B | C\n1 | 2 | 3\n4 | 5 | 6"
    (document,) = records.load(
        b'{"id": "x", "title": "T", "modality": "table", "text": "%s"}'
        % text.replace("\n", "\\n").encode(),
        "f",
        "f",
    )
    whole, *rows = TableChunker()(document)
    assert whole.title == "T > A | B | C"
    assert len(whole.sentences) == 33
    assert [row.text for row in rows] == ["1 | 2 | 3", "4 | 5 | 6"]


def test_names_of_very_many_columns_are_cut():
    names = " | ".join(f"column {n}" for n in range(100))
    text = f"{names}\n{' | '.join('x' * 100)}\n{' | '.join('y' * 100)}"
    document = Document("d", text, "T", tables=(Span(0, len(text)),))
    title = TableChunker()(document)[1].title
    assert title == "T > " + " | ".join(f"column {n}" for n in range(30))


def test_a_long_table_is_cut_between_rows():
    passages = TableChunker(words=50, rows=False)(barred(30))
    sizes = [len(p.sentences) for p in passages]
    assert sum(sizes) == 31
    assert all(len(p.text.split()) <= 50 for p in passages)
    assert [p.text.split("\n")[0][:4] for p in passages[:2]] == ["Name", "n7 |"]
    assert [p.next for p in passages] == [*(p.id for p in passages[1:]), None]
    assert {p.title for p in passages} == {"T > Name | Number | Note"}


def test_each_row_s_parent_is_the_part_that_holds_it():
    passages = TableChunker(words=20)(barred(30))
    by_id = {p.id: p for p in passages}
    rows = [p for p in passages if ":r" in p.id]
    assert len(rows) == 30
    assert all(covers(by_id[row.parent], row) for row in rows)
    assert len({row.parent for row in rows}) > 3
    assert [row.next for row in rows] == [*(row.id for row in rows[1:]), None]


def test_a_caption_and_header_go_with_the_first_row():
    text = "Table 1: Things\nName | Number | Note\nn0 | 0 | " + "word " * 60
    text = f"{text.rstrip()}\nn1 | 1 | short"
    document = Document("d", text, "T", tables=(Span(0, len(text)),))
    first = TableChunker(words=40, rows=False)(document)[0]
    assert first.text.startswith("Table 1: Things\nName | Number | Note\nn0")


def test_a_longer_caption_goes_with_the_first_row_too():
    caption = f"Table 1: {'caption ' * 12}"
    text = f"{caption}\nName | Number | Note\nn0 | 0 | {'word ' * 26}\nn1 | 1 | {'word ' * 26}"
    document = Document("d", text, "T", tables=(Span(0, len(text)),))
    passages = TableChunker(words=40, rows=False)(document)
    assert [p.text[:5] for p in passages] == ["Table", "n1 | "]


def test_a_row_is_cut_only_past_twice_the_words():
    def rows(count):
        text = f"Name | Number | Note\nx | {'word ' * count}| y\nz | 1 | 2"
        document = Document("d", text, "T", tables=(Span(0, len(text)),))
        parts = TableChunker(words=10, rows=False)(document)
        assert all(len(p.text.split()) <= 20 for p in parts)
        return [len(s.of(p.text).split()) for p in parts for s in p.sentences]

    assert rows(16) == [5, 20, 5]
    assert rows(17) == [5, 10, 10, 1, 5]


def test_tables_are_numbered_over_the_document():
    table = "| A | B |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n"
    passages = TableChunker()(parsed(f"{table}# H\n\n{table}"))
    assert [p.id.split(":")[1] for p in passages] == ["t0", "r0", "r1", "t1", "r2", "r3"]
    assert [p.next and p.next.split(":")[1] for p in passages] == [
        None, "r1", None, None, "r3", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("A,B\n", ["t0"]),  # a header alone
        ("A,B\n1,2\n", ["t0"]),  # the only row is all of the table
        ("Caption,\nA,B\n1,2\n", ["t0", "r0"]),
        ("A\nx\ny\n", ["t0", "r0", "r1"]),
    ],
)
def test_small_tables(text, ids):
    assert [p.id.split(":")[1] for p in TableChunker()(csv(text))] == ids


def test_a_header_and_one_row():
    whole, row = TableChunker()(parsed("| A | B |\n|---|---|\n| 1 | 2 |\n"))
    assert (len(whole.sentences), row.text) == (2, "| 1 | 2 |")
    (alone,) = TableChunker()(parsed("| A | B |\n|---|---|\n"))
    assert (len(alone.sentences), alone.text) == (1, "| A | B |\n|---|---|")


def test_a_single_cell_among_rows_has_no_passage_of_its_own():
    text = "A | B | C\nWest\na | 1 | 2\nEast\nb | 3 | 4"
    document = Document("d", text, "T", tables=(Span(0, len(text)),))
    whole, *rows = TableChunker()(document)
    assert len(whole.sentences) == 5
    assert [row.text for row in rows] == ["a | 1 | 2", "b | 3 | 4"]


def test_documents_without_tables_have_no_passages():
    assert TableChunker()(Document("d", "Some | text", "T")) == []
    assert TableChunker()(Document("d", " \n ", "T", metadata={"modality": "table"})) == []
    assert TableChunker()(Document("d", "a\n \nb", "T", tables=(Span(1, 3),))) == []


def test_a_document_of_modality_table_that_marks_none_is_one():
    text = "A | B | C\n1 | 2 | 3\n4 | 5 | 6"
    document = Document("d", text, "T", metadata={"modality": "table"})
    assert [p.id for p in TableChunker()(document)] == ["d:t0", "d:r0", "d:r1"]


def test_links_and_pages_are_those_of_the_text():
    document = barred(3)
    at = document.text.index("n1")
    linked = Document(
        "d", document.text, "T", pages=(0, at), links=(Link(at, "x"),), tables=document.tables
    )
    rows = [p for p in TableChunker()(linked) if ":r" in p.id]
    assert [(p.page, p.links) for p in rows] == [(1, ()), (2, ("x",)), (2, ())]


def test_five_thousand_rows_have_five_thousand_passages():
    passages = TableChunker()(barred(5000))
    assert sum(":r" in p.id for p in passages) == 5000
    assert sum(len(p.sentences) for p in passages if ":t" in p.id) == 5001
    assert len({p.id for p in passages}) == len(passages)


def test_words_below_one_are_refused():
    with pytest.raises(ValueError, match="words must be at least 1, got 0"):
        TableChunker(words=0)


CELLS = st.sampled_from(
    [
        "",
        "a",
        "A text. With stops. And more!",
        "12",
        "x: y",
        "q; r",
        "1999",
        "word " * 9,
        "- b",
        "日本",
    ]
) | st.text(max_size=6)


@st.composite
def documents(draw):
    """Documents of paragraphs, headings and tables in every form that loaders write."""
    outline = Outline()
    for row in range(draw(st.integers(0, 4))):
        outline.heading(f"Heading {row}", draw(st.integers(1, 3)))
        outline.block(draw(st.sampled_from(["Text.", "Table 1: Caption", "", "Note:"])))
        cells = draw(st.lists(st.lists(CELLS, max_size=4), max_size=8))
        if draw(st.booleans()):
            outline.cells(cells)
        else:
            lines = ["; ".join(f"C{at}: {c}" for at, c in enumerate(line) if c) for line in cells]
            folded = [" ".join(line.split()) for line in lines]
            outline.table(folded, captions=draw(st.lists(CELLS, max_size=2)))
        outline.block(draw(st.sampled_from(["Behind.", ""])))
    return outline.document("d", "T", {})


@given(documents(), st.integers(1, 60))
def test_parts_cover_each_table_once_and_rows_stand_in_their_parts(document, words):
    passages = TableChunker(words)(document)
    parts = [p for p in passages if ":t" in p.id]
    assert len({p.id for p in passages}) == len(passages)
    assert all(p.text == p.span.of(document.text) for p in passages)
    assert all(a.span.end <= b.span.start for a, b in pairwise(parts))
    visible = {at for t in document.tables for at in range(t.start, t.end)}
    visible = {at for at in visible if not document.text[at].isspace()}
    covered = {at for p in parts for at in range(p.span.start, p.span.end)}
    assert visible == {at for at in covered if not document.text[at].isspace()}
    by_id = {p.id: p for p in parts}
    for p in passages:
        assert "".join(span.of(p.text) for span in p.sentences) == p.text
        assert all(span.of(p.text).strip() for span in p.sentences)
        assert len(p.text.split()) <= 2 * words
        assert p.modality == "table"
        if ":r" in p.id:
            assert covers(by_id[p.parent], p)
            assert p.span != by_id[p.parent].span
            assert len(p.sentences) == 1


@given(documents())
def test_without_rows_the_whole_tables_are_the_same(document):
    both = TableChunker()(document)
    assert TableChunker(rows=False)(document) == [p for p in both if ":t" in p.id]
