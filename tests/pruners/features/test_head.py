"""The head: its formula, calibration, bytes on disk, and refusals."""

import json

import numpy as np
import pytest

from pruners.features.features import FEATURES
from pruners.features.head import CONFIG, WEIGHTS, FeatureHead, Network
from rag.errors import ModelNotFoundError

WIDTH = len(FEATURES)


def network(seed, width=WIDTH, hidden=5):
    rng = np.random.default_rng(seed)
    sizes = [width, hidden, hidden, 1]
    layers = tuple(
        (
            rng.normal(size=(sizes[row], sizes[row + 1])).astype(np.float32),
            rng.normal(size=sizes[row + 1]).astype(np.float32),
        )
        for row in range(3)
    )
    mean, scale = rng.normal(size=width), rng.uniform(0.5, 2.0, size=width)
    return Network(mean.astype(np.float32), scale.astype(np.float32), layers)


def head(**changes):
    made = {
        "networks": (network(0), network(1)),
        "encoder": "hash",
        "encoder_fingerprint": "f" * 64,
        "slope": 0.8,
        "offset": -0.3,
        "thresholds": {"0.90": 0.2, "0.95": 0.1},
        "about": {"seed": 3},
    }
    return FeatureHead(**(made | changes))


def by_definition(one, row):
    """Two ReLU layers and a linear one, a row at a time, in float64."""
    values = [
        min(6.0, max(-6.0, (value - mean) / scale))
        for value, mean, scale in zip(row, one.mean, one.scale, strict=True)
    ]
    for last, (weight, bias) in (
        (False, one.layers[0]),
        (False, one.layers[1]),
        (True, one.layers[2]),
    ):
        values = [
            float(bias[out])
            + sum(value * float(weight[at, out]) for at, value in enumerate(values))
            for out in range(len(bias))
        ]
        values = values if last else [max(0.0, value) for value in values]
    return values[0]


def test_the_calibrated_mean_of_the_networks_is_the_log_odds():
    features = np.random.default_rng(5).normal(size=(4, len(FEATURES)), scale=4).astype(np.float32)
    made = head()
    means = [np.mean([by_definition(one, row) for one in made.networks]) for row in features]
    np.testing.assert_allclose(made.logits(features), 0.8 * np.array(means) - 0.3, rtol=1e-4)


def test_loading_gives_back_every_bit(tmp_path):
    made = head()
    made.save(tmp_path / "new" / "head")
    loaded = FeatureHead.load(tmp_path / "new" / "head")
    features = np.random.default_rng(1).normal(size=(9, len(FEATURES))).astype(np.float32)
    assert made.logits(features).tobytes() == loaded.logits(features).tobytes()
    assert (loaded.encoder, loaded.encoder_fingerprint) == ("hash", "f" * 64)
    assert (loaded.thresholds, loaded.about) == (made.thresholds, made.about)
    assert loaded.threshold == 0.1


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        head().save(tmp_path / name)
    for file in (WEIGHTS, CONFIG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_fingerprint_knows_all_that_scores_depend_on_and_nothing_else(tmp_path):
    made = head()
    made.save(tmp_path)
    alike = [
        head(),
        head(about={}),
        head(thresholds={}),
        head(encoder="b"),
        FeatureHead.load(tmp_path),
    ]
    assert {one.fingerprint for one in alike} == {made.fingerprint}
    others = [
        head(slope=0.9),
        head(offset=0.0),
        head(encoder_fingerprint="e" * 64),
        head(networks=(network(0),)),
        head(networks=(network(1), network(0))),
    ]
    assert len({one.fingerprint for one in [made, *others]}) == 6


def test_a_head_without_validation_has_no_threshold():
    with pytest.raises(ValueError, match=r"thresholds must hold 0\.95, got \[\]"):
        _ = head(thresholds={}).threshold


def test_an_empty_folder_holds_no_head(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"must hold config\.json and model\.safetensors"):
        FeatureHead.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("format", {"format": 99}),
        ("features", {"features": ["cosine"]}),
        ("networks", {"networks": 3}),
        ("slope", {"slope": None}),
    ],
)
def test_a_head_of_another_layout_is_refused(tmp_path, name, change):
    head().save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match="holds no readable feature pruner"):
        FeatureHead.load(tmp_path)


def test_damaged_weights_are_refused(tmp_path):
    head().save(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-9])
    with pytest.raises(ValueError, match="holds no readable feature pruner"):
        FeatureHead.load(tmp_path)


def test_weights_of_another_width_are_refused(tmp_path):
    head(networks=(network(0, width=7),)).save(tmp_path)
    with pytest.raises(ValueError, match=rf"0 must read {len(FEATURES)} features"):
        FeatureHead.load(tmp_path)
