"""Training: what it learns, folds without leaks, several labels, mistakes by message."""

import numpy as np
import pytest

from rag.records import Query
from rag.routing import LabelledQuery
from rag.routing.calibration import fitted_temperature
from rag.routing.nearness import nearest_cosine
from rag.routing.training.train_router import stratified_parts, train_router

ENDS = ("now", "please", "today", "again", "here", "soon", "too", "there")


def queries(labels=("cat", "dog", "sun"), n=8):
    return [
        LabelledQuery(f"{label}{row}", f"Is the {label} {ENDS[row]}?", (label,), "made")
        for label in labels
        for row in range(n)
    ]


class Watched:
    def __init__(self):
        self.stages = []
        self.steps = 0

    def stage(self, name, total):
        self.stages.append((name, total))

    def advance(self, steps=1):
        self.steps += steps


def test_it_learns_and_says_how_it_was_made(words):
    watcher = Watched()
    router = train_router(queries(), words, folds=4, watcher=watcher)
    assert router.labels == ("cat", "dog", "sun")
    assert router(Query("a sun at last")).labels == ("sun",)
    assert router.about["queries_of_label"] == {"cat": 8, "dog": 8, "sun": 8}
    assert (router.about["folds"], router.about["seed"], router.about["queries"]) == (4, 0, 24)
    assert watcher.stages == [("encoding", 24), ("training", 5)]
    assert watcher.steps == 29
    assert len(router.known) == 24


def test_the_same_seed_gives_the_same_router(words):
    first, again = (train_router(queries(n=4), words, folds=2) for _ in range(2))
    assert first.fingerprint == again.fingerprint


def test_calibration_and_trust_are_of_queries_left_out(words, monkeypatch):
    """Read literally: per fold train on the rest, gather logits and distances."""
    import rag.routing.training.train_router as module

    data = [*queries(n=6), LabelledQuery("odd", "the cat in the sea", ("dog",))]
    router = train_router(data, words, folds=3)
    part = stratified_parts(data, 3, 0)
    vectors = words.encode([one.text for one in data])
    wanted = np.array([[label in one.labels for label in router.labels] for one in data], float)
    logits, nearest = np.zeros_like(wanted), np.zeros(len(data))
    for fold in range(3):
        rest = [one for one, of in zip(data, part, strict=True) if of != fold]
        heads = train_router(rest, words, folds=2).heads
        rows = np.flatnonzero(part == fold)
        logits[rows] = heads.logits([data[row].text for row in rows], vectors[rows])
        nearest[rows] = nearest_cosine(vectors[rows], vectors[part != fold])
    assert router.temperature == pytest.approx(fitted_temperature(logits, wanted), rel=1e-3)
    assert router.trust == pytest.approx(np.quantile(nearest, module.FAR))


def test_folds_hold_their_share_of_each_label_and_equal_texts_together():
    data = [*queries(n=8), LabelledQuery("copy", "Is the cat now?", ("cat",))]
    part = stratified_parts(data, 4, 0)
    assert part[-1] == part[0]
    for label in ("cat", "dog", "sun"):
        rows = [row for row, one in enumerate(data[:-1]) if one.labels == (label,)]
        assert np.bincount(part[rows], minlength=4).tolist() == [2, 2, 2, 2]
    assert stratified_parts(data, 4, 1).tolist() != part.tolist()


def test_a_label_of_two_queries_is_enough(words):
    data = [*queries(("cat", "dog"), 8), *queries(("sun",), 2)]
    assert train_router(data, words)(Query("Is the sun here?")).labels == ("sun",)


def test_several_labels(words):
    both = [
        LabelledQuery(f"b{row}", f"Is the cat by the sea {end}?", ("cat", "sea"))
        for row, end in enumerate(ENDS)
    ]
    data = [*queries(("cat", "sea", "dog")), *both]
    router = train_router(data, words, multi_label=True)
    assert set(router(Query("Is the sea by the cat?")).labels) == {"cat", "sea"}
    assert router(Query("Is the dog here?")).labels == ("dog",)
    with pytest.raises(ValueError, match="query 'b0' needs several labels, cat, sea; train with"):
        train_router(data, words)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (queries(), {"folds": 1}, "folds must be at least 2, got 1"),
        (queries(("cat",)), {}, r"at least 2 different labels, got \['cat'\]"),
        ([], {}, r"at least 2 different labels, got \[\]"),
        (
            [*queries(), LabelledQuery("x", "sea", ("sea",)), LabelledQuery("y", "sea", ("sea",))],
            {},
            r"each label needs at least 2 different queries, got one of \['sea'\]",
        ),
    ],
)
def test_mistakes_are_named(words, data, options, message):
    with pytest.raises(ValueError, match=message):
        train_router(data, words, **options)
