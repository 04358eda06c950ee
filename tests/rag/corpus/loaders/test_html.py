"""Web pages: clutter, headings, lists, tables, code, encodings."""

import pytest

from rag.corpus.loaders import html

pytest.importorskip("bs4")
pytest.importorskip("lxml")


def load(body, head=""):
    page = f"<html><head>{head}</head><body>{body}</body></html>"
    return html.load(page.encode(), "d/a.html", "a")[0]


def test_headings_paragraphs_lists_and_tables_are_read_in_order():
    document = load(
        "<h1>Guide</h1><p>One <b>bo</b>ld\n word<br>two</p><h2>Use <i>it</i></h2>"
        "<ul><li>a<ul><li>b</li></ul></li><li><p>c</p><p>d</p></li></ul>"
        "<table><caption>T</caption><tr><th>A<th>B</tr><tr><td>1<br>2<td><ul><li>x<li>y</ul></table>"
        "loose text<pre>if x:\n    y</pre>"
    )
    assert document.text == (
        "Guide\n\nOne bold word two\n\nUse it\n\n- a\n  - b\n- c\nd\n\n"
        "T\nA | B\n1 2 | x; y\n\nloose text\n\n    if x:\n        y"
    )
    assert [(s.level, s.title) for s in document.sections] == [(1, "Guide"), (2, "Use it")]
    assert all(document.text.startswith(s.title, s.start) for s in document.sections)
    assert document.title == "Guide"


def test_clutter_is_dropped():
    document = load(
        "<header>Logo</header><nav>Menu</nav><script>x()</script><style>.a{}</style><!-- no -->"
        "<aside>Ad</aside><p>Text<sup>[3]</sup> and 10<sup>2</sup>.</p><p hidden>no</p>"
        "<div role=navigation>no</div><form>no</form><footer>Imprint</footer>"
    )
    assert document.text == "Text and 10^2."


def test_only_the_main_part_is_read_and_keeps_the_heading_of_its_header():
    document = load("<p>Out</p><main><header><button>B</button><h1>T</h1></header><p>In</p></main>")
    assert document.text == "T\n\nIn"


def test_what_a_page_leaves_open_is_closed():
    assert load("<p>a<p>b<ul><li>c<li>d</ul><p>e").text == "a\n\nb\n\n- c\n- d\n\ne"


def test_deep_nesting_is_read():
    assert load("<div>" * 200 + "<p>Text" + "</div>" * 200).text == "Text"


def test_an_empty_main_part_is_passed_over():
    assert load("<main></main><p>Text</p>").text == "Text"


def test_the_title_is_the_first_heading_else_the_page_s_else_the_file_s():
    assert load("<p>x</p>", "<title> A\n title </title>").title == "A title"
    assert load("<h1>H</h1>", "<title>T</title>").title == "H"
    assert load("<p>x</p>").title == "a"


def test_layout_tables_are_read_as_text():
    assert load("<table><tr><td><h2>A</h2><p>one</p></td><td>two</td></tr></table>").text == (
        "A\n\none\n\ntwo"
    )


def test_a_declared_encoding_is_used():
    page = '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r"><p>Привет</p>'
    document = html.load(page.encode("koi8-r"), "d/a.html", "a")[0]
    assert document.text == "Привет"
    assert document.metadata == {"encoding": "koi8-r"}
    unknown = b'<meta charset="no-such"><p>\xe9</p>'
    assert html.load(unknown, "d/a.html", "a")[0].text == "é"


def test_no_warning_reaches_the_user():
    assert (
        html.load(b"<?xml version='1.0' encoding='utf-8'?><a>text</a>", "d/a.html", "a")[0].text
        == "text"
    )
    assert html.load(b"https://example.com/a", "d/a.html", "a")[0].text == "https://example.com/a"


def tables(document):
    return [table.of(document.text) for table in document.tables]


def test_data_tables_are_marked_with_their_captions():
    document = load(
        "<h1>H</h1><p>Text <a href=b.html>link</a></p><p>Table 1: One</p>"
        "<table><tr><th>A<th><a href=c.html>B</a></tr><tr><td>1<td>2</table>"
        "<p>x</p><table><caption>Cap</caption><tr><td>3<td>4</table>"
    )
    assert tables(document) == ["Table 1: One\n\nA | B\n1 | 2", "Cap\n3 | 4"]
    assert [link.target for link in document.links] == ["b.html", "c.html"]


def test_layout_tables_and_tables_of_single_cells_are_not_marked():
    assert load("<table><tr><td><h2>A</h2></td><td>two</td></tr></table>").tables == ()
    assert load("<table><tr><td>One</td></tr><tr><td>two</td></tr></table>").tables == ()
    nested = load("<table><tr><td><table><tr><td>1<td>2</table></td><td>out</td></tr></table>")
    assert tables(nested) == ["1 | 2"]
