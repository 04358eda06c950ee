"""Links: kept beside the text that loaders make, at the right place, and nowhere in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.record_lines import document_line, parse_document, parse_passage, passage_line
from rag.corpus import Chunker
from rag.corpus.loaders import html, markdown
from rag.corpus.loaders.links import link_mark, with_links
from rag.records import Document, Link, Section, Span


def of(document):
    return [(document.text[: link.start + 1][-4:], link.target) for link in document.links]


def test_markdown_keeps_targets_beside_the_text():
    text = (
        '# The [harbour](h.md)\n\nSee [the film](../a/film.md#cast "x"), ![a map](map.png), '
        "[the web](https://example.org), [up](#top) and `[code](no.md)`.\n\n## Next [one](b.md)\n"
    )
    (document,) = markdown.load(text.encode(), "notes/x.md", "x")
    assert document.text == (
        "# The harbour\n\nSee the film, a map, the web, up and `[code](no.md)`.\n\n## Next one\n"
    )
    assert of(document) == [("bour", "h.md"), ("film", "../a/film.md#cast"), (" one", "b.md")]
    assert [document.text[s.start :].split("\n")[0] for s in document.sections] == [
        "# The harbour",
        "## Next one",
    ]
    assert [section.title for section in document.sections] == ["The harbour", "Next one"]
    assert document.title == "The harbour"


def test_angle_brackets_in_or_around_a_target_hide_no_link():
    text = "See [host](https://example.org/<name>), [part](a<b>.md) and [there](<c.md>).\n"
    (document,) = markdown.load(text.encode(), "x.md", "x")
    assert document.text == "See host, part and there.\n"
    assert of(document) == [("part", "a<b>.md"), ("here", "c.md")]


def test_html_keeps_targets_beside_the_text():
    pytest.importorskip("bs4", reason="needs the extra 'docs'")
    page = (
        "<title>T</title><main><h1>Dead <a href='e.html'>Ernest</a></h1><p>By <a "
        "href='p taylor.html'>Phoebe Taylor</a>.</p><table><tr><td><a href='c.html'>cell</a>"
        "</td></tr></table><a href='https://example.org'>web</a><a>no</a></main>"
    )
    (document,) = html.load(page.encode(), "x.html", "x")
    assert "\ufdd0" not in document.text
    assert document.title == "Dead Ernest"
    assert of(document) == [
        ("nest", "e.html"), ("ylor", "p%20taylor.html"), ("cell", "c.html"),
    ]  # fmt: skip


def test_a_passage_has_the_links_of_its_span_and_lines_keep_them():
    text = (
        "# A\n\n" + "Words of [one](one.md). " * 3 + "\n\n# B\n\n" + "More of [two](two.md). " * 3
    )
    (document,) = markdown.load(text.encode(), "x.md", "x")
    first, second = Chunker(words=10)(document)[:2]
    assert set(first.links) == {"one.md"}
    assert sum(len(p.links) for p in Chunker(words=10)(document)) == 6
    assert second.links
    assert parse_document(document_line(document)) == document
    assert parse_passage(passage_line(first)) == first


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.booleans()), max_size=8), st.data())
def test_offsets_are_those_of_the_text_without_marks(parts, data):
    marked = "".join(text + (link_mark("t.md") if link else "") for text, link in parts)
    plain = "".join(text for text, _ in parts)
    prefix = data.draw(st.integers(0, len(parts)))
    start = len("".join(t + (link_mark("t.md") if link else "") for t, link in parts[:prefix]))
    document = with_links(Document("d", marked, "d", (Section(start, 1, "s"),), (start,)))
    assert document.text == plain
    assert document.sections[0].start == len("".join(text for text, _ in parts[:prefix]))
    assert document.pages == (document.sections[0].start,)
    lengths = [
        len("".join(t for t, _ in parts[: n + 1])) for n, (_, link) in enumerate(parts) if link
    ]
    assert document.links == tuple(Link(max(0, n - 1), "t.md") for n in lengths)


def test_tables_stand_where_links_have_gone():
    text = f"See{link_mark('a.md')} it.\nA{link_mark('b.md')} | B\n1 | 2{link_mark('c')}\nend"
    tables = (Span(0, 3), Span(text.index("A"), text.index("\nend")))
    document = with_links(Document("d", text, "T", tables=tables))
    assert [span.of(document.text) for span in document.tables] == ["See", "A | B\n1 | 2"]
