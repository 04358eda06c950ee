"""Training of the feature head: same seed same bytes, it learns, thresholds, edges, errors."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from pruners.features.head import CONFIG, WEIGHTS
from pruners.features.scorer import FeatureScorer
from pruners.training.labelled import LabelledPassage
from pruners.training.train_features import (
    Fitting,
    _calibrated,
    _rate,
    _threshold,
    train_features,
)
from rag.records import Query

TOWNS = "Cork Rome Oslo Bern Lima Kyiv Pune Faro Metz Brno Graz Linz Lodz Nice Turin Porto".split()  # noqa: SIM905
FEW = Fitting(hidden=16, epochs=40, batch=64, learning_rate=1e-2)


def example(row, helps=True):
    town = TOWNS[row % len(TOWNS)] + "abcdefgh"[row // len(TOWNS)]
    other = TOWNS[(row + 5) % len(TOWNS)]
    sentences = ["It rains often.", f"{town} lies on a river.", f"{other} is far away."]
    turn = row % 3
    sentences = sentences[turn:] + sentences[:turn]
    gold = frozenset({sentences.index(f"{town} lies on a river.")})
    asked = f"Where is the river of {town if helps else town + 'x'}?"
    return LabelledPassage(
        f"e{row}{helps}", "toy", asked, town, tuple(sentences), gold if helps else frozenset()
    )


EXAMPLES = [example(row, helps) for row in range(48) for helps in (True, False)]


def files(head, folder):
    head.save(folder)
    return [(folder / name).read_bytes() for name in (WEIGHTS, CONFIG)]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(encoder, tmp_path):
    one, again, other = (
        train_features(EXAMPLES[:40], encoder, seed=seed, fitting=FEW) for seed in (3, 3, 4)
    )
    assert files(one, tmp_path / "a") == files(again, tmp_path / "b")
    assert files(one, tmp_path / "a") != files(other, tmp_path / "c")


def test_training_leaves_the_generators_of_others_alone(encoder):
    import torch

    torch.manual_seed(7)
    wanted = torch.rand(3).tolist()
    torch.manual_seed(7)
    train_features(EXAMPLES[:20], encoder, fitting=FEW)
    assert torch.rand(3).tolist() == wanted


def test_it_learns_to_tell_the_sentence_that_answers(encoder):
    scorer = FeatureScorer(encoder, train_features(EXAMPLES, encoder, fitting=FEW))
    new = [example(row) for row in range(48, 60)]
    for one in new:
        (found,) = scorer(Query(one.question), [one.passage()])
        best = max(range(3), key=found.sentences.__getitem__)
        assert best in one.gold


def test_thresholds_fall_as_the_recall_rises_and_the_head_says_how_it_was_made(encoder):
    head = train_features(EXAMPLES, encoder, seed=2, fitting=FEW)
    found = [head.thresholds[name] for name in ("0.90", "0.95", "0.98")]
    assert all(one >= next_ for one, next_ in pairwise(found))
    assert 0.0 < head.threshold < 1.0
    assert head.about["seed"] == 2
    assert head.about["examples"] == len(EXAMPLES)
    assert (head.encoder, head.encoder_fingerprint) == (encoder.name, encoder.fingerprint)


def test_as_many_networks_are_made_as_asked_for_and_they_differ(encoder):
    head = train_features(EXAMPLES[:20], encoder, networks=2, fitting=FEW)
    first, second = head.networks
    assert not np.array_equal(first.layers[0][0], second.layers[0][0])


def test_each_text_is_encoded_once(encoder):
    train_features(EXAMPLES[:10], encoder, networks=1, fitting=FEW)
    sentences = {f"{one.title}: {text}" for one in EXAMPLES[:10] for text in one.sentences}
    encoded = [text for text in encoder.texts if text in sentences]
    assert len(encoded) == len(set(encoded)) == len(sentences)


def test_stages_add_up(encoder):
    said = []

    class Watching:
        def stage(self, name, total):
            said.append([name, total, 0])

        def advance(self, steps=1):
            said[-1][2] += steps

    train_features(EXAMPLES[:20], encoder, networks=1, fitting=FEW, progress=Watching())
    assert [name for name, *_ in said] == ["encode", "features", "fit"]
    assert all(total == done for _, total, done in said)


def test_too_little_for_validation_gives_a_head_without_thresholds(encoder):
    head = train_features(EXAMPLES[:2], encoder, networks=1, fitting=FEW)
    assert head.thresholds == {}
    assert (head.slope, head.offset) == (1.0, 0.0)


def test_examples_without_gold_are_refused(encoder):
    with pytest.raises(ValueError, match="some that are not, got 0 of"):
        train_features([one for one in EXAMPLES if not one.gold], encoder)


def test_no_network_is_refused(encoder):
    with pytest.raises(ValueError, match="networks must be at least 1, got 0"):
        train_features(EXAMPLES, encoder, networks=0)


@pytest.mark.parametrize(("recall", "kept"), [(0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)])
def test_a_threshold_has_its_share_of_the_gold_sentences_above(recall, kept):
    odds = np.array([2.0, -1.0, 0.5, -3.0])
    threshold = _threshold(odds, recall)
    assert sum(1 / (1 + math.exp(-value)) > threshold for value in odds) == kept


def test_calibration_finds_the_log_odds_that_made_the_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=40_000, scale=2)
    gold = rng.random(40_000) < 1 / (1 + np.exp(-(0.7 * logits - 0.9)))
    assert _calibrated(logits, gold) == pytest.approx((0.7, -0.9), abs=0.05)


def test_calibration_of_separable_labels_is_finite():
    slope, offset = _calibrated(np.array([-1.0, 1.0, 2.0]), np.array([False, True, True]))
    assert 0.0 < slope < 100.0
    assert math.isfinite(offset)


def test_the_learning_rate_rises_for_a_tenth_and_falls_to_nothing():
    rates = [_rate(step, 100) for step in range(101)]
    assert rates[0] == 0.0
    assert max(rates) == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


def test_the_config_is_plain_json(encoder, tmp_path):
    train_features(EXAMPLES[:20], encoder, networks=1, fitting=FEW).save(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["encoder"] == "hash"
