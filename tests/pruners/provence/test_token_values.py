"""Tokens of a Provence model: their places, parity with sentence scores, words of the passage."""

import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners import ThresholdPruner
from pruners.provence import ProvenceScorer, pair_blocks
from pruners.provence.token_values import ProvenceTokens
from pruners.words import WordScorer
from rag.records import Query

KINDS = {"bert": "pieces", "xlm-roberta": "spaces", "modernbert": "bytes", "deberta-v2": "spaces"}
WHITE = {"Ġ", "Ċ"}  # a space and a line break, as byte-level tokenizers write them
ASKED = Query("what does yield return?")


@pytest.fixture(scope="module")
def scorer(random_model, tokenizers):
    """Return a function (family, **settings) -> scorer of a random model in float64."""

    def build(family="bert", prior=None, **settings):
        model = random_model(family, residual=prior is not None, dtype=torch.float64)
        settings = {"window": 64, "query_tokens": 24, "title_tokens": 8, **settings}
        return ProvenceScorer(model, tokenizers[KINDS[family]], prior=prior, **settings)

    return build


@pytest.fixture(scope="module")
def reads(passage):
    return [
        passage("yield returns values. ", " the  program,\n", "a", title="a program", id_="0"),
        passage(id_="1"),
        passage(*("checks lazily into it. " for _ in range(20)), title="the", id_="2"),
        passage("a " * 200, "b", id_="3"),
        passage("[SEP] [UNK] x", " ", "\ud800 cafe\u0301 猫", id_="4"),
    ]


def probabilities(scorer, one):
    """Each sentence token's id and probability, block by block from plain forward passes."""
    found = []
    for block in pair_blocks(scorer._tokenizer, ASKED.text, one, 64, 24, title_tokens=8):
        ids = torch.tensor([block.ids])
        types = {"token_type_ids": torch.tensor([block.types])} if len(set(block.types)) > 1 else {}
        state = scorer.model.trunk(input_ids=ids, **types).last_hidden_state
        kept = scorer.model.token_head(state)[0].softmax(-1)[:, 1].tolist()
        rows = zip(block.ids, block.rows, kept, strict=True)
        found += [(id_, p) for id_, row, p in rows if row >= 0]
    return found


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@torch.inference_mode()
def test_values_are_the_probabilities_of_the_visible_tokens(scorer, reads, family):
    sentences = scorer(family)
    (found,) = ProvenceTokens(sentences).token_values([ASKED], [reads])
    for one, tokens in zip(reads, found, strict=True):
        told = probabilities(sentences, one)
        pieces = sentences._tokenizer.convert_ids_to_tokens([id_ for id_, _ in told])
        pairs = zip(pieces, told, strict=True)
        expected = [p for piece, (_, p) in pairs if piece not in WHITE]
        assert [token.value for token in tokens] == pytest.approx(expected, abs=1e-12)


def skipped(letter):
    """White space, and the accents that some tokenizers strip."""
    return letter.isspace() or unicodedata.combining(letter)


@pytest.mark.parametrize("family", KINDS)
def test_tokens_cover_every_visible_character_in_order(scorer, reads, family):
    (found,) = ProvenceTokens(scorer(family)).token_values([ASKED], [reads])
    for one, tokens in zip(reads, found, strict=True):
        starts = [token.span.start for token in tokens]
        assert starts == sorted(starts)
        covered = {at for token in tokens for at in range(token.span.start, token.span.end)}
        assert covered >= {at for at, letter in enumerate(one.text) if not skipped(letter)}
        assert all(token.span.of(one.text).strip() == token.span.of(one.text) for token in tokens)
        assert all(0.0 <= token.value <= 1.0 for token in tokens)


def test_places_by_hand(scorer, passage):
    one = passage("yield returns values. ", " the  program,\n", title="a program")
    ((tokens,),) = ProvenceTokens(scorer()).token_values([ASKED], [[one]])
    assert [token.span.of(one.text) for token in tokens] == [
        "yield", "returns", "values", ".", "the", "program", ",",
    ]  # fmt: skip


def test_a_prior_is_added_and_a_batch_equals_its_parts(scorer, reads, fixed_prior):
    tokens = ProvenceTokens(scorer(prior=fixed_prior(0.2, 0.9)))
    plain = ProvenceTokens(scorer())
    sets = [reads, [], reads[::-1]]
    found = tokens.token_values([ASKED] * 3, sets)
    assert found != plain.token_values([ASKED] * 3, sets)
    for one, values in zip(reads, found[0], strict=True):
        ((alone,),) = tokens.token_values([ASKED], [[one]])
        assert [t.span for t in alone] == [t.span for t in values]
        assert [t.value for t in alone] == pytest.approx([t.value for t in values], abs=1e-9)
    assert [len(of) for of in found[2]] == [len(of) for of in found[0]][::-1]


def test_without_places_a_token_stands_for_its_sentence(scorer, reads, monkeypatch):
    tokens = ProvenceTokens(scorer())
    monkeypatch.setattr("pruners.provence.token_values._places", lambda *_: None)
    ((found,),) = tokens.token_values([ASKED], [reads[:1]])
    assert {t.span.of(reads[0].text) for t in found} == {
        "yield returns values.",
        "the  program,",
        "a",
    }


@settings(max_examples=40)
@given(data=st.data())
def test_words_of_any_text_are_chosen_by_it(scorer, passage, data):
    sentences = data.draw(st.lists(st.text(min_size=1, max_size=20), max_size=3))
    family = data.draw(st.sampled_from(sorted(KINDS)))
    one = passage(*sentences)
    words = WordScorer(ProvenceTokens(scorer(family)), data.draw(st.none() | st.floats(0, 1)))
    (kept,) = ThresholdPruner(words, 0.0, on_error="raise")(ASKED, [one])
    assert kept.kept.text(one.text) == one.text


def test_nothing_to_read_costs_nothing(scorer, passage, monkeypatch):
    made = scorer()
    monkeypatch.setattr(made, "_logits", lambda flat, priors: [] if not flat else 1 / 0)
    assert ProvenceTokens(made).token_values([ASKED], [[passage()]]) == [[[]]]
    assert ProvenceTokens(made).token_values([], []) == []
    assert ProvenceTokens(made).name == "provence"
