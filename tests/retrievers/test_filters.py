"""Metadata filters: what each condition lets through, how they read, and mistakes by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrievers.filters import And, Compare, Filter, MetadataIndex, Not, Or

PAPERS = {
    "a": {"year": 2019, "lang": "en", "draft": False},
    "b": {"year": 2021, "lang": "de", "draft": True},
    "c": {"year": 2023.5, "lang": "en"},
    "d": {"lang": "fr", "draft": False},
}
INDEX = MetadataIndex(PAPERS.items())


def selected(given):
    return "".join(sorted(INDEX.select(Filter.parse(given))))


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, "abcd"),
        ({"lang": "en"}, "ac"),
        ({"lang": ["en", "fr"]}, "acd"),
        ({"lang": []}, ""),
        ({"lang": {"ne": "en"}}, "bd"),
        ({"lang": {"nin": ["en", "de"]}}, "d"),
        ({"year": {"gte": 2021}}, "bc"),
        ({"year": {"gt": 2019, "lt": 2023}}, "b"),
        ({"year": {"lte": 2019}}, "a"),
        ({"lang": {"gt": "de"}}, "acd"),
        ({"draft": True}, "b"),
        ({"year": {"exists": False}}, "d"),
        ({"year": {"exists": True}, "lang": "en"}, "ac"),
        ({"not": {"draft": True}}, "acd"),
        ({"not": {"year": {"gte": 2021}}}, "ad"),
        ({"or": [{"lang": "fr"}, {"year": 2019}]}, "ad"),
        ({"or": []}, ""),
        ({"and": [{"lang": "en"}, {"not": {"year": 2019}}]}, "c"),
    ],
)
def test_lets_through(given, ids):
    assert selected(given) == ids


def test_flags_and_numbers_are_not_alike():
    index = MetadataIndex({"a": {"x": 1}, "b": {"x": True}}.items())
    assert index.select(Filter.parse({"x": 1})) == {"a"}
    assert index.select(Filter.parse({"x": True})) == {"b"}
    assert index.select(Filter.parse({"x": 1.0})) == {"a"}


def test_the_same_set_comes_back_so_that_engines_know_it():
    wanted = Filter.parse({"lang": "en"})
    assert INDEX.select(wanted) is INDEX.select(Filter.parse({"lang": "en"}))


def test_two_filters_join():
    both = Filter.parse({"lang": "en"}) & Filter.parse({"year": 2019})
    assert INDEX.select(both) == {"a"}
    assert Filter.parse(both) is both


conditions = st.recursive(
    st.one_of(
        st.builds(Compare, st.just("year"), st.sampled_from(["eq", "ne", "gt", "lte"]), st.integers(2018, 2024)),
        st.builds(Compare, st.just("lang"), st.just("in"), st.lists(st.sampled_from(["en", "de"])).map(tuple)),
        st.builds(Compare, st.just("draft"), st.just("exists"), st.booleans()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)  # fmt: skip


@given(conditions)
def test_not_is_the_complement_and_and_is_the_intersection(node):
    one = INDEX.select(Filter(node))
    assert INDEX.select(Filter(Not(node))) == set(PAPERS) - one
    english = Filter.parse({"lang": "en"})
    assert INDEX.select(Filter(node) & english) == one & INDEX.select(english)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"yaer": 2019}, r"filter has no field 'yaer'; did you mean 'year'\? \(there are: draft, lang, year\)"),
        ({"year": "2019"}, r"filter.year must be number, as in the index, got '2019'"),
        ({"lang": [1]}, r"filter.lang must be text, as in the index, got 1"),
        ({"year": {"gtee": 1}}, r"filter.year has no operator 'gtee'; did you mean 'gte'\?"),
        ({"year": {}}, r"filter.year must hold an operator such as eq or gte, got none"),
        ({"year": None}, r"filter.year.eq must be text, a number or a flag, got None"),
        ({"year": float("nan")}, r"filter.year.eq must be a number, got nan"),
        ({"lang": {"in": "en"}}, r"filter.lang.in must be a list of values, got 'en'"),
        ({"draft": {"gt": True}}, r"filter.draft.gt must be a number or text, got True"),
        ({"draft": {"exists": 1}}, r"filter.draft.exists must be true or false, got 1"),
        ({"and": {"lang": "en"}}, r"filter.and must be a list of conditions, got"),
        ({"or": [3]}, r"filter.or\[0\] must map fields to conditions, got 3"),
        ([], r"filter must map fields to conditions, got \[\]"),
    ],
)  # fmt: skip
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        INDEX.select(Filter.parse(given))


def test_an_empty_corpus_has_no_unknown_fields():
    assert MetadataIndex([]).select(Filter.parse({"year": 1})) == frozenset()
