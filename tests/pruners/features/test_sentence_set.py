"""Relations of values: a hand-worked case, parity with their definitions, bridges, edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.features.asked import question_facts
from pruners.features.facts import passage_facts
from pruners.features.sentence_set import BRIDGES, RELATIONS, SentenceSet
from rag.records import Passage, Span


def passage(*sentences, title=""):
    text = " ".join(sentences)
    spans, start = [], 0
    for row, sentence in enumerate(sentences):
        end = start + len(sentence) + (row < len(sentences) - 1)
        spans.append(Span(start, end))
        start = end
    return Passage(title, title, text, Span(0, len(text)), tuple(spans), title=title)


def sentence_set(passages, vectors, query=(1.0, 0.0), question="who"):
    return SentenceSet(
        question_facts(question),
        np.array(query),
        [passage_facts(one) for one in passages],
        np.array(vectors, np.float32),
    )


def of_sizes(sizes, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(sum(sizes), 4))
    passages = [passage(*["word"] * size) for size in sizes]
    return sentence_set(passages, vectors, rng.normal(size=4)), rng


def named(names, columns):
    return {name: column.tolist() for name, column in zip(names, columns, strict=True)}


def test_relations_by_hand():
    sentences, _ = of_sizes([2, 1])
    found = named(RELATIONS, sentences.relations(np.array([0.5, 0.2, 0.9])))
    assert found["value"] == [0.5, 0.2, 0.9]
    assert found["to_passage_best"] == pytest.approx([0.0, -0.3, 0.0])
    assert found["to_passage_mean"] == pytest.approx([0.15, -0.15, 0.0])
    assert found["passage_to_best"] == pytest.approx([-0.4, -0.4, 0.0])
    assert found["to_other_passages"] == pytest.approx([-0.4, -0.7, 0.4])
    assert found["before"] == pytest.approx([0.0, 0.3, 0.0])
    assert found["after"] == pytest.approx([-0.3, 0.0, 0.0])
    assert found["log_rank"] == pytest.approx(np.log([2, 3, 1]))
    assert found["rank_share"] == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert found["log_passage_rank"] == pytest.approx(np.log([1, 2, 1]))


def relations_by_definition(values, sizes):
    """Read the definitions literally, a sentence at a time."""
    groups, start = [], 0
    for size in sizes:
        groups.append(values[start : start + size])
        start += size
    rows = []
    for place, group in enumerate(groups):
        others = [v for other, g in enumerate(groups) if other != place for v in g]
        for row, value in enumerate(group):
            rows.append(
                (
                    value,
                    value - max(group),
                    value - sum(group) / len(group),
                    max(group) - max(values),
                    value - (max(others) if others else min(values)),
                    group[row - 1] - value if row else 0.0,
                    group[row + 1] - value if row + 1 < len(group) else 0.0,
                    np.log1p(sum(v > value for v in values)),
                    sum(v > value for v in values) / len(values),
                    np.log1p(sum(v > value for v in group)),
                )
            )
    return np.array(rows)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    values=st.lists(st.integers(-3, 3), min_size=16, max_size=16),
)
def test_relations_match_their_definitions_ties_included(sizes, values):
    sentences, _ = of_sizes(sizes)
    some = [float(value) for value in values[: sum(sizes)]]
    found = np.column_stack(sentences.relations(np.array(some)))
    np.testing.assert_allclose(found, relations_by_definition(some, sizes), atol=1e-12)


def test_a_passage_alone_is_compared_with_the_least_of_itself():
    sentences, _ = of_sizes([3])
    found = named(RELATIONS, sentences.relations(np.array([3.0, 1.0, 2.0])))
    assert found["to_other_passages"] == [2.0, 0.0, 1.0]


def film_and_director():
    film = passage("Kiss is a film by Ann Lee.", "It ran long.", title="Kiss (1945 film)")
    director = passage("She was born in Cork.", title="Ann Lee")
    return film, director


def test_a_passage_named_by_a_strong_sentence_elsewhere_is_known():
    sentences = sentence_set(film_and_director(), [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    found = named(BRIDGES, sentences.bridges(sentences.cosine))
    spread = np.std([1.0, 0.6, 0.0])
    assert found["named_by_strong"] == pytest.approx([-6.0, -6.0, 0.0])
    assert found["names_strong"] == pytest.approx([-1.0 / spread, -6.0, -6.0], abs=1e-6)
    assert found["passage_strength"] == pytest.approx([0.0, 0.0, -1.0 / spread], abs=1e-6)
    assert found["like_any"] == pytest.approx([0.0, 0.8, 0.8], abs=1e-6)
    # The film's second sentence is 0.4 below the best and like the third one by 0.8.
    weak, alike = -0.4 / spread * 0.2 + 0.8, 0.0
    assert found["like_strong"][2] == pytest.approx(max(weak, alike), abs=1e-6)


def test_a_subject_is_found_as_whole_words_and_not_in_its_own_passage():
    one = passage("Kissing is fun.", "Kiss me.", title="Kiss")
    other = passage("A kisser is no Kis.", title="Other")
    sentences = sentence_set([one, other], [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert named(BRIDGES, sentences.bridges(sentences.cosine))["named_by_strong"] == [-6.0] * 3


def test_cosines_of_equal_sentences_are_equal_wherever_they_stand():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(97, 384)).astype(np.float32)
    vectors[[0, 31, 64, 96]] = vectors[5]
    sentences = sentence_set([passage(*["w"] * 97)], vectors, rng.normal(size=384))
    assert len({sentences.cosine[row] for row in (0, 5, 31, 64, 96)}) == 1


def test_a_long_passage_is_compared_with_its_strongest_sentences_alone():
    sentences, rng = of_sizes([40, 60])
    values = rng.normal(size=100)
    strong = np.argsort(-values)[:32]
    units = sentences.vectors
    wanted = [
        max([-1.0, *(float(units[i] @ units[j]) for j in strong if (i < 40) != (j < 40))])
        for i in range(100)
    ]
    found = named(BRIDGES, sentences.bridges(values))["like_any"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_thousand_equal_sentences_take_little_memory():
    sentences = sentence_set([passage(*["w"] * 1000)], np.ones((1000, 2)))
    found = sentences.bridges(sentences.cosine)
    assert all(np.isfinite(column).all() for column in found)
    assert len(sentences._near(sentences.cosine)) == 128
