"""Long passages: whole documents, groups of sections, long sections, coverage, errors."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.chunking import Chunker
from rag.corpus.granularity import DocumentChunker
from rag.corpus.loaders import markdown
from rag.corpus.loaders.outline import Outline
from rag.records import Document, Link


def parsed(text, name="notes"):
    return markdown.load(text.encode(), "folder/notes.md", name)[0]


def prose(count):
    """Sentences of ten words each."""
    return " ".join(f"Sentence {n} has words and more and more for ten." for n in range(count))


def test_a_document_that_fits_is_one_passage_headings_included():
    document = parsed(f"\n# Guide\n\n{prose(2)}\n\n## Use\n\n{prose(2)}\n")
    (passage,) = DocumentChunker()(document)
    assert passage.text == document.text.strip()
    assert (passage.id, passage.title) == ("folder/notes.md:d0", "Guide")
    assert passage.parent == passage.document == "folder/notes.md"
    assert (passage.previous, passage.next, passage.modality) == (None, None, "text")
    assert passage.sentences[0].of(passage.text) == "# Guide\n\n"


def test_sections_after_each_other_share_a_passage_while_they_fit():
    text = "".join(f"# {name}\n\n{prose(2)}\n\n" for name in "ABCDE")
    passages = DocumentChunker(words=50)(parsed(text))
    assert [p.title for p in passages] == ["notes > A", "notes > C", "notes > E"]
    assert [p.text[:3] for p in passages] == ["# A", "# C", "# E"]
    assert [p.text.count("# ") for p in passages] == [2, 2, 1]
    assert [p.parent for p in passages] == [f"folder/notes.md#{row}" for row in (0, 2, 4)]
    ids = [p.id for p in passages]
    assert ids == [f"folder/notes.md:d{n}" for n in range(3)]
    assert [p.next for p in passages] == [*ids[1:], None]
    assert [p.previous for p in passages] == [None, *ids[:-1]]


def test_a_section_that_is_too_long_is_cut_at_the_sections_below_it():
    text = (
        f"# Guide\n\n{prose(1)}\n\n## A\n\n{prose(3)}\n\n## B\n\n{prose(3)}\n\n"
        f"## C\n\n{prose(1)}\n\n# End\n\n{prose(1)}\n"
    )
    passages = DocumentChunker(words=50)(parsed(text))
    assert [p.title for p in passages] == ["notes > Guide", "notes > Guide > B", "notes > End"]
    assert [p.text.count("#") for p in passages] == [3, 4, 1]


def test_a_long_section_without_sections_is_cut_between_sentences():
    passages = DocumentChunker(words=50)(parsed(f"# A\n\n{prose(12)}\n\n# B\n\n{prose(1)}\n"))
    assert [len(p.text.split()) for p in passages] == [42, 50, 30, 12]
    assert [p.title for p in passages] == [*["notes > A"] * 3, "notes > B"]
    alone = Document("d", prose(12), "T")
    by_chunker = [p.text for p in Chunker(words=50)(alone)]
    assert [p.text for p in DocumentChunker(words=50)(alone)] == by_chunker


def test_a_heading_alone_goes_with_the_long_text_below_it():
    text = f"# Top\n\n## A\n\n### Deep\n\n{prose(12)}\n"
    first, *others = DocumentChunker(words=50)(parsed(text))
    assert first.text.startswith("# Top\n\n## A\n\n### Deep\n\nSentence")
    assert first.title == "Top"
    assert {p.title for p in others} == {"Top"}
    text = f"# Top\n\n## A\n\n### Deep\n\n{prose(3)}\n\n### Other\n\n{prose(3)}\n"
    assert [p.text[:5] for p in DocumentChunker(words=50)(parsed(text))] == ["# Top", "### O"]


def test_only_text_has_documents_passages():
    for modality in ("table", "image", "video"):
        document = Document("d", "Text.", "T", metadata={"modality": modality})
        assert DocumentChunker()(document) == []
    assert DocumentChunker()(Document("d", "Text.", "T", metadata={"modality": "text"}))


def test_links_and_pages_are_those_of_the_text():
    text = f"{prose(3)}\n\n{prose(3)}"
    second = len(prose(3)) + 2
    document = Document("d", text, "T", pages=(0, second), links=(Link(3, "a"), Link(second, "b")))
    passages = DocumentChunker(words=30)(document)
    assert [(p.page, p.links) for p in passages] == [(1, ("a",)), (2, ("b",))]


def test_words_below_one_are_refused():
    with pytest.raises(ValueError, match="words must be at least 1, got 0"):
        DocumentChunker(words=0)


BLOCKS = [
    "Text. More text! Is it?", "- item\n- other", "    code = a.b", "word " * 70, prose(4),
    "Opening:", "| a | b |", "  ", "x" * 700, "日本語。" * 20,
]  # fmt: skip


@st.composite
def documents(draw):
    """Documents of headings and blocks."""
    outline = Outline()
    blocks = st.tuples(st.integers(0, 4), st.sampled_from(BLOCKS) | st.text(max_size=9))
    for row, (level, block) in enumerate(draw(st.lists(blocks, max_size=14))):
        if level:
            outline.heading(f"Heading {row}", level)
        outline.block(block)
    return outline.document("d", "Heading 1", {})


@given(documents(), st.integers(1, 150))
def test_passages_cover_all_visible_text_exactly_once_in_order(document, words):
    passages = DocumentChunker(words)(document)
    assert all(p.text == p.span.of(document.text) for p in passages)
    assert all(a.span.end <= b.span.start for a, b in pairwise(passages))
    covered = {at for p in passages for at in range(p.span.start, p.span.end)}
    assert {at for at, char in enumerate(document.text) if not char.isspace()} <= covered
    for p in passages:
        assert "".join(span.of(p.text) for span in p.sentences) == p.text
        assert all(span.of(p.text).strip() for span in p.sentences)
        assert p.text.lstrip(" \t") == p.text.strip()
        assert len(p.text.split()) <= 2 * words


@given(documents(), st.integers(1, 150))
def test_a_passage_over_the_limit_holds_one_section_and_headings_above_it(document, words):
    for p in DocumentChunker(words)(document):
        starts = [s.start for s in document.sections if p.span.start <= s.start < p.span.end]
        if len(p.text.split()) > words and starts:
            # All but the last section in it are short: they came with the long one.
            assert len(document.text[p.span.start : starts[-1]].split()) < words / 4


@given(documents())
def test_what_fits_is_one_passage(document):
    texts = [p.text.strip() for p in DocumentChunker(words=10_000)(document)]
    assert texts == ([document.text.strip()] if document.text.strip() else [])
