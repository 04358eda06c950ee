"""LLMLingua-2's rule over words: by hand, by its definition, invariants, and the decision."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import ThresholdPruner
from pruners.rates import around_half, percentile
from pruners.token_values import TokenValue
from pruners.word_units import word_units
from pruners.words import WordScorer
from rag.protocols import SentenceScorer
from rag.records import Budget, Passage, Query, Span

QUERY = Query("red cats")


def passage(*sentences, id_="p", title=""):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    spans = tuple(Span(*ab) for ab in pairwise(ends))
    return Passage(id_, "d", text, Span(0, len(text)), spans, title=title)


class Said:
    """A token scorer that gives the words of each passage, by id, what it was told."""

    name = "said"

    def __init__(self, **values):
        self.values = values
        self.calls = 0

    def token_values(self, queries, passages):
        self.calls += 1
        return [[self._of(p) for p in of] for of in passages]

    def _of(self, p):
        words = [s for of in word_units(p) for s in of if s.of(p.text).strip()]
        values = self.values.get(p.id, ())
        return [
            TokenValue(word.stripped(p.text), value)
            for word, value in zip(words, values, strict=False)
        ]

    def unit_score(self, values):
        return sum(values) / len(values)


class Pieces(Said):
    """Two tokens a word of the length two or more: the first character, and the others."""

    def _of(self, p):
        return [
            token
            for word in super()._of(p)
            for token in (
                [
                    TokenValue(Span(word.span.start, word.span.start + 1), word.value),
                    TokenValue(Span(word.span.start + 1, word.span.end), 0.0),
                ]
                if len(word.span) > 1
                else [word]
            )
        ]


def one(text):
    return 1 if text else 0


def kept_text(scorer, *passages, threshold=0.5, **shell):
    pruner = ThresholdPruner(scorer, threshold, min_keep=0, **shell)
    return [p.kept.text(p.text) for p in pruner(QUERY, passages)]


def plain(tokens, rate=0.5, **changes):
    options = {"force_digits": False, "force_identifiers": False, "count": one, **changes}
    return WordScorer(tokens, rate, **options)


def test_words_above_the_percentile_stay():
    said = Said(p=[0.9, 0.1, 0.8, 0.2])
    # The 51st percentile of .1 .2 .8 .9 lies between .2 and .8.
    assert kept_text(plain(said), passage("a b c d")) == ["a c"]
    (found,) = plain(said)(QUERY, [passage("a b c d")])
    assert [span.of("a b c d") for span in found.spans] == ["a", " b", " c", " d"]


def test_scores_tell_the_cut_by_one_half_and_keep_the_order():
    (found,) = plain(Said(p=[0.9, 0.1, 0.8, 0.2]))(QUERY, [passage("a b c d")])
    cut = np.percentile([0.9, 0.1, 0.8, 0.2], 51)
    expected = [0.5 + 0.5 * (0.9 - cut) / (1 - cut), 0.05 / cut, None, 0.1 / cut]
    expected[2] = 0.5 + 0.5 * (0.8 - cut) / (1 - cut)
    assert found.sentences == pytest.approx(expected)


def test_a_word_counts_as_often_as_it_has_tokens():
    said = Said(p=[0.9, 0.5, 0.1])
    assert kept_text(plain(said, 0.5), passage("a b c")) == ["a"]
    heavy = plain(said, 0.5, count=lambda text: 4 if text == "a" else 1)
    assert kept_text(heavy, passage("a b c")) == [""]
    light = plain(said, 0.5, count=lambda text: 4 if text == "c" else 1)
    assert kept_text(light, passage("a b c")) == ["a b"]


def test_forced_words_stay_and_take_part_in_the_percentile():
    said = Said(p=[0.1, 0.2, 0.3, 0.1])
    assert kept_text(plain(said, 0.5, force=["."]), passage("a b c.")) == [" c."]
    assert kept_text(plain(said, 0.25, force=["."]), passage("a b c.")) == ["."]
    assert kept_text(plain(said, 0.0, force=["."]), passage("a b c.")) == ["."]
    assert kept_text(plain(said, 0.0), passage("a b c.")) == [""]


def test_all_forced_all_stay():
    said = Said(p=[0.1, 0.2, 0.3])
    assert kept_text(plain(said, 0.01, force=["a", "b", "c"]), passage("a b c")) == ["a b c"]


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.99])
def test_certain_words_stay_where_the_cut_is_certain_too(rate):
    assert kept_text(plain(Said(p=[1.0, 1.0]), rate), passage("a b")) == ["a b"]
    assert kept_text(plain(Said(p=[0.7, 0.7]), rate), passage("a b")) == [""]


@pytest.mark.parametrize(("rate", "kept"), [(0.0, ""), (0.01, ""), (0.99, ""), (1.0, "word")])
def test_a_single_word_stays_at_rate_1_only(rate, kept):
    assert kept_text(plain(Said(p=[0.7]), rate), passage("word")) == [kept]


def test_digits_and_identifiers_stay_whole():
    text = "a sys.exit b 3.11 c x_1 d"
    said = Said(p=[0.5, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1])
    keep = WordScorer(said, 0.3, count=one)
    assert kept_text(keep, passage(text)) == [" sys.exit 3.11 x_1"]
    digits = WordScorer(said, 0.3, force_identifiers=False, count=one)
    assert kept_text(digits, passage(text)) == [" 3.11 x_1"]
    assert kept_text(plain(said, 0.3), passage(text)) == ["a b"]


def test_consecutive_forced_words_go_if_nothing_stays_between_them():
    said = Said(p=[0.9, 0.1, 0.0, 0.1, 0.0, 0.9, 0.0])
    text = "a b . c . d ."
    assert kept_text(plain(said, 0.7, force=["."]), passage(text)) == ["a . . d ."]
    dropped = plain(said, 0.7, force=["."], drop_consecutive=True)
    assert kept_text(dropped, passage(text)) == ["a . d ."]
    other = plain(said, 0.7, force=[".", "!"], drop_consecutive=True)
    assert kept_text(other, passage("a b . c ! d .")) == ["a . ! d ."]


def test_a_word_s_value_is_the_mean_of_its_tokens_or_the_first_one_s():
    pieces = Pieces(p=[0.8, 0.7])
    mean = plain(pieces, rate=None)(QUERY, [passage("aa b")])[0]
    assert mean.sentences == (0.4, 0.7)
    first = plain(pieces, rate=None, word_value="first")(QUERY, [passage("aa b")])[0]
    assert first.sentences == (0.8, 0.7)


def test_a_token_counts_for_each_word_that_it_shares_a_character_with():
    class Wide(Said):
        def _of(self, p):
            return [TokenValue(Span(0, 5), 0.2), TokenValue(Span(5, 6), 0.8)]

    (found,) = plain(Wide(), rate=None)(QUERY, [passage("ab cd. e")])
    assert found.sentences == pytest.approx((0.2, 0.2, 0.8, 1.0))


def test_a_word_without_a_token_stays():
    assert kept_text(plain(Said(p=[0.1, 0.9])), passage("a b 👩")) == [" 👩"]
    assert kept_text(plain(Said()), passage("a b")) == ["a b"]


def test_the_white_space_between_sentences_stays_with_any_word_of_the_first():
    text = passage("a b. ", "c d. ", "e f.")
    said = Said(p=[0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1])
    assert kept_text(plain(said, 0.2), text) == ["a  f"]
    assert kept_text(plain(said, 0.2), passage("a b. ", "c. ", " ")) == ["a "]


def test_the_rate_holds_in_each_passage_or_in_all_together():
    said = Said(p=[0.9, 0.8], q=[0.2, 0.1])
    two = passage("a b"), passage("c d", id_="q")
    assert kept_text(plain(said), *two) == ["a", "c"]
    assert kept_text(plain(said, scope="query"), *two) == ["a b", ""]


def test_without_a_rate_scores_are_the_words_own():
    (found,) = plain(Said(p=[0.9, 0.0, 0.3]), rate=None)(QUERY, [passage("a b c ")])
    assert found.sentences == (0.9, 1e-6, 0.3, 0.9)


def test_passages_without_text_have_no_words():
    scorer = plain(Said(p=[0.9]))
    found = scorer(QUERY, [passage(id_="e"), passage("a")])
    assert (found[0].sentences, found[0].spans) == ((), None)
    assert scorer(QUERY, []) == []
    (blank,) = scorer(QUERY, [passage(" \n", id_="b")])
    assert (blank.sentences, blank.spans) == ((1e-6,), (Span(0, 2),))


def test_a_batch_asks_once_and_equals_its_parts():
    said = Said(p=[0.9, 0.8], q=[0.2, 0.1])
    scorer = plain(said, scope="query")
    sets = [[passage("a b")], [], [passage("c d", id_="q"), passage("a b")]]
    found = scorer.score_batch([QUERY] * 3, sets)
    assert said.calls == 1
    assert found == [scorer(QUERY, of) for of in sets]
    shuffled = scorer(QUERY, sets[2][::-1])
    assert shuffled == found[2][::-1]


def literally(words, tokens, rate, force=(), drop=False):
    """The rule as its paper's code runs it, on (word, probability) and tokens of each."""
    probs = [1.0 if word in force else p for word, p in words]
    names = [word for word, _ in words]
    reduce = 1 - rate
    if reduce <= 0:
        return [True] * len(words)
    if drop:
        threshold = np.percentile(probs, int(100 * reduce))
        previous, between = None, False
        for at, name in enumerate(names):
            if name in force:
                if between:
                    between = False
                elif name == previous:
                    probs[at] = 0.0
                previous = name
            else:
                between = between or probs[at] > threshold
    repeated = [p for p, n in zip(probs, tokens, strict=True) for _ in range(n)]
    threshold = np.percentile(repeated, min(100, int(100 * reduce + 1)))
    return [p > threshold or (threshold == 1.0 and p == threshold) for p in probs]


@given(
    words=st.lists(
        st.tuples(st.sampled_from("abc."), st.integers(0, 8).map(lambda n: n / 8)), min_size=1
    ),
    percent=st.integers(0, 100),
    drop=st.booleans(),
    data=st.data(),
)
def test_matches_the_rule_read_literally(words, percent, drop, data):
    counts = {letter: data.draw(st.integers(1, 4)) for letter in "abc."}
    tokens = [counts[word] for word, _ in words]
    one_passage = passage(" ".join(word for word, _ in words))
    scorer = plain(
        Said(p=[p for _, p in words]),
        percent / 100,
        force=["."],
        drop_consecutive=drop,
        count=counts.__getitem__,
    )
    (found,) = scorer(QUERY, [one_passage])
    expected = literally(words, tokens, Fraction(percent, 100), ["."], drop)
    assert [score > 0.5 for score in found.sentences] == expected


TEXTS = st.lists(st.text(min_size=1, max_size=20) | st.text("ab. 1_猫", min_size=1), max_size=4)


@given(texts=TEXTS, rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
@pytest.mark.parametrize("scope", ["passage", "query"])
def test_a_larger_rate_only_adds(scope, texts, rates, seed):
    rng = np.random.default_rng(seed)
    found = [passage(*texts), passage(*texts[:1], id_="q")]
    said = Said(**{p.id: rng.random(len(p.text)).round(1).tolist() for p in found})
    low, high = sorted(rates)
    few = WordScorer(said, low, scope=scope)(QUERY, found)
    many = WordScorer(said, high, scope=scope)(QUERY, found)
    for less, more in zip(few, many, strict=True):
        assert less.spans == more.spans
        kept = zip(less.sentences, more.sentences, strict=True)
        assert all(b > 0.5 for a, b in kept if a > 0.5)


@given(texts=TEXTS, rate=st.none() | st.floats(0, 1), seed=st.integers(0, 99))
def test_the_decision_shell_takes_words_of_any_text(texts, rate, seed):
    one_passage = passage(*texts)
    values = np.random.default_rng(seed).random(len(one_passage.text)).tolist()
    scorer = WordScorer(Said(p=values), rate)
    (all_kept,) = ThresholdPruner(scorer, 0.0, on_error="raise")(QUERY, [one_passage])
    assert all_kept.kept.text(one_passage.text) == one_passage.text
    assert all(0.0 < s.score <= 1.0 for s in all_kept.kept.sentences)
    (some,) = ThresholdPruner(scorer, 0.5, on_error="raise")(QUERY, [one_passage])
    assert some.kept.unit == ("word" if one_passage.sentences else "sentence")
    assert some.kept.method == "words"


def test_a_budget_takes_the_best_words():
    said = Said(p=[0.9, 0.1, 0.8, 0.2])
    budget = Budget(1)
    assert kept_text(plain(said), passage("a b c d"), budget=budget, count=one) == ["a"]


def test_it_is_a_scorer():
    scorer = plain(Said())
    named: SentenceScorer = scorer
    assert named.name == "words"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.1}, r"rate must be in \[0, 1\] or None, got 1.1"),
        ({"rate": float("nan")}, r"rate must be in \[0, 1\] or None, got nan"),
        ({"scope": "all"}, "scope must be 'passage' or 'query', got 'all'"),
        ({"word_value": "max"}, "word_value must be 'mean' or 'first', got 'max'"),
        ({"force": "not"}, "force must be a list of words, got the text 'not'"),
        ({"force": ["\n"]}, r"force must hold words without white space, got '\\n'"),
        ({"force": ["a b"]}, "force must hold words without white space, got 'a b'"),
        ({"force": [""]}, "force must hold words without white space, got ''"),
    ],
)
def test_refuses_what_is_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        WordScorer(Said(), **options)


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=9),
    percent=st.integers(0, 100),
    data=st.data(),
)
def test_a_percentile_counts_values_several_times(values, percent, data):
    weights = [data.draw(st.integers(1, 3)) for _ in values]
    repeated = [v for v, n in zip(values, weights, strict=True) for _ in range(n)]
    assert percentile(values, percent, weights) == np.percentile(repeated, percent)


@given(cut=st.floats(0, 1), scores=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_scores_around_one_half_keep_their_order(cut, scores):
    low, high = (around_half(s, cut, kept=s > cut) for s in sorted(scores))
    assert 1e-6 <= low <= high <= 1.0
    assert [s > 0.5 for s in (low, high)] == [s > cut for s in sorted(scores)]
