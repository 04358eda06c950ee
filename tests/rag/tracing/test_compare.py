"""Two runs: what is matched, and what differs between them."""

from hypothesis import given
from hypothesis import strategies as st

from rag.tracing import Trace
from rag.tracing.compare import as_text, changes, compare


def test_changes_are_word_by_word():
    assert changes("It runs at two.\nEnd\n", "It runs at three.\nEnd\n") == (
        ("same", "It runs at "),
        ("old", "two"),
        ("new", "three"),
        ("same", ".\n"),
        ("same", "End\n"),
    )


@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=30))
def test_changes_make_up_both_texts(old, new):
    pieces = changes(old, new)
    assert "".join(text for kind, text in pieces if kind != "new") == old
    assert "".join(text for kind, text in pieces if kind != "old") == new


def test_very_long_changed_places_are_not_compared_word_by_word():
    old, new = "a b " * 2000, "b a " * 2000
    assert changes(old, new) == (("old", old), ("new", new))


def test_what_differs_between_two_runs(build):
    old = build.run(overrides=["k=1"], seed=0)
    new = build.run(kept=(0.9, 0.8, 0.2), ids=("a.md:0", "c.md:0"), seed=0, inputs={"query": "q"})
    found = compare(old, new)
    assert found.settings == (("overrides", '["k=1"]', "–"), ("inputs.query", "–", "q"))
    assert (found.only_old, found.only_new) == (("b.md:0",), ("c.md:0",))
    assert [(s.text, s.old_kept, s.old_score, s.new_score) for s in found.sentences] == [
        ("The lamp is red.", False, 0.1, 0.8),
        ("They go to the attic.", True, 0.6, 0.2),
    ]
    assert found.prompts == found.answers == ()
    assert {t.ratio for t in found.timings if t.path.startswith("loop")} == {1.0}


def test_a_step_of_one_run_only_has_no_ratio(build):
    found = compare(build.run(), Trace())
    timings = {timing.path: timing for timing in found.timings}
    assert timings["loop[0]/prune"].new_ms is None
    assert timings["loop[0]/prune"].ratio is None
    assert "loop[0]/prune        20.0 ms           –" in as_text(found)


def test_a_run_equals_itself(trace):
    found = compare(trace, trace)
    assert not any((found.settings, found.only_old, found.only_new, found.sentences, found.answers))
    assert {timing.ratio for timing in found.timings} == {1.0}


def test_the_text_says_which_sentence_and_word_changed(build):
    new = build.run(kept=(0.9, 0.8, 0.6), said="They run at three. It is late.")
    text = as_text(compare(build.run(), new))
    assert "+ loop[0]/prune, a.md:0 (0.100 → 0.800): The lamp is red." in text
    assert "answer of loop[0]/generate:\nThey run at [-two-]{+three+}. It is late." in text
