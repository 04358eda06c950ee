"""Chunking: documents by hand, coverage and limits on any document, headings, pages, errors."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.chunking import Chunker
from rag.corpus.loaders import markdown, python_topics
from rag.corpus.loaders.outline import Outline
from rag.records import Document, Section, Span


def parsed(text, name="notes"):
    return markdown.load(text.encode(), "folder/notes.md", name)[0]


def prose(count, word="word"):
    """Sentences of ten words each."""
    return " ".join(
        f"Sentence {n} has {word} " + "and more " * 2 + "for ten." for n in range(count)
    )


def test_a_short_document_is_one_passage_without_its_heading():
    document = parsed("# Guide\n\nFirst one. Second\none.\n\nThird.\n")
    (passage,) = Chunker()(document)
    assert passage.text == "First one. Second\none.\n\nThird."
    assert [span.of(passage.text) for span in passage.sentences] == [
        "First one. ", "Second\none.\n\n", "Third."
    ]  # fmt: skip
    assert passage.id == "folder/notes.md:0"
    assert passage.document == "folder/notes.md"
    assert passage.title == "Guide"
    assert passage.parent == "folder/notes.md#0"
    assert (passage.previous, passage.next, passage.page) == (None, None, None)
    assert passage.modality == "text"
    assert passage.metadata == document.metadata


def test_a_passage_stays_inside_its_section_and_carries_the_heading_path():
    text = f"# Guide\n\n{prose(5)}\n\n## Use\n\n{prose(5)}\n\nSetext\n---\n\n{prose(5)}\n"
    passages = Chunker()(parsed(text))
    assert [passage.title for passage in passages] == ["Guide", "Guide > Use", "Guide > Setext"]
    assert [passage.text for passage in passages] == [prose(5)] * 3
    assert [passage.parent[-2:] for passage in passages] == ["#0", "#1", "#2"]


def test_neighbours_are_linked_and_numbered():
    passages = Chunker(words=20)(parsed(prose(10)))
    ids = [passage.id for passage in passages]
    assert ids == [f"folder/notes.md:{n}" for n in range(5)]
    assert [passage.next for passage in passages] == [*ids[1:], None]
    assert [passage.previous for passage in passages] == [None, *ids[:-1]]
    assert {passage.parent for passage in passages} == {"folder/notes.md"}


def test_whole_sentences_fill_a_passage_and_the_last_two_are_balanced():
    sizes = [len(p.text.split()) for p in Chunker(words=40)(parsed(prose(9)))]
    assert sizes == [40, 20, 30]
    assert [len(p.text.split()) for p in Chunker(words=40)(parsed(prose(6)))] == [40, 20]


def test_small_sections_of_one_parent_are_joined_and_keep_their_headings():
    text = f"# Guide\n\n{prose(8)}\n\n## A\n\nShort.\n\n## B\n\nTiny.\n\n## C\n\n{prose(8)}\n"
    passages = Chunker(words=80)(parsed(text))
    assert [p.title for p in passages] == ["Guide", "Guide", "Guide > C"]
    assert passages[1].text == "## A\n\nShort.\n\n## B\n\nTiny."
    assert passages[1].parent == "folder/notes.md#1"


def test_a_small_section_is_not_joined_with_one_of_another_parent_or_page():
    text = f"# One\n\n## A\n\nShort.\n\n# Two\n\n{prose(3)}\n"
    assert [p.title for p in Chunker()(parsed(text))] == ["notes > One > A", "notes > Two"]
    sections = (Section(0, 1, "A"), Section(9, 1, "B"))
    slides = Document("d", "A\n\nText\n\nB\n\nText", "T", sections, pages=(0, 9))
    assert [(p.title, p.page) for p in Chunker()(slides)] == [("T > A", 1), ("T > B", 2)]
    same_page = Document("d", "A\n\nText\n\nB\n\nText", "T", sections, pages=(0,))
    assert [(p.title, p.page) for p in Chunker()(same_page)] == [("T", 1)]


def test_a_section_without_text_is_its_heading_unless_others_stand_below_it():
    document = parsed(f"# Guide\n\n## Empty\n\n## Full\n\n{prose(20)}\n")
    passages = Chunker()(document)
    assert [p.text for p in passages if p.title == "Guide"] == ["## Empty"]
    assert "Guide > Full" in {p.title for p in passages}


def test_a_section_that_begins_without_a_heading_line_loses_nothing():
    document = Document("d", "Body text.", "T", (Section(0, 1, "Not in the text"),))
    assert [(p.text, p.title) for p in Chunker()(document)] == [
        ("Body text.", "T > Not in the text")
    ]


def test_a_sentence_is_cut_only_past_twice_the_words():
    once = Document("d", "word " * 20, "T")
    assert len(Chunker(words=10)(once)) == 1
    long = Document("d", "word " * 21, "T")
    assert [len(p.text.split()) for p in Chunker(words=10)(long)] == [10, 11]
    longer = Document("d", "word " * 35, "T")
    assert [len(p.text.split()) for p in Chunker(words=10)(longer)] == [10, 10, 10, 5]
    unbroken = Document("d", "x" * 1000, "T")
    assert "".join(p.text for p in Chunker(words=10)(unbroken)) == "x" * 1000
    assert all(len(p.text) <= 24 * 20 for p in Chunker(words=10)(unbroken))


def test_scripts_without_spaces_are_counted_too():
    document = Document("d", "私はとても長い文を書きます。" * 100, "T")
    assert max(len(p.text) for p in Chunker(words=50)(document)) <= 100


def test_what_opens_the_next_sentence_goes_with_it():
    text = f"{prose(3)}\n\nAn example:\n\n    code = call(\n        argument)\n\n{prose(3)}"
    passages = Chunker(words=34)(Document("d", text, "T"))
    assert not any(p.text.endswith("An example:") for p in passages)
    assert any("An example:\n\n    code" in p.text for p in passages)


def test_an_opener_is_no_passage_and_stays_behind_where_there_is_no_room():
    text = f"{prose(1)}\n\nSee also this:\n\n{'word ' * 20}"
    sizes = [len(p.text.split()) for p in Chunker(words=12)(Document("d", text, "T"))]
    assert sizes == [10, 23]
    text = f"One two three four five six seven eight.\n\nSee also:\n\n{'word ' * 20}"
    sizes = [len(p.text.split()) for p in Chunker(words=10)(Document("d", text, "T"))]
    assert sizes == [10, 20]


def test_the_indentation_of_a_first_line_of_code_is_kept():
    (passage,) = Chunker()(parsed("# H\n\n    if x:\n        y = call(1)\n"))
    assert passage.text == "    if x:\n        y = call(1)"
    assert passage.sentences == (Span(0, len(passage.text)),)


def test_pages_are_those_on_which_passages_begin():
    text = f"{prose(3)}\n\n{prose(3)}\n\n{prose(3)}"
    size = len(prose(3)) + 2
    document = Document("d", text, "T", pages=(0, size, 2 * size))
    assert [p.page for p in Chunker(words=30)(document)] == [1, 2, 3]


def test_the_modality_is_the_document_s():
    document = Document("d", "Team: A; Cups: 1.", "T", metadata={"modality": "table"})
    assert Chunker()(document)[0].modality == "table"


@pytest.mark.parametrize("text", ["", " \n\n \t"])
def test_nothing_visible_makes_no_passages(text):
    assert Chunker()(Document("d", text, "T")) == []


def test_words_below_one_are_refused():
    with pytest.raises(ValueError, match="words must be at least 1, got 0"):
        Chunker(words=0)


def test_the_fingerprint_tells_chunkers_apart():
    assert Chunker().fingerprint == Chunker(120).fingerprint != Chunker(words=121).fingerprint


BLOCKS = [
    "Text. More text! Is it?", "- item\n- other", "    code = a.b\n    c.d", "```\na. B\n\nc\n```",
    "word " * 70, "x" * 2500, "日本語。" * 40, "\u2028 a", prose(4), "Opening:", "| a | b |", "  ",
]  # fmt: skip


@st.composite
def documents(draw):
    """Documents of headings, blocks and pages, and any text at all."""
    outline = Outline()
    for level, block in draw(
        st.lists(st.tuples(st.integers(-1, 3), st.sampled_from(BLOCKS) | st.text()), max_size=14)
    ):
        if level < 0:
            outline.page()
        if level > 0:
            outline.heading(f"Heading {level}", level)
        outline.block(block)
    return outline.document("d", "Heading 1", {})


@given(documents(), st.integers(1, 150))
def test_passages_cover_all_but_headings_once_in_order(document, words):
    passages = Chunker(words)(document)
    assert all(p.text == p.span.of(document.text) for p in passages)
    assert all(a.span.end <= b.span.start for a, b in pairwise(passages))
    covered = {at for p in passages for at in range(p.span.start, p.span.end)}
    headings = {at for s in document.sections for at in range(s.start, s.start + len(s.title))}
    visible = {at for at, char in enumerate(document.text) if not char.isspace()}
    assert visible - covered <= headings


@given(documents(), st.integers(1, 150))
def test_sentences_partition_each_passage_and_no_passage_is_too_long(document, words):
    passages = Chunker(words)(document)
    for p in passages:
        assert "".join(span.of(p.text) for span in p.sentences) == p.text
        assert all(span.of(p.text).strip() for span in p.sentences)
        assert p.text.lstrip(" \t") == p.text.strip()
        assert len(p.text.split()) <= 2 * words
        assert p.page is None or 1 <= p.page <= len(document.pages)
    assert [p.id for p in passages] == [f"d:{n}" for n in range(len(passages))]


def test_the_python_topics_are_chunked_with_clean_titles():
    documents = python_topics.load()
    passages = [p for document in documents for p in Chunker()(document)]
    assert len(passages) > 400
    assert not any(re.search(r"^([*=~-])\1{5,}$", p.text.split("\n")[0]) for p in passages)
    (assertion, *_) = (p for p in passages if p.document == "python/assert")
    assert assertion.title == 'The "assert" statement'
    assert assertion.text.startswith("Assert statements are a convenient way")


def test_a_stub_that_cannot_be_balanced_stays_with_its_neighbour():
    long, short = "Word " + "and word " * 18 + "end. ", "Bye."
    assert len(Chunker(words=40)(Document("d", long + short, "T"))) == 1


def test_spans_count_in_the_document():
    document = parsed(f"# T\n\n{prose(30)}")
    second = Chunker()(document)[1]
    assert second.span == Span(document.text.index(second.text), second.span.end)
