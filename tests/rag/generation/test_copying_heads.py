"""Copying heads: counted by hand, by the definition, and what does not count."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.attention_citations import HEADS
from rag.generation.attention_mass import Unit
from rag.generation.copying_heads import CopyingHeads
from rag.records import Passage, Span

UNITS = (Unit("b", None), Unit("b", 0), Unit("a", None), Unit("a", 0), Unit("a", 1))


def passage_of(name, text):
    return Passage(name, f"{name}.md", text, Span(0, len(text)), (Span(0, len(text)),))


A = passage_of("a", "Backups run at two. They go to the attic.")
B = passage_of("b", "The lamp in the attic is red.")


def mass_to(*pairs, layers=2, heads=3):
    """A mass whose named heads look at passage a, the others at b, all most at the rest."""
    mass = torch.zeros(layers, heads, len(UNITS) + 1)
    mass[..., -1] = 0.5
    mass[..., 0], mass[..., 1] = 0.11, 0.11
    mass[..., 2:5] = 0.06
    for layer, head in pairs:
        mass[layer, head, 2:5] = 0.08
    return mass


def test_heads_that_look_at_what_is_copied_come_first():
    found = CopyingHeads()
    assert found.add(mass_to((1, 1), (0, 2)), UNITS, [A, B], "backups run at two")
    assert found.add(mass_to((1, 1)), UNITS, [B, A], "Two.")
    assert found.add(mass_to((1, 1), (0, 2), (1, 2)), UNITS, [A, B], "The red!")
    assert found.answers == 3
    assert found.best(1) == ((1, 1),), "right of all but the last"
    assert found.best(6) == ((1, 1), (0, 0), (0, 1), (0, 2), (1, 0), (1, 2))
    assert found.best(100) == found.best(6)
    assert found.best() == found.best(HEADS)


def test_all_units_of_a_passage_count_and_the_rest_does_not():
    found = CopyingHeads()
    found.add(mass_to((0, 1)), UNITS, [A, B], "They go")
    assert found.best(1) == ((0, 1),), "3 x 0.08 beats 2 x 0.11, though neither 0.5 nor 0.08"


@pytest.mark.parametrize(
    ("answer", "passages"),
    [
        ("attic", [A, B]),
        ("in the cellar", [A, B]),
        ("run two", [A, B]),
        ("", [A, B]),
        ("the...", [A, B]),
        ("the...", [B, passage_of("a", "The.")]),
        ("back", [A, B]),
    ],
)
def test_an_answer_that_is_not_in_just_one_passage_does_not_count(answer, passages):
    found = CopyingHeads()
    assert not found.add(mass_to((0, 0)), UNITS, passages, answer)
    assert found.answers == 0
    with pytest.raises(ValueError, match="no answer has its words in just one"):
        found.best()


def test_with_one_passage_there_is_nothing_to_tell_heads_apart():
    found = CopyingHeads()
    assert not found.add(torch.ones(2, 3, 3), (Unit("a", None), Unit("a", 0)), [A], "two")
    assert found.answers == 0


def test_a_passage_that_was_not_read_may_be_given():
    found = CopyingHeads()
    units = (Unit("b", 0),)
    assert found.add(torch.ones(2, 3, 2), units, [A, B], "backups")
    assert found.answers == 1


@given(seed=st.integers(0, 500), answers=st.integers(1, 6))
def test_counts_are_those_of_the_definition(seed, answers):
    draw = torch.Generator().manual_seed(seed)
    found, hits = CopyingHeads(), dict.fromkeys([(y, x) for y in range(2) for x in range(3)], 0)
    for row in range(answers):
        mass = torch.rand(2, 3, len(UNITS) + 1, generator=draw)
        gold = "ab"[row % 2]
        found.add(mass, UNITS, [A, B], {"a": "backups", "b": "lamp"}[gold])
        for layer, head in hits:
            given_to = dict.fromkeys("ab", 0.0)
            for column, unit in enumerate(UNITS):
                given_to[unit.passage] += float(mass[layer, head, column])
            hits[layer, head] += max(given_to, key=given_to.__getitem__) == gold
    assert found.best(6) == tuple(sorted(hits, key=lambda pair: (-hits[pair], pair)))


def test_counting_changes_no_mass_and_takes_half_precision():
    mass = mass_to((1, 0)).half()
    before = mass.clone()
    found = CopyingHeads()
    found.add(mass, UNITS, [A, B], "backups")
    found.add(mass, UNITS, [A, B], "backups")
    assert torch.equal(mass, before)
    assert found.best(1) == ((1, 0),)


def test_what_does_not_fit_is_refused():
    found = CopyingHeads()
    with pytest.raises(ValueError, match="units must be of the passages given, got b"):
        found.add(mass_to(), UNITS, [A], "two")
    found.add(mass_to(), UNITS, [A, B], "two")
    with pytest.raises(ValueError, match=r"mass must be \(2, 3\) layers .*, got \(3, 3\)"):
        found.add(mass_to(layers=3), UNITS, [A, B], "two")
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        found.best(0)
