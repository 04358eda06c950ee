"""Descriptions routing: the closest description by hand, the fitted temperature, mistakes."""

import math

import pytest

from rag.records import Query
from rag.routing import DescriptionRouter, LabelledQuery
from rag.routing.calibration import log_loss

TOLD = {"pets": ("a cat", "a dog"), "sky": "the sun"}


def test_the_closest_description_of_a_label_counts(words):
    router = DescriptionRouter(words, TOLD, temperature=0.5)
    route = router(Query("my dog"))
    same, apart = 1.0, 0.01 / 1.01
    assert route.labels == ("pets",)
    assert route.probs["pets"] == pytest.approx(1 / (1 + math.exp((apart - same) / 0.5)))
    assert sum(route.probs.values()) == pytest.approx(1.0)
    assert (route.source, route.fallback) == ("descriptions", False)


def test_modality_goes_first(words):
    told = {"a": "cat", "b": "dog sea", "c": "dog sea"}
    router = DescriptionRouter(words, told, 1.0, {"b": "m", "c": "m"})
    assert router(Query("cat dog sea")).labels == ("b",)


def test_a_batch_equals_a_loop_and_encodes_once(words):
    router = DescriptionRouter(words, TOLD)
    queries = [Query("cat"), Query("sun and sea"), Query("sun")]
    alone = [router(query) for query in queries]
    before = words.calls
    assert router.batch(query=queries) == alone
    assert words.calls == before + 1
    assert router.batch([]) == []


def test_the_temperature_is_fitted_to_queries(words):
    queries = [
        LabelledQuery(str(row), text, (label,))
        for row, (text, label) in enumerate(
            [("cat", "pets"), ("sun", "sky"), ("dog sun", "sky"), ("cat cat sun", "sky")]
        )
    ]
    router = DescriptionRouter(words, TOLD).fitted_to(queries)
    import numpy as np

    logits = router.cosines([one.text for one in queries])
    wanted = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
    best = log_loss(logits, wanted, router.temperature)
    assert router.temperature != 0.05
    assert best <= min(log_loss(logits, wanted, router.temperature * f) for f in (0.9, 1.1))
    with pytest.raises(ValueError, match="query '9' needs a label among pets, sky, got sea"):
        router.fitted_to([LabelledQuery("9", "sea", ("sea",))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"descriptions": {}}, "descriptions must hold at least one label"),
        ({"descriptions": {"a": ()}}, r"descriptions\['a'\] must be one text or more"),
        ({"descriptions": {"a": " "}}, r"none empty, got ' '"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_mistakes_are_named(words, options, message):
    with pytest.raises(ValueError, match=message):
        DescriptionRouter(words, **options)
