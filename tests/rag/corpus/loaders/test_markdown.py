"""Markdown: headings and what only looks like them, front matter, links, tables."""

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
