"""Citations from attention: shares of an answer's tokens by hand, and what is cited by them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.attention_citations import (
    DEFAULT_HEADS,
    HEADS,
    AnswerAttention,
    AttentionMatcher,
    default_heads,
)
from rag.generation.attention_mass import Unit
from rag.records import Attention, Passage, Selection, SentenceScore, Span, text_sha

UNITS = (Unit("b", None), Unit("b", 0), Unit("a", None), Unit("a", 0), Unit("a", 1))


def passage_of(*pieces, name="a", kept=None):
    ends = [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]
    spans = tuple(Span(e - len(p), e) for p, e in zip(pieces, ends, strict=True))
    text = "".join(pieces)
    passage = Passage(name, f"{name}.md", text, Span(0, len(text)), spans, page=3)
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, kept=row in kept) for row, s in enumerate(spans))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test"))


A = passage_of("Backups run at two. ", "They go to the attic.")
B = passage_of("The lamp is red.", name="b")
C = passage_of("Nobody read this.", name="c")


def mass_of(*columns, layers=2, heads=2):
    """The same mass in every layer and head."""
    return torch.tensor(columns).expand(layers, heads, len(columns))


def attention_of(*tokens, heads=None):
    """Attention to `UNITS` of tokens that are given as (end of the text, mass of each unit)."""
    found = AnswerAttention(UNITS, heads)
    for end, *columns in tokens:
        found.add(mass_of(*columns, 1 - sum(columns)), end)
    return found


def shares(found):
    return {one.passage_id: pytest.approx(one.share) for one in found}


def test_shares_are_of_what_went_to_passages():
    found = attention_of((5, 0.04, 0.16, 0.05, 0.1, 0.05)).of([A, B])
    assert shares(found) == {"a": 0.5, "b": 0.5}
    assert found[0].sentences == pytest.approx((0.25, 0.125)), "the header belongs to none"
    assert found[1].sentences == pytest.approx((0.4,))


def test_passages_stand_in_the_order_asked_for_and_one_that_was_not_read_has_nothing():
    found = attention_of((5, 0.0, 0.1, 0.0, 0.1, 0.2)).of([C, B, A])
    assert [one.passage_id for one in found] == ["c", "b", "a"]
    assert found[0] == Attention("c", 0.0, (0.0,))


def test_tokens_add_up_by_their_mass():
    found = attention_of((3, 0, 0.3, 0, 0, 0), (5, 0, 0, 0, 0.1, 0.0)).of([A, B])
    assert shares(found) == {"a": 0.25, "b": 0.75}


def test_a_span_has_the_tokens_that_end_in_it():
    seen = attention_of(
        (3, 0, 0.5, 0, 0, 0), (6, 0, 0, 0, 0.5, 0), (7, 0, 0, 0, 0, 0.5), (9, 0, 0.25, 0, 0.25, 0)
    )
    assert shares(seen.of([A, B], Span(0, 3))) == {"a": 0.0, "b": 1.0}
    assert shares(seen.of([A, B], Span(3, 7))) == {"a": 1.0, "b": 0.0}
    assert seen.of([A, B], Span(3, 7))[0].sentences == pytest.approx((0.5, 0.5))
    assert shares(seen.of([A, B], Span(5, 9))) == {"a": pytest.approx(1.25 / 1.5), "b": 1 / 6}
    assert shares(seen.of([A, B], Span(0, 9))) == shares(seen.of([A, B]))


def test_a_token_that_shows_nothing_belongs_to_the_next_that_does():
    b, a = (0, 0.5, 0, 0, 0), (0, 0, 0, 0.5, 0)
    seen = attention_of((0, *a), (0, *a), (3, *b), (3, *a), (3, *a), (6, *b), (6, *a))
    assert shares(seen.of([A, B], Span(0, 3))) == {"a": 2 / 3, "b": 1 / 3}
    assert shares(seen.of([A, B], Span(3, 6))) == {"a": 3 / 4, "b": 1 / 4}, "the last one too"
    assert shares(seen.of([A, B])) == {"a": 5 / 7, "b": 2 / 7}


def test_only_the_heads_that_were_picked_count():
    mass = torch.zeros(2, 3, len(UNITS) + 1)
    mass[0, 2, 1], mass[1, 0, 3], mass[1, 2, 4] = 0.6, 0.2, 0.9
    found = AnswerAttention(UNITS, ((0, 2), (1, 0)))
    found.add(mass, 4)
    assert shares(found.of([A, B])) == {"a": 0.25, "b": 0.75}
    alone = AnswerAttention(UNITS, ((1, 2),))
    alone.add(mass, 4)
    assert alone.of([A, B])[0].sentences == (0.0, pytest.approx(1.0))
    every = AnswerAttention(UNITS)
    every.add(mass, 4)
    assert shares(every.of([A, B])) == {"a": 1.1 / 1.7, "b": 0.6 / 1.7}


@pytest.mark.parametrize("tokens", [(), ((4, 0.0, 0.0, 0.0, 0.0, 0.0),)])
def test_without_attention_every_share_is_zero(tokens):
    assert attention_of(*tokens).of([A, B]) == (
        Attention("a", 0.0, (0.0, 0.0)),
        Attention("b", 0.0, (0.0,)),
    )
    assert attention_of(*tokens).of([], Span(0, 4)) == ()


def test_a_span_in_which_no_token_ends_has_nothing():
    seen = attention_of((3, 0, 0.5, 0, 0, 0), (9, 0, 0.5, 0, 0, 0))
    assert shares(seen.of([A, B], Span(4, 7))) == {"a": 0.0, "b": 0.0}


def test_without_units_there_is_nothing_to_share():
    found = AnswerAttention(())
    found.add(torch.ones(2, 2, 1), 4)
    assert found.of([A]) == (Attention("a", 0.0, (0.0, 0.0)),)


@given(
    seed=st.integers(0, 999),
    tokens=st.integers(1, 6),
    heads=st.sampled_from([None, ((0, 1),), ((0, 0), (1, 2), (1, 1))]),
)
def test_shares_are_those_of_the_definition(seed, tokens, heads):
    draw = torch.Generator().manual_seed(seed)
    masses = torch.rand(tokens, 2, 3, len(UNITS) + 1, generator=draw, dtype=torch.float64)
    found = AnswerAttention(UNITS, heads)
    for row, mass in enumerate(masses):
        found.add(mass, row + 1)
    picked = heads or [(layer, head) for layer in range(2) for head in range(3)]
    want = [0.0] * len(UNITS)
    for mass in masses.tolist():
        for layer, head in picked:
            for column in range(len(UNITS)):
                want[column] += mass[layer][head][column]
    whole = sum(want)
    a, b = found.of([A, B])
    assert (a.share, b.share) == pytest.approx((sum(want[2:]) / whole, sum(want[:2]) / whole))
    assert a.sentences == pytest.approx((want[3] / whole, want[4] / whole))
    assert a.share + b.share == pytest.approx(1.0)
    assert sum(a.sentences) <= a.share + 1e-12


@pytest.mark.parametrize(
    ("shape", "told"),
    [((2, 2, 5), r"\(layers, heads, 6\), got \(2, 2, 5\)"), ((2, 2, 7), r"got \(2, 2, 7\)")],
)
def test_a_mass_of_other_units_is_refused(shape, told):
    with pytest.raises(ValueError, match=f"mass must be .*{told}"):
        AnswerAttention(UNITS).add(torch.ones(shape), 4)


@pytest.mark.parametrize("pair", [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_a_head_that_the_model_lacks_is_refused(pair):
    with pytest.raises(ValueError, match=rf"below \(2, 3\), got \({pair[0]}, {pair[1]}\)"):
        AnswerAttention(UNITS, ((0, 0), pair)).add(torch.ones(2, 3, 6), 4)


def test_no_heads_are_refused():
    with pytest.raises(ValueError, match=r"heads must be at least one pair .*, got none"):
        AnswerAttention(UNITS, ())


SMOLLM2 = {
    "model_type": "llama",
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "hidden_size": 576,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
}


def test_the_default_model_has_heads_of_its_own_and_they_exist():
    heads = default_heads(SimpleNamespace(**SMOLLM2))
    assert len(set(heads)) == HEADS
    for (_, layers, per_layer, *_), found in DEFAULT_HEADS.items():
        assert all(0 <= layer < layers and 0 <= head < per_layer for layer, head in found)


@pytest.mark.parametrize("name", SMOLLM2)
def test_a_model_that_differs_in_one_number_has_no_default_heads(name):
    other = {**SMOLLM2, name: "qwen2" if name == "model_type" else SMOLLM2[name] + 1}
    assert default_heads(SimpleNamespace(**other)) is None
    del other[name]
    assert default_heads(SimpleNamespace(**other)) is None


ANSWER = "It is red.  Look in the attic."


def told(**of_span):
    """What `AttentionOf` returns, by the letter that an answer's sentence begins with."""

    def attention(span):
        return [
            Attention(name, sum(sentences), tuple(sentences))
            for name, sentences in of_span[ANSWER[span.start]].items()
        ]

    return attention


LOOKED = told(I={"a": (0.1, 0.1), "b": (0.8,)}, L={"a": (0.2, 0.5), "b": (0.3,)})


def test_each_sentence_cites_the_passage_and_the_sentence_looked_at_most():
    found = AttentionMatcher()(ANSWER, [A, B], LOOKED)
    first, second = found.citations
    assert (first.passage_id, first.quote, first.score) == ("b", "The lamp is red.", 0.8)
    assert (second.passage_id, second.quote, second.score) == ("a", "They go to the attic.", 0.7)
    assert [ANSWER[c.answer_start : c.answer_end] for c in found.citations] == [
        "It is red.",
        "Look in the attic.",
    ]
    assert [c.number for c in found.citations] == [1, 2], "by first use, not by rank"
    assert (first.document, first.page) == ("b.md", 3)
    assert (found.unsupported, found.abstained) == ((), False)


def test_the_passage_is_chosen_before_its_sentence():
    looked = told(I={"a": (0.3, 0.3), "b": (0.4,)}, L={"a": (0.3, 0.3), "b": (0.4,)})
    found = AttentionMatcher()(ANSWER, [B, A], looked)
    assert [c.passage_id for c in found.citations] == ["a", "a"]
    assert [c.number for c in found.citations] == [1, 1]


@pytest.mark.parametrize(("threshold", "bare"), [(0.7, 0), (0.71, 1), (0.8, 1), (0.81, 2)])
def test_below_the_threshold_a_sentence_cites_nothing(threshold, bare):
    found = AttentionMatcher(threshold)(ANSWER, [A, B], LOOKED)
    assert len(found.unsupported) == bare
    assert len(found.citations) == 2 - bare
    assert found.abstained is (bare == 2)
    if bare == 1:
        assert found.unsupported == (Span(12, 30),)


def test_equal_shares_go_to_the_better_passage_and_the_earlier_sentence():
    even = {"a": (0.25, 0.25), "b": (0.5,)}
    looked = told(I=even, L=even)
    for passages, quote in (([A], "Backups run at two."), ([B, A], "The lamp is red.")):
        found = AttentionMatcher(0.5)(ANSWER, passages, looked)
        assert {c.quote for c in found.citations} == {quote}


def test_only_kept_sentences_are_cited():
    pieces = [span.of(A.text) for span in A.sentences]
    looked = told(I={"a": (0.1, 0.9)}, L={"a": (0.1, 0.9)})
    found = AttentionMatcher()(ANSWER, [passage_of(*pieces, kept={0})], looked)
    assert {c.quote for c in found.citations} == {"Backups run at two."}
    assert AttentionMatcher()(ANSWER, [passage_of(*pieces, kept=set())], looked).abstained


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("passages", [[], [C], [passage_of("  ")]])
def test_what_was_not_looked_at_is_not_cited(threshold, passages):
    nothing = {"a": (0.0,), "c": (0.0,)}
    found = AttentionMatcher(threshold)(ANSWER, passages, told(I=nothing, L=nothing))
    assert found.citations == ()
    assert found.unsupported == (Span(0, 10), Span(12, 30))
    unknown = AttentionMatcher(threshold)(ANSWER, passages, told(I={}, L={}))
    assert unknown == found


def test_by_default_a_third_of_the_attention_is_enough():
    thin = {"a": (0.3, 0.04), "b": (0.35,), "c": (0.31,)}
    looked = told(I=thin, L={**thin, "b": (0.34,)})
    found = AttentionMatcher()(ANSWER, [A, B, C], looked)
    assert [c.passage_id for c in found.citations] == ["b"]
    assert found.unsupported == (Span(12, 30),)


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_an_empty_answer_abstains_and_blames_nothing(answer):
    found = AttentionMatcher()(answer, [A], lambda _: [Attention("a", 1.0, (0.5, 0.5))])
    assert found.abstained
    assert all(span.of(answer).strip() == "" for span in found.unsupported)


def test_attention_of_an_answer_cites_end_to_end():
    seen = attention_of(
        (5, 0, 0.5, 0, 0.1, 0), (10, 0, 0.5, 0, 0, 0.1), (20, 0, 0, 0.1, 0, 0.2), (30, 0, 0, 0, 0.1, 0.2)
    )  # fmt: skip
    found = AttentionMatcher()(ANSWER, [A, B], lambda span: seen.of([A, B], span))
    assert [c.quote for c in found.citations] == ["The lamp is red.", "They go to the attic."]
    assert [c.score for c in found.citations] == [0.8333, 1.0]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=rf"threshold must be in \[0, 1\], got {value}"):
        AttentionMatcher(value)
