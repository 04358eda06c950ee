"""Self-information: parity with the model's own logits, the contrast, rates, long passages."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruners import ThresholdPruner
from pruners.self_information import SelfInformation
from pruners.words import WordScorer
from rag.errors import UnsupportedModelError
from rag.generation.local_model import LocalModel
from rag.models.language_model import LoadedModel
from rag.records import Passage, Query, Span

QUERY = Query("what does yield  return?")


def passage(*sentences, id_="p", title=""):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    spans = tuple(Span(*ab) for ab in pairwise(ends))
    return Passage(id_, "d", text, Span(0, len(text)), spans, title=title)


READS = [
    passage("yield returns values. ", "the program lazily\n", "a", title="a  program", id_="0"),
    passage(id_="1"),
    passage("checks into it", id_="2"),
    passage("猫 e\u0301 \U0001f469\u200d\U0001f467 \ud800 <s> ", "\0 שלום.", id_="3"),
]


def local(tiny_model, tokenizer, identity, dtype=torch.float64, **changes):
    name = str(dtype).removeprefix("torch.")
    made = LocalModel(LoadedModel(tiny_model(dtype=dtype, **changes), tokenizer, identity(name)))
    made.plain = tiny_model(dtype=dtype, **changes)  # the engine changes the other one's attention
    return made


@pytest.fixture(scope="module")
def lm(tiny_model, tiny_tokenizer):
    from rag.records import ModelIdentity

    def identity(dtype):
        return ModelIdentity("tiny", "weights", "rope", dtype, "tokenizer")

    return local(tiny_model, tiny_tokenizer, identity)


def log_probabilities(lm, lead, text):
    """(character after the token, log p) of each token of a text, from one plain forward pass."""
    clean = text.encode("utf-8", "replace").decode()
    options = {"add_special_tokens": False, "split_special_tokens": True}
    first = lm.prompt.tokenizer(lead, **options)["input_ids"]
    read = lm.prompt.tokenizer(clean, return_offsets_mapping=True, **options)
    ids = torch.tensor([first + read["input_ids"]])
    with torch.inference_mode():
        said = lm.plain(ids).logits[0].log_softmax(-1)
    rows = range(len(first), ids.shape[1])
    logs = [float(said[row - 1, ids[0, row]]) for row in rows]
    return [(a, b, p) for (a, b), p in zip(read["offset_mapping"], logs, strict=True)]


def means(lm, lead, one, minus=None):
    """The mean -log p of each sentence, or log p after `lead` less log p after `minus`."""
    told = log_probabilities(lm, lead, one.text)
    base = [(a, b, 0.0) for a, b, _ in told] if minus is None else None
    base = base or log_probabilities(lm, minus, one.text)
    found = []
    for span in one.sentences:
        values = [
            (p - q) if minus is not None else -p
            for (a, b, p), (_, _, q) in zip(told, base, strict=True)
            if one.text[a : max(b, a + 1)].strip()
            and span.start <= a + len(one.text[a : max(b, a + 1)].rstrip()) - 1 < span.end
        ]
        found.append(sum(values) / len(values))
    return found


@pytest.mark.parametrize("one", [READS[0], READS[2], READS[3]], ids=lambda p: p.id)
def test_a_score_is_one_less_the_geometric_mean_of_its_tokens(lm, one):
    lead = "a program\n" if one.title else "\n"
    (found,) = SelfInformation(lm)(QUERY, [one])
    expected = [1 - math.exp(-mean) for mean in means(lm, lead, one)]
    assert found.sentences == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("one", [READS[0], READS[2], READS[3]], ids=lambda p: p.id)
def test_the_contrast_is_what_the_question_tells(lm, one):
    title = "a program\n" if one.title else ""
    asked = f"what does yield return?\n{title}"
    (found,) = SelfInformation(lm, contrast=True)(QUERY, [one])
    expected = [1 / (1 + math.exp(-mean)) for mean in means(lm, asked, one, title or "\n")]
    assert found.sentences == pytest.approx(expected, abs=1e-9)


def test_the_question_is_read_for_the_contrast_only(lm):
    other = Query("why?")
    assert SelfInformation(lm)(QUERY, READS) == SelfInformation(lm)(other, READS)
    contrast = SelfInformation(lm, contrast=True)
    assert contrast(QUERY, READS) != contrast(other, READS)


@pytest.mark.parametrize("contrast", [False, True])
def test_a_batch_equals_its_parts_in_any_order(lm, contrast):
    scorer = SelfInformation(lm, contrast=contrast)
    sets = [READS, [], READS[::-1]]
    queries = [QUERY, QUERY, Query("why?")]
    found = scorer.score_batch(queries, sets)
    for query, of, scores in zip(queries, sets, found, strict=True):
        assert scores == [scorer(query, [one])[0] for one in of]


def test_a_passage_is_read_once_for_all_queries(lm, monkeypatch):
    engine, calls = lm.engine(fallback=True), []
    score = engine.score
    monkeypatch.setattr(engine, "score", lambda *args: calls.append(1) or score(*args))
    SelfInformation(lm).score_batch([QUERY, Query("why?")], [[READS[0]], [READS[0]]])
    assert len(calls) == 1
    SelfInformation(lm)(QUERY, [READS[1]])
    assert len(calls) == 1


def test_a_sentence_without_a_visible_character_stays(lm):
    (found,) = SelfInformation(lm)(QUERY, [passage("yield ", " \n ", "values")])
    assert found.sentences[1] == 1.0
    (blank,) = SelfInformation(lm)(QUERY, [passage(" ")])
    assert blank.sentences == (1.0,)


def test_a_long_passage_is_read_in_blocks_of_whole_sentences(lm):
    sentences = ["yield returns.", " the assert.", " a program.", " lazily."]
    sizes = [len(lm.prompt.ids(sentence)) for sentence in sentences]
    window = max(sizes[0] + sizes[1], sizes[2] + sizes[3])
    assert window < sum(sizes[:3])
    (found,) = SelfInformation(lm, window=window)(QUERY, [passage(*sentences)])
    blocks = [passage(*sentences[:2]), passage(*sentences[2:])]
    apart = [score for one in SelfInformation(lm)(QUERY, blocks) for score in one.sentences]
    assert found.sentences == pytest.approx(apart, abs=1e-9)
    assert found.sentences[2:] != pytest.approx(
        SelfInformation(lm)(QUERY, [passage(*sentences)])[0].sentences[2:], abs=1e-3
    )
    longer = passage(*sentences, " it checks" * 40)
    (more,) = SelfInformation(lm, window=window)(QUERY, [longer])
    assert more.sentences[:4] == pytest.approx(found.sentences, abs=1e-9)
    assert 0.0 < more.sentences[4] <= 1.0


def test_the_model_s_window_bounds_a_block(tiny_model, tiny_tokenizer, identity):
    short = local(tiny_model, tiny_tokenizer, identity, max_position_embeddings=48)
    (found,) = SelfInformation(short)(QUERY, [passage("yield returns. " * 20, "a")])
    assert all(0.0 < score <= 1.0 for score in found.sentences)
    with pytest.raises(UnsupportedModelError):
        SelfInformation(short)(QUERY, [passage("a", title="long title " * 40)])


@given(values=st.lists(st.floats(-30, 30), min_size=1, max_size=8), seed=st.integers(0, 9))
@pytest.mark.parametrize("contrast", [False, True])
def test_a_score_rises_with_the_mean_and_is_no_more_than_one(lm, contrast, values, seed):
    scorer = SelfInformation(lm, contrast=contrast)
    values = values if contrast else [abs(value) for value in values]
    score, more = scorer.unit_score(values), scorer.unit_score([v + seed for v in values])
    assert 0.0 <= score <= more <= 1.0
    if contrast:
        assert (score > 0.5) == (math.fsum(values) > 0.0) or abs(math.fsum(values)) < 1e-12


def test_odd_values_have_scores_too(lm):
    contrast = SelfInformation(lm, contrast=True)
    assert contrast.unit_score([-1e4]) == 0.0
    assert contrast.unit_score([1e4]) == 1.0
    with pytest.raises(ValueError, match="log-probabilities must be finite"):
        contrast.unit_score([math.nan])
    with pytest.raises(ValueError, match="log-probabilities must be finite"):
        SelfInformation(lm).unit_score([math.inf])


@pytest.mark.parametrize("scope", ["passage", "query"])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_a_rate_keeps_what_selective_context_keeps(lm, rate, scope):
    plain = SelfInformation(lm)(QUERY, READS)
    found = SelfInformation(lm, rate, scope=scope)(QUERY, READS)
    every = [s for one in plain for s in one.sentences]
    for one, scores in zip(plain, found, strict=True):
        of = every if scope == "query" else list(one.sentences)
        expected = [s >= np.percentile(of, 100 * (1 - rate)) for s in one.sentences]
        assert [s > 0.5 for s in scores.sentences] == expected


def test_an_empty_set_has_no_scores(lm):
    assert SelfInformation(lm, 0.5)(QUERY, []) == []
    assert SelfInformation(lm, 0.5, scope="query")(QUERY, [READS[1]])[0].sentences == ()


def test_words_can_be_chosen_by_it(lm):
    tokens = SelfInformation(lm)
    scorer = WordScorer(tokens, rate=None, force_identifiers=False, force_digits=False)
    one = passage("yield returns values. ", "the program")
    (found,) = scorer(QUERY, [one])
    told = log_probabilities(lm, "\n", one.text)
    for span, score in zip(found.spans, found.sentences, strict=True):
        inside = span.stripped(one.text)
        if inside:
            values = [p for a, b, p in told if a < inside.end and b > inside.start]
            assert score == pytest.approx(1 - math.exp(sum(values) / len(values)), abs=1e-9)
    (kept,) = ThresholdPruner(scorer, 0.0, on_error="raise")(QUERY, [one])
    assert kept.kept.text(one.text) == one.text


@given(sentences=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=3))
def test_any_text_has_one_score_a_sentence(lm, sentences):
    for contrast in (False, True):
        (found,) = SelfInformation(lm, contrast=contrast, window=8)(QUERY, [passage(*sentences)])
        assert len(found.sentences) == len(sentences)
        assert all(1e-6 <= score <= 1.0 for score in found.sentences)


def test_a_model_whose_kv_is_not_reused_scores_too(tiny_model, tiny_tokenizer, identity):
    refused = local(tiny_model, tiny_tokenizer, identity, torch.float32, family="gpt2",
                    n_embd=48, n_head=6, n_layer=2, n_positions=512)  # fmt: skip
    (found,) = SelfInformation(refused)(QUERY, [READS[0]])
    expected = [1 - math.exp(-mean) for mean in means(refused, "a program\n", READS[0])]
    assert found.sentences == pytest.approx(expected, abs=1e-4)


def test_refuses_what_is_out_of_range_and_models_elsewhere(lm):
    class Remote:
        name = "far away"

    with pytest.raises(ValueError, match=r"lm must be a model that runs here.*got Remote"):
        SelfInformation(Remote())
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\] or None, got -0.1"):
        SelfInformation(lm, -0.1)
    with pytest.raises(ValueError, match="window must be at least 2, got 1"):
        SelfInformation(lm, window=1)
    with pytest.raises(ValueError, match="scope must be 'passage' or 'query', got 'all'"):
        SelfInformation(lm, scope="all")
