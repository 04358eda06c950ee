"""Labels of a route: modality first, several by threshold, `none` alone, ties."""

import pytest

from rag.routing.decision import chosen_labels
from rag.routing.labels import DESCRIPTIONS, MODALITIES


def test_two_labels_of_a_modality_outvote_a_third():
    probs = {"image": 0.4, "paragraph": 0.25, "document": 0.35}
    assert chosen_labels(probs, MODALITIES) == ("document",)
    assert chosen_labels(probs, {}) == ("image",)


def test_ties_go_to_the_first_label():
    assert chosen_labels({"b": 0.5, "a": 0.5}, {}) == ("b",)
    assert chosen_labels({"x": 0.3, "y": 0.3, "z": 0.4}, {"x": "m", "y": "m"}) == ("x",)


def test_several_labels_are_best_first_and_one_a_modality():
    probs = {"paragraph": 0.6, "document": 0.7, "image": 0.9, "table": 0.5, "video": 0.4}
    assert chosen_labels(probs, MODALITIES, threshold=0.5) == ("image", "document", "table")


def test_none_goes_alone():
    assert chosen_labels({"none": 0.9, "image": 0.6}, {}, threshold=0.5) == ("image",)
    assert chosen_labels({"none": 0.9, "image": 0.4}, {}, threshold=0.5) == ("none",)


def test_below_the_threshold_the_best_label_goes():
    probs = {"paragraph": 0.2, "document": 0.2, "image": 0.3}
    assert chosen_labels(probs, MODALITIES, threshold=0.5) == ("image",)


def test_no_label_is_a_mistake():
    with pytest.raises(ValueError, match="probs must hold at least one label, got none"):
        chosen_labels({}, {})


def test_every_usual_label_is_described():
    assert DESCRIPTIONS.keys() == MODALITIES.keys()
