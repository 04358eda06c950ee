"""Examples routing: neighbours by hand, prototypes, parity with the definition, trust."""

import math

import numpy as np
import pytest

from rag.records import Query
from rag.routing import ExampleRouter

EXAMPLES = {"pets": ("cat", "dog", "cat dog"), "sky": ("sun", "sun sea")}


def by_definition(encoder, examples, k, temperature, text):
    """Every example with its cosine, the k best, their softmax, summed by label."""
    asked = encoder.encode([text])[0].astype(float)
    scored = [
        (float(encoder.encode([example])[0].astype(float) @ asked), label)
        for label, texts in examples.items()
        for example in texts
    ]
    best = sorted(scored, key=lambda pair: -pair[0])[:k]
    total = sum(math.exp(cosine / temperature) for cosine, _ in best)
    return {
        label: sum(math.exp(c / temperature) for c, owner in best if owner == label) / total
        for label in examples
    }


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("text", ["cat", "dog sun", "sea", "nothing"])
def test_matches_the_definition(words, k, text):
    route = ExampleRouter(words, EXAMPLES, k, 0.3)(Query(text))
    assert route.probs == pytest.approx(by_definition(words, EXAMPLES, k, 0.3, text), abs=1e-6)


def test_prototypes_are_means(words):
    route = ExampleRouter(words, EXAMPLES, 0, 0.3)(Query("dog sun"))
    means = {
        label: words.encode(list(texts)).astype(float).mean(axis=0)
        for label, texts in EXAMPLES.items()
    }
    asked = words.encode(["dog sun"])[0].astype(float)
    grown = {
        label: math.exp(float(asked @ mean / np.linalg.norm(mean)) / 0.3)
        for label, mean in means.items()
    }
    expected = {label: one / sum(grown.values()) for label, one in grown.items()}
    assert route.probs == pytest.approx(expected, abs=1e-6)


def test_far_from_all_examples_is_a_fallback(words):
    router = ExampleRouter(words, {"pets": ["cat"], "sky": ["sun"]}, trust=0.5)
    assert router(Query("sea")).fallback
    assert not router(Query("cat")).fallback
    assert not ExampleRouter(words, EXAMPLES, trust=-1.0)(Query("nothing")).fallback


def test_a_batch_equals_a_loop(words):
    router = ExampleRouter(words, EXAMPLES, 2)
    queries = [Query("cat"), Query("sea sun"), Query("x")]
    assert router.batch(query=queries) == [router(query) for query in queries]
    assert router.batch([]) == []


def test_modality_goes_first(words):
    examples = {"a": ["cat"], "b": ["dog"], "c": ["dog"]}
    router = ExampleRouter(words, examples, 3, 1.0, modalities={"b": "m", "c": "m"})
    assert router(Query("cat dog")).labels == ("b",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": {}}, "examples must hold at least one label"),
        ({"examples": {"a": "cat"}}, r"examples\['a'\] must be a list of questions"),
        ({"examples": {"a": []}}, r"none empty, got \[\]"),
        ({"k": -1}, "k must be at least 0, got -1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"trust": 2.0}, r"trust must be in \[-1, 1\], got 2.0"),
    ],
)
def test_mistakes_are_named(words, options, message):
    with pytest.raises(ValueError, match=message):
        ExampleRouter(words, **{"examples": EXAMPLES, **options})
