"""Encodings to learn: they are the generator's own plans, and the draw is a function of its seed."""

import importlib.util
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rag.adaptation.encodings import CACHED, SEQUENTIAL, Encoding, Plans, drawn_encodings
from rag.generation.cached import GenerateCached
from rag.generation.local_model import LocalModel
from rag.generation.plan import ContextWeights
from rag.generation.prompt import PromptEncoder
from rag.models.language_model import LoadedModel
from rag.records import ModelIdentity

_spec = importlib.util.spec_from_file_location(
    "made_examples", Path(__file__).with_name("made_examples.py")
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    identity = ModelIdentity("tiny", "w", "{}", "float64", "t")
    loaded = LoadedModel(tiny_model(dtype=torch.float64), tiny_tokenizer, identity)
    return LocalModel(loaded, template=made.TEMPLATE)


def test_the_plans_are_those_of_the_generator_at_inference(model):
    encodings = (SEQUENTIAL, *CACHED)
    plans = Plans(PromptEncoder(model.prompt.tokenizer, model.identity, made.TEMPLATE), encodings)
    asked = {
        "sequential": {"mode": "prefix"},
        "ape": {"mode": "ape"},
        "ape-serial": {"mode": "ape", "positions": "serial", "repack": False},
        "block": {"mode": "block"},
        "parallel": {"mode": "parallel"},
        "graph": {"mode": "graph"},
    }
    one = made.example(0)
    for encoding in encodings:
        generate = GenerateCached(model.engine(), model.prompt, **asked.pop(encoding.name))
        assert plans.plan(encoding, one.query, one.passages) == generate.plan(
            one.query, one.passages
        )
        whole = [replace(passage, kept=None) for passage in one.passages]
        assert plans.plan(encoding, one.query, one.passages, whole=True) == generate.plan(
            one.query, whole
        )
    assert not asked


def test_the_sequential_encoding_says_what_the_sequential_mode_says(model):
    one = made.example(1)
    plans = Plans(model.prompt, [SEQUENTIAL])
    generate = GenerateCached(model.engine(), model.prompt, mode="sequential")
    ours = model.engine().prefill(plans.plan(SEQUENTIAL, one.query, one.passages))
    theirs = model.engine().prefill(generate.plan(one.query, one.passages))
    assert (ours.logits - theirs.logits).abs().max() < 1e-9
    assert model.prompt.plan_text(plans.plan(SEQUENTIAL, one.query, one.passages)).startswith(
        "Read.\n"
    )


def test_passages_of_which_nothing_is_kept_are_not_read(model):
    one = made.example(0)
    gone = made.passage("Gone", "Not here.", "Nor here.", kept=set())
    plans = Plans(model.prompt, [SEQUENTIAL, *CACHED])
    for encoding in CACHED:
        plan = plans.plan(encoding, one.query, one.passages)
        assert plan == plans.plan(encoding, one.query, (*one.passages, gone))
        assert plan == plans.plan(encoding, one.query, (gone, *one.passages))
    with pytest.raises(ValueError, match="nothing is read"):
        plans.plan(CACHED[0], one.query, [gone])


def test_the_draw_repeats_and_holds_different_encodings_in_order():
    for seed in range(50):
        drawn = drawn_encodings(CACHED, 3, random.Random(seed))
        assert drawn == drawn_encodings(CACHED, 3, random.Random(seed))
        rows = [CACHED.index(one) for one in drawn]
        assert rows == sorted(set(rows))
        assert len(rows) == 3
    rng = random.Random(0)
    assert drawn_encodings(CACHED, 9, rng) == CACHED
    assert drawn_encodings(CACHED, 0, rng) == ()
    assert drawn_encodings((), 3, rng) == ()


def test_weights_say_how_often_an_encoding_is_drawn():
    mix = (Encoding("a", weight=3.0), Encoding("b", weight=1.0))
    rng = random.Random(0)
    counts = Counter(drawn_encodings(mix, 1, rng)[0].name for _ in range(2000))
    assert counts["a"] / 2000 == pytest.approx(0.75, abs=0.03)


def test_an_encoding_says_all_that_it_holds():
    one = Encoding("own", {"mode": "ape", "weights": ContextWeights(0.5)}, weight=2.0)
    assert one.as_json() == {
        "name": "own",
        "options": {"mode": "ape", "weights": {"temperature": 0.5, "scale": 1.0, "bias": 0.0}},
        "weight": 2.0,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: Encoding("a b"), "name must be of letters, digits and dashes"),
        (lambda _: Encoding(""), "name must be of letters, digits and dashes"),
        (lambda _: Encoding("a", weight=0.0), "weight must be above 0, got 0.0"),
        (lambda m: Plans(m.prompt, [Encoding("a"), Encoding("a")]), "must differ, got a, a"),
        (lambda m: Plans(m.prompt, [Encoding("a", {"mode": "odd"})]), "encoding 'a': mode must be"),
        (lambda m: Plans(m.prompt, [Encoding("a", {"made": 1})]), "encoding 'a': .*'made'"),
    ],
)
def test_refuses_what_does_not_fit(model, make, message):
    with pytest.raises(ValueError, match=message):
        make(model)
