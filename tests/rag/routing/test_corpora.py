"""Routes to corpora: fallbacks by hand, what always holds, and routers for other labels."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Route
from rag.routing.corpora import CorpusRouter
from rag.routing.labels import MODALITIES

ALL = tuple(label for label in MODALITIES if label != "none")
unsure = partial(CorpusRouter, policy="unsure", threshold=0.8)


def routed(router, *labels, **probs):
    return router(Route(labels, probs, "test"))


def test_a_sure_route_stays_as_it_is():
    route = Route(("table",), {"table": 0.9, "paragraph": 0.1}, "test")
    assert unsure(ALL)(route) == route


def test_an_unsure_route_takes_the_two_best():
    found = routed(unsure(ALL), "table", table=0.6, paragraph=0.25, none=0.15)
    assert (found.labels, found.fallback, found.reason) == (("table", "paragraph"), False, "")
    three = routed(unsure(ALL, most=3), "table", table=0.6, paragraph=0.25, image=0.15)
    assert three.labels == ("table", "paragraph", "image")


def test_by_default_labels_add_up_to_nine_tenths():
    found = routed(CorpusRouter(ALL), "table", table=0.6, paragraph=0.31, image=0.09)
    assert found.labels == ("table", "paragraph")


def test_none_goes_alone():
    router = unsure(("paragraph",))
    assert routed(router, "none", none=0.9, paragraph=0.1).labels == ("none",)
    assert routed(router, "none", none=0.45, paragraph=0.3, table=0.25).labels == ("paragraph",)
    assert routed(router, "paragraph", none=0.4, paragraph=0.6).labels == ("paragraph",)
    assert routed(router, "none").labels == ("none",)


def test_an_empty_corpus_gives_way_to_its_modality_first():
    router = CorpusRouter(("paragraph", "table", "document"), empty=("image",), policy="single")
    probs = {"clip": 0.1, "paragraph": 0.1, "document": 0.3, "table": 0.5}
    found = CorpusRouter(("paragraph", "table"), policy="single")(Route(("document",), probs))
    assert found.labels == ("paragraph",)
    assert found.reason == "document has no passages: paragraph instead"
    assert found.fallback
    found = router(Route(("image",), {"image": 0.9, "paragraph": 0.02, "table": 0.08}, "test"))
    assert found == Route(
        ("table",), {"image": 0.9, "paragraph": 0.02, "table": 0.08}, "test", fallback=True,
        reason="image has no passages: table instead",
    )  # fmt: skip


def test_a_corpus_that_stays_is_enough_where_another_is_empty():
    found = routed(unsure(("paragraph", "clip")), "image", image=0.5, paragraph=0.4, clip=0.1)
    assert found.labels == ("paragraph",)
    assert (found.fallback, found.reason) == (True, "image has no passages: left out")
    both = routed(unsure(("paragraph",)), "document", document=0.5, paragraph=0.4, clip=0.1)
    assert both.labels == ("paragraph",)
    assert both.reason == "document has no passages: paragraph instead"


def test_ties_go_to_the_first_corpus():
    found = routed(unsure(("video", "table")), "image", image=1.0)
    assert found.labels == ("video",)


def test_reasons_follow_the_routers_own():
    route = Route(("image",), {"image": 1.0}, reason="far from all that it knows")
    found = unsure(("table",))(route)
    assert found.reason == "far from all that it knows; image has no passages: table instead"
    assert "\n" not in found.reason


def test_a_route_without_a_label_goes_to_the_most_probable_corpus():
    found = routed(CorpusRouter(("paragraph", "table"), policy="single"), paragraph=0.3, table=0.7)
    assert found.labels == ("table",)
    assert found.reason == "the router named no label: table is the most probable"
    high = CorpusRouter(("paragraph", "table"), policy="threshold", threshold=0.8)
    found = routed(high, paragraph=0.3, table=0.7)
    assert (found.labels, found.reason) == (("table",), "no label reaches 0.8: table all the same")
    nothing = unsure(("paragraph", "table"))(Route(()))
    assert nothing.labels == ("paragraph",)
    assert nothing.reason == "the router named no label: paragraph instead"
    assert nothing.fallback
    high = CorpusRouter(("paragraph", "table"), policy="threshold", threshold=0.9)
    found = routed(high, "table", table=0.7, paragraph=0.3)
    assert (found.labels, found.fallback) == (("table",), True)


def test_a_label_that_no_corpus_has_counts_as_missing_beside_one_that_some_has():
    found = routed(unsure(("paragraph",)), "math", math=0.9, paragraph=0.1)
    assert (found.labels, found.fallback) == (("paragraph",), True)
    assert found.reason == "math is no corpus: paragraph instead"


def test_corpora_may_have_labels_of_their_own():
    router = unsure(("law", "wiki"), modalities={"law": "text", "wiki": "text"})
    assert routed(router, "law", law=0.9, wiki=0.1).labels == ("law",)
    gone = CorpusRouter(("wiki",), ("law",), {"law": "text", "wiki": "text"}, policy="single")
    assert routed(gone, "law", law=0.9).reason == "law has no passages: wiki instead"


@pytest.mark.parametrize("none", [{}, {"none": 0.2}])
def test_a_router_for_other_labels_is_refused(none):
    said = (
        r"route must be over labels of notes\.idx \(paragraph, image\), got a router of "
        "math, physics"
    )
    router = unsure(("paragraph",), ("image",), {}, place="notes.idx")
    with pytest.raises(ValueError, match=said):
        routed(router, "math", math=0.5, physics=0.3, **none)


def test_corpora_that_are_all_empty_are_refused_with_their_folder():
    said = r"got none in notes\.idx \(empty: paragraph, table\)"
    with pytest.raises(ValueError, match=said):
        unsure((), ("paragraph", "table"), place="notes.idx")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy": "two"}, "policy must be one of"),
        ({"threshold": -0.1}, r"threshold must be in \[0, 1\]"),
        ({"most": 0}, "most must be at least 1"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        unsure(("table",), **settings)


some_labels = st.lists(st.sampled_from([*MODALITIES, "math"]), unique=True, max_size=3)


@given(
    st.lists(st.sampled_from(ALL), unique=True, min_size=1),
    some_labels,
    st.dictionaries(st.sampled_from([*MODALITIES, "math"]), st.floats(0.01, 1)),
    st.sampled_from(["single", "threshold", "top_p", "all", "unsure"]),
    st.floats(0, 1),
)
def test_always_asks_corpora_with_passages_or_none_alone(corpora, labels, probs, policy, threshold):
    router = CorpusRouter(tuple(corpora), policy=policy, threshold=threshold)
    route = Route(tuple(labels), probs, "test")
    if {*labels, *probs} - {"none"} == {"math"}:
        with pytest.raises(ValueError, match="got a router of math"):
            router(route)
        return
    found = router(route)
    assert found.labels == ("none",) or (found.labels and set(found.labels) <= set(corpora))
    assert len(set(found.labels)) == len(found.labels)
    assert (found.probs, found.source) == (route.probs, route.source)
    assert bool(found.reason) == found.fallback
    assert router.batch([route, route]) == [found, found]


def test_labels_that_lack_passages_are_told_in_one_piece():
    router = CorpusRouter(("paragraph",), policy="threshold", threshold=0.1)
    probs = {"paragraph": 0.2, "image": 0.3, "clip": 0.25, "table": 0.15, "math": 0.1}
    found = router(Route(("image",), probs))
    assert found.labels == ("paragraph",)
    assert found.reason == (
        "image, clip and table have no passages: left out; math is no corpus: left out"
    )
