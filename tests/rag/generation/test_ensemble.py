"""The ensemble against a mixture worked out by hand from stock forward passes, in float64."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from rag.errors import UnsupportedModelError
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.ensemble import BETWEEN_PROMPTS, GenerateEnsemble, Mixture
from rag.generation.local_model import LocalModel
from rag.generation.prompt import PromptTemplate
from rag.generation.segment_reader import SegmentReader
from rag.models.language_model import LoadedModel
from rag.protocols import Lookup
from rag.records import (
    Answer,
    Passage,
    Query,
    Selection,
    SentenceScore,
    Span,
    TokenUse,
    text_sha,
)

TEMPLATE = PromptTemplate(
    prefix="Answer.\n\n", header="# {title}:", closing="\n\n", question="Q: {question}\nA:"
)
QUERY = Query("What is lazy?")


class DictCache:
    """The plainest PassageCache: a dictionary."""

    def __init__(self):
        self.kept = {}

    def get(self, segment):
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True


def passage_of(name, *pieces, kept=None, score=None):
    spans, start = [], 0
    for piece in pieces:
        spans.append(Span(start, start + len(piece)))
        start += len(piece)
    text = "".join(pieces)
    passage = Passage(name, "d", text, Span(0, start), tuple(spans), title=name, score=score)
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, kept=row in kept) for row, s in enumerate(spans))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test"))


PASSAGES = [
    passage_of("yield", "The yield checks. ", "A yield is lazy.", score=2.0),
    passage_of("assert", "An assert inserts. ", "No assert returns.", kept={1}, score=1.0),
    passage_of("program", "A program returns values.", score=-1.0),
]
TEXTS = [
    "Answer.\n\n# yield: The yield checks. A yield is lazy.\n\nQ: What is lazy?\nA:",
    "Answer.\n\n# assert: No assert returns.\n\nQ: What is lazy?\nA:",
    "Answer.\n\n# program: A program returns values.\n\nQ: What is lazy?\nA:",
]


@pytest.fixture
def lm(tiny_model, tiny_tokenizer, identity):
    def build(dtype=torch.float64, **changes):
        name = str(dtype).removeprefix("torch.")
        loaded = LoadedModel(tiny_model(dtype=dtype, **changes), tiny_tokenizer, identity(name))
        return LocalModel(loaded, template=TEMPLATE)

    return build


def stock_log_probs(model, ids):
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
    model.set_attn_implementation("dovetail_segments")
    return logits.log_softmax(-1)


def by_hand(made, prompts, weights, steps):
    """Mixtures at each step of a greedy answer, by plain forward passes and plain sums."""
    model, tables, generated = made.engine().model, [], []
    for _ in range(steps):
        each = [stock_log_probs(model, [*ids, *generated]).exp() for ids in prompts]
        mixed = sum(weight * probs for weight, probs in zip(weights, each, strict=True))
        tables.append(mixed.log())
        generated.append(int(mixed.argmax()))
    return tables, generated


def prompts_of(ensemble, passages):
    plans = [ensemble.plan(QUERY, passage) for passage in passages]
    return [
        [t for placed in (p.prefix, *p.context) for t in placed.token_ids] + list(p.prefill)
        for p in plans
    ]


def test_every_step_is_the_mixture_of_stock_forward_passes(lm):
    made = lm()
    ensemble = GenerateEnsemble(made, weight_temperature=0.7)
    scores = [math.exp(p.score / 0.7) for p in PASSAGES]
    weights = [score / sum(scores) for score in scores]
    tables, ids = by_hand(made, prompts_of(ensemble, PASSAGES), weights, steps=6)
    engine = made.engine()
    plans = [ensemble.plan(QUERY, passage) for passage in PASSAGES]
    mixture = Mixture(engine, engine.prefill_all(plans), ensemble.weights(PASSAGES))
    for table, token in zip(tables, ids, strict=True):
        found = mixture.log_probs()
        assert found.dtype == torch.float64
        assert (found - table).abs().max() < 1e-9
        assert abs(float(found.exp().sum()) - 1) < 1e-12
        mixture.advance(token)
    answer = replace(ensemble, max_tokens=6)(QUERY, PASSAGES)
    assert made.prompt.text(tuple(ids)).strip().startswith(answer.text)


def test_each_prompt_holds_one_passage_and_only_its_kept_sentences(lm):
    answer = GenerateEnsemble(lm(), max_tokens=2)(QUERY, PASSAGES)
    assert answer.prompt == BETWEEN_PROMPTS.join(TEXTS)
    assert answer.passages == tuple(PASSAGES)
    assert (answer.mode, answer.model) == ("ensemble", "tiny")


def test_weights_are_the_softmax_of_the_scores(lm):
    weights = GenerateEnsemble(lm()).weights(PASSAGES)
    assert torch.allclose(weights, torch.tensor([2.0, 1.0, -1.0]).double().softmax(0))
    sharp = GenerateEnsemble(lm(), weight_temperature=0.5).weights(PASSAGES)
    assert torch.allclose(sharp, torch.tensor([4.0, 2.0, -2.0]).double().softmax(0))


def test_a_missing_score_makes_all_weigh_alike(lm):
    weights = GenerateEnsemble(lm()).weights([PASSAGES[0], replace(PASSAGES[2], score=None)])
    assert weights.tolist() == [0.5, 0.5]


def test_one_passage_is_a_sequential_answer(lm):
    made = lm()
    (text,) = made.complete([TEXTS[0]], max_tokens=8, stop=["\n"])
    assert GenerateEnsemble(made, max_tokens=8)(QUERY, PASSAGES[:1]).text == text.text


def test_a_passage_of_no_weight_says_nothing(lm):
    made = lm()
    far = replace(PASSAGES[2], score=-1e6)
    both = GenerateEnsemble(made, max_tokens=5)(QUERY, [PASSAGES[0], far])
    assert both.text == GenerateEnsemble(made, max_tokens=5)(QUERY, PASSAGES[:1]).text


def test_the_order_of_passages_changes_nothing(lm):
    made = lm()
    options = {"max_tokens": 6, "temperature": 0.9, "seed": 4}
    forward = GenerateEnsemble(made, **options)(QUERY, PASSAGES)
    assert GenerateEnsemble(made, **options)(QUERY, PASSAGES[::-1]).text == forward.text


def test_half_precision_is_mixed_in_single(lm):
    made = lm(torch.bfloat16)
    ensemble = GenerateEnsemble(made)
    states = made.engine().prefill_all([ensemble.plan(QUERY, p) for p in PASSAGES])
    mixture = Mixture(made.engine(), states, ensemble.weights(PASSAGES))
    assert mixture.log_probs().dtype == torch.float32


def test_a_seed_repeats_a_sample_and_another_gives_another(lm):
    made = lm()
    sampled = [
        GenerateEnsemble(made, max_tokens=9, temperature=2.0, seed=seed)(QUERY, PASSAGES).text
        for seed in (1, 1, 2, 3)
    ]
    assert sampled[0] == sampled[1]
    assert len(set(sampled)) > 1


def test_a_passage_without_a_kept_sentence_has_no_prompt(lm):
    gone = replace(PASSAGES[1], kept=passage_of("assert", "One.", kept=set()).kept)
    answer = GenerateEnsemble(lm(), max_tokens=2)(QUERY, [PASSAGES[0], gone])
    assert answer.prompt == TEXTS[0]
    assert answer.passages == (PASSAGES[0], gone)


def test_with_nothing_to_read_the_model_is_not_asked(lm, monkeypatch):
    monkeypatch.setattr(Engine, "prefill_all", None)
    (answer,) = GenerateEnsemble(lm()).stream(QUERY, [])
    assert answer.abstained
    assert answer == Answer(
        "", abstained=True, mode="ensemble", model="tiny",
        timings_ms={"kv": 0.0, "ttft": 0.0, "decode": 0.0},
    )  # fmt: skip


def test_whole_passages_are_stored_after_the_answer_and_hit_next_time(lm):
    made, cache = lm(), DictCache()
    ensemble = GenerateEnsemble(made, cache, max_tokens=2)
    stream = ensemble.stream(QUERY, PASSAGES)
    next(stream)
    assert cache.kept == {}
    first = list(stream)[-1]
    assert {segment.name for segment in cache.kept} == {"prefix", "yield", "program"}
    assert (first.cache.hits, first.cache.misses, first.cache.bytes) == (0, 3, 0)
    prefix = len(made.prompt.prefix())
    assert first.tokens.cached == 2 * prefix
    again = GenerateEnsemble(lm(), cache, max_tokens=2)(QUERY, PASSAGES)
    assert (again.cache.hits, again.cache.misses) == (3, 0)
    assert again.text == first.text
    plans = [ensemble.plan(QUERY, passage) for passage in PASSAGES]
    assert again.tokens == TokenUse(
        sum(p.cached_tokens + len(p.prefill) for p in plans),
        sum(p.cached_tokens for p in plans),
        sum(len(p.prefill) for p in plans),
        again.tokens.generated,
    )
    assert first.tokens.prompt == again.tokens.prompt


def test_the_prefix_is_encoded_once_even_where_nothing_is_kept(lm, monkeypatch):
    made = lm()
    made._placed_bytes = 0
    made.engine()
    encoded, encode = [], SegmentReader._encode
    monkeypatch.setattr(
        SegmentReader,
        "_encode",
        lambda self, pack, reading: (
            encoded.extend(segment.name for segment in pack),
            encode(self, pack, reading),
        )[1],
    )
    GenerateEnsemble(made, max_tokens=1)(QUERY, PASSAGES)
    assert sorted(encoded) == ["prefix", "program", "yield"]


def test_pieces_make_up_the_answer_and_times_add_up(lm):
    *pieces, answer = GenerateEnsemble(lm(), max_tokens=9).stream(QUERY, PASSAGES)
    assert "".join(pieces) == answer.text
    assert set(answer.timings_ms) == {"kv", "ttft", "decode"}
    assert 0 < answer.timings_ms["kv"] <= answer.timings_ms["ttft"]
    assert answer.finish in {"stop", "length"}


def test_the_window_of_the_longest_prompt_ends_the_answer(lm, monkeypatch):
    made = lm()
    ensemble = GenerateEnsemble(made, max_tokens=100)
    longest = max(len(ids) for ids in prompts_of(ensemble, PASSAGES))
    made.engine()._rotary.window = longest + 2
    monkeypatch.setattr(Sampling, "choose", lambda *_: 70)
    answer = ensemble(QUERY, PASSAGES)
    assert (answer.tokens.generated, answer.finish) == (3, "length")


def test_the_end_of_sequence_ends_the_answer(lm, monkeypatch):
    script = iter([70, 71, 2, 72])
    monkeypatch.setattr(Sampling, "choose", lambda *_: next(script))
    answer = GenerateEnsemble(lm())(QUERY, PASSAGES)
    assert (answer.tokens.generated, answer.finish) == (2, "stop")


def test_what_supports_the_answer_is_cited(lm, monkeypatch):
    made = lm()
    ids = made.prompt.ids("A yield is lazy. Zebras graze.")
    monkeypatch.setattr(Mixture, "decode", lambda *_: iter(ids))
    answer = GenerateEnsemble(made)(QUERY, PASSAGES)
    (citation,) = answer.citations
    assert (citation.passage_id, citation.quote) == ("yield", "A yield is lazy.")
    assert [span.of(answer.text) for span in answer.unsupported] == ["Zebras graze."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_temperature": 0.0}, "weight_temperature must be above 0, got 0.0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
        ({"threshold": 2.0}, r"threshold must be in \[0, 1\], got 2.0"),
    ],
)
def test_refuses_numbers_out_of_range(lm, options, message):
    with pytest.raises(ValueError, match=message):
        GenerateEnsemble(lm(), **options)


def test_refuses_a_model_that_does_not_run_here():
    with pytest.raises(
        UnsupportedModelError, match="lm must be a model that runs here, got object"
    ):
        GenerateEnsemble(object())


def test_words_are_read_as_texts_and_cited_by_their_sentence(lm):
    text = "The yield checks. A yield is lazy."
    cuts = [0, 3, 9, 16, 17, 18, 19, 25, 28, 33, 34]
    spans = [Span(*pair) for pair in pairwise(cuts)]
    words = tuple(SentenceScore(s, 0.5, kept=row in {1, 4, 8}) for row, s in enumerate(spans))
    one = passage_of("yield", "The yield checks. ", "A yield is lazy.", score=2.0)
    kept = replace(one, kept=Selection("yield", text_sha(text), words, "words", unit="word"))
    answer = GenerateEnsemble(lm(), max_tokens=3)(QUERY, [kept, PASSAGES[2]])
    first, second = answer.prompt.split(BETWEEN_PROMPTS)
    assert first == "Answer.\n\n# yield: yield lazy\n\nQ: What is lazy?\nA:"
    assert second == TEXTS[2]
    assert answer.passages == (kept, PASSAGES[2])
