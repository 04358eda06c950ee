"""Classifier routing: logits by hand, trust, files that come back, damage and other encoders."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rag.errors import RouterError
from rag.records import Query
from rag.routing import RouteClassifier
from rag.routing.heads import Heads, Linear
from rag.routing.ngrams import HashedNGrams, WeightedNGrams

TEXTS = ["cat and dog", "cat and sun", "the sea"]


@pytest.fixture
def router(words):
    rng = np.random.default_rng(0)
    labels = ("image", "paragraph", "document")

    def linear(features):
        shapes = ((features, 3), (3,))
        return Linear(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))

    ngrams = []
    for counted in (HashedNGrams("words", 1, 2, 512), HashedNGrams("characters", 2, 3, 512)):
        weighted = WeightedNGrams.fitted(counted, [counted(text) for text in TEXTS])
        ngrams.append((weighted, linear(len(weighted.kept))))
    return RouteClassifier(
        words,
        labels,
        Heads(linear(words.dim), tuple(ngrams)),
        words.encode(TEXTS),
        words.name,
        words.fingerprint,
        temperature=0.7,
        trust=0.6,
        about={"data": "abc"},
    )


def test_probabilities_are_the_softmax_of_mean_logits(router, words):
    text = "the cat and the sea"
    vector = words.encode([text])[0].astype(float)
    logits = [vector @ router.heads.vector.weight + router.heads.vector.bias]
    for weighted, head in router.heads.ngrams:
        logit = head.bias.astype(float)
        for feature, weight in zip(*weighted(text), strict=True):
            logit = logit + weight * head.weight[feature]
        logits.append(logit)
    grown = np.exp(np.mean(logits, axis=0) / 0.7)
    route = router(Query(text))
    np.testing.assert_allclose(list(route.probs.values()), grown / grown.sum(), rtol=1e-6)
    assert tuple(route.probs) == router.labels
    assert route.source == "classifier"


def test_several_labels_have_a_sigmoid_each_and_a_threshold(router):
    several = replace(router, multi_label=True, threshold=0.0)
    route = several(Query("cat"))
    assert len(route.labels) == 2  # paragraph and document are of one modality
    logits = several.heads.logits(["cat"], several.encoder.encode(["cat"]))[0]
    np.testing.assert_allclose(list(route.probs.values()), 1 / (1 + np.exp(-logits / 0.7)))


def test_far_from_training_queries_is_a_fallback(router):
    assert router(Query("dog dog")).fallback is False
    assert router(Query("nothing")).fallback is True
    assert replace(router, trust=-1.0)(Query("nothing")).fallback is False


def test_modality_goes_first(router):
    for query in (Query("cat"), Query("sun"), Query("sea dog")):
        route = router(query)
        image = route.probs["image"]
        assert (route.labels[0] == "image") == (image > 0.5)


def test_a_batch_equals_a_loop_and_encodes_once(router, words):
    queries = [Query(text) for text in (*TEXTS, "other")]
    alone = [router(query) for query in queries]
    before = words.calls
    together = router.batch(query=queries)
    assert words.calls == before + 1
    assert [route.labels for route in together] == [route.labels for route in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.probs == pytest.approx(other.probs, abs=1e-6)
    assert router.batch([]) == []


def test_it_comes_back_from_its_folder(router, words, tmp_path):
    router.save(tmp_path / "made")
    again = RouteClassifier.load(tmp_path / "made", words)
    queries = [Query(text) for text in (*TEXTS, "other")]
    assert again.batch(queries) == router.batch(queries)
    assert again.fingerprint == router.fingerprint
    assert again.about == {"data": "abc"}
    assert again.modalities == router.modalities


def test_the_fingerprint_depends_on_what_routes_depend_on(router):
    assert replace(router, about={}).fingerprint == router.fingerprint
    assert replace(router, temperature=0.8).fingerprint != router.fingerprint
    assert replace(router, known=-router.known).fingerprint != router.fingerprint


def test_another_encoder_is_refused_by_name(router, encoder, tmp_path):
    router.save(tmp_path)
    message = r"trained with encoder 'words' \(w{12}\), got 'hash' \(f{12}\).*dovetail router train"
    with pytest.raises(RouterError, match=message):
        RouteClassifier.load(tmp_path, encoder)


def test_a_folder_without_a_router_is_refused(words, tmp_path):
    with pytest.raises(RouterError, match=r"missing: config\.json, router\.safetensors"):
        RouteClassifier.load(tmp_path, words)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "dovetail-router-9"}, "must be of format 'dovetail-router-1', got 'dovetail-"),
        ({"labels": ["a"]}, r"weight must be of shape \(\d+, 1\), got \(\d+, 3\)"),
        ({"temperature": "hot"}, "is damaged: could not convert"),
        ({"temperature": -1}, "temperature must be above 0, got -1"),
        ({"trust": 7}, r"trust must be in \[-1, 1\], got 7"),
        ({"encoder": {}}, "is damaged: 'dim' is missing"),
        ({"weights": "0"}, r"router\.safetensors is not the file that config\.json names"),
    ],
)
def test_a_damaged_configuration_is_refused(router, words, tmp_path, changes, message):
    router.save(tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(RouterError, match=message):
        RouteClassifier.load(tmp_path, words)


def test_damaged_weights_are_refused(router, words, tmp_path):
    import hashlib

    router.save(tmp_path)
    path = tmp_path / "router.safetensors"
    tensors = load_file(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RouterError, match=r"is damaged: router\.safetensors is not the file"):
        RouteClassifier.load(tmp_path, words)
    for tensors_now, message in (
        (tensors | {"vector.bias": np.full(3, np.nan, np.float32)}, "vector.bias must be finite"),
        ({k: v for k, v in tensors.items() if k != "known"}, "'known' is missing"),
    ):
        save_file(tensors_now, path)
        change_config(tmp_path, weights=hashlib.sha256(path.read_bytes()).hexdigest())
        with pytest.raises(RouterError, match=message):
            RouteClassifier.load(tmp_path, words)
    path.write_bytes(b"no tensors")
    change_config(tmp_path, weights=hashlib.sha256(b"no tensors").hexdigest())
    with pytest.raises(RouterError, match=r"is damaged: router\.safetensors cannot be read"):
        RouteClassifier.load(tmp_path, words)


def test_vectors_of_another_shape_are_refused(router):
    with pytest.raises(ValueError, match=r"vectors must be of shape \(1, 5\), got \(1, 4\)"):
        router.routes(["cat"], np.zeros((1, 4)))


def test_inference_loads_no_scikit_learn():
    code = (
        "import rag.routing.classifier_file, rag.routing.heads, sys; "
        "sys.exit(bool({'sklearn', 'scipy', 'torch'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
