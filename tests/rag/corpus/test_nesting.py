"""Nesting: rows, tables and documents by hand, ties, parity with the definition, outsiders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.nesting import Nesting, covers
from rag.records import Passage, Span


def passage(id_, start, end, document="d"):
    return Passage(id_, document, "x" * (end - start), Span(start, end), (Span(0, end - start),))


def family():
    return [
        passage("row", 40, 50),
        passage("paragraph", 35, 60),
        passage("table", 30, 60),
        passage("document", 0, 100),
        passage("astride", 45, 70),
    ]


def test_a_passage_covers_what_its_span_holds():
    assert covers(passage("a", 0, 10), passage("b", 2, 10))
    assert covers(passage("a", 0, 10), passage("b", 0, 10))
    assert not covers(passage("a", 0, 10), passage("b", 2, 11))
    assert not covers(passage("a", 3, 10), passage("b", 2, 9))
    assert not covers(passage("a", 0, 10, "d"), passage("b", 2, 9, "e"))


def test_the_parent_is_the_smallest_that_covers():
    nesting = Nesting(family())
    parents = {p.id: nesting.parent_of(p) for p in family()}
    assert parents == {
        "row": "paragraph", "paragraph": "table", "table": "document", "document": None,
        "astride": "document",
    }  # fmt: skip


def test_children_are_in_the_document_s_order():
    nesting = Nesting(family())
    children = {p.id: nesting.children_of(p) for p in family()}
    assert children == {
        "row": (), "paragraph": ("row",), "table": ("paragraph",),
        "document": ("table", "astride"), "astride": (),
    }  # fmt: skip


def test_of_passages_with_one_span_the_first_is_the_parent():
    same = [passage("a", 5, 9), passage("b", 5, 9), passage("c", 5, 9), passage("big", 0, 20)]
    nesting = Nesting(same)
    assert [nesting.parent_of(p) for p in same] == ["big", "a", "a", None]
    assert nesting.children_of(same[0]) == ("b", "c")


def test_of_two_as_short_the_first_given_is_the_parent():
    small, left, right = passage("s", 5, 6), passage("l", 2, 8), passage("r", 3, 9)
    assert Nesting([small, left, right]).parent_of(small) == "l"
    assert Nesting([small, right, left]).parent_of(small) == "r"


def test_documents_are_apart():
    nesting = Nesting([passage("a", 0, 9), passage("b", 2, 5, "e")])
    assert nesting.parent_of(passage("b", 2, 5, "e")) is None
    assert nesting.children_of(passage("a", 0, 9)) == ()


def test_a_passage_that_was_not_given_is_placed_among_those_that_were():
    nesting = Nesting(family())
    between = passage("new", 32, 60)
    assert nesting.parent_of(between) == "table"
    assert nesting.children_of(between) == ("paragraph",)
    assert nesting.children_of(passage("all", 0, 200)) == ("document",)
    assert nesting.parent_of(passage("copy", 0, 100)) == "document"
    assert nesting.children_of(passage("copy", 0, 100)) == ()
    elsewhere = passage("other", 0, 1, "elsewhere")
    assert (nesting.parent_of(elsewhere), nesting.children_of(elsewhere)) == (None, ())


def test_nothing_is_given():
    assert Nesting([]).parent_of(passage("a", 0, 1)) is None


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="ids of passages must be unique, got 'a' twice"):
        Nesting([passage("a", 0, 1), passage("a", 2, 3)])


def parent_by_definition(passages, row):
    """Compare with every other passage: slow, plain, sharing no code with Nesting."""
    mine = passages[row]
    best = None
    for other, big in enumerate(passages):
        holds = (
            other != row
            and big.document == mine.document
            and big.span.start <= mine.span.start
            and big.span.end >= mine.span.end
            and (big.span != mine.span or other < row)
        )
        if holds and (best is None or len(big.span) < len(passages[best].span)):
            best = other
    return None if best is None else passages[best].id


@st.composite
def families(draw):
    ends = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)
    spans = draw(st.lists(st.tuples(ends, st.sampled_from("de")), max_size=14))
    return [passage(f"p{row}", a, b, name) for row, ((a, b), name) in enumerate(spans)]


@given(families())
def test_parents_match_the_definition_and_children_are_their_inverse(passages):
    nesting = Nesting(passages)
    parents = [parent_by_definition(passages, row) for row in range(len(passages))]
    assert [nesting.parent_of(p) for p in passages] == parents
    for big in passages:
        below = {p.id for p, parent in zip(passages, parents, strict=True) if parent == big.id}
        assert set(nesting.children_of(big)) == below
        assert len(nesting.children_of(big)) == len(below)


@given(families())
def test_going_up_ends(passages):
    nesting = Nesting(passages)
    by_id = {p.id: p for p in passages}
    for p in passages:
        steps, at = 0, nesting.parent_of(p)
        while at is not None:
            steps, at = steps + 1, nesting.parent_of(by_id[at])
            assert steps < len(passages)


@given(families(), st.integers(0, 12), st.integers(0, 12))
def test_an_outsider_has_the_links_that_it_would_have_if_given_last(passages, a, b):
    new = passage("new", min(a, b), max(a, b))
    without, with_it = Nesting(passages), Nesting([*passages, new])
    assert without.parent_of(new) == with_it.parent_of(new)
    assert set(without.children_of(new)) == set(with_it.children_of(new))
