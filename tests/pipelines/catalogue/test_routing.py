"""Routers in the catalogue: options, the trained folder, members of an ensemble, mistakes."""

import json

import numpy as np
import pytest

from pipelines.catalogue import routing
from pipelines.catalogue.table import catalogue, load
from rag.errors import RouterError
from rag.records import Query
from rag.routing import LabelledQuery
from rag.routing.labels import MODALITIES
from rag.routing.shipped import shipped_routers
from rag.routing.training.train_router import train_router

NAMES = ("descriptions", "examples", "classifier", "lm", "ensemble")
TOLD = {"pets": "cat dog", "sky": "sun star"}


class Letters:
    name = fingerprint = "letters"
    dim = 5

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        vectors = np.array([[1, *(t.count(c) for c in "csdt")] for t in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path):
    queries = [
        LabelledQuery(f"{label}{row}", f"{text} {row}", (label,))
        for label, text in TOLD.items()
        for row in range(3)
    ]
    train_router(queries, Letters(), folds=2).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_router_is_listed_with_docs_and_its_resource(name):
    spec = catalogue().operators[f"route.{name}"]
    assert spec.submodule == "routing"
    assert spec.batched
    assert [port.name for port in spec.inputs] == ["query"]
    assert spec.output.name == "route"
    assert all(option.about for option in spec.options)
    needs = {need.name: need.optional for need in spec.needs}
    assert needs == ({"lm": False} if name == "lm" else {"encoder": False, "lm": True} if name
                     == "ensemble" else {"encoder": False})  # fmt: skip
    assert load(spec.target) is not None


def test_a_classifier_is_read_and_may_be_changed(folder):
    read = routing.classifier(Letters(), model=folder)
    changed = routing.classifier(Letters(), model=folder, trust=0.5, threshold=0.25)
    assert (changed.trust, changed.threshold) == (0.5, 0.25)
    assert read.trust != 0.5
    assert read(Query("cat dog 7")).labels == ("pets",)
    with pytest.raises(RouterError, match="is no router"):
        routing.classifier(Letters(), model=folder / "none")


def test_members_of_an_ensemble_get_their_options(folder):
    made = routing.ensemble(
        Letters(), "lm", routers=("classifier", "examples", "descriptions", "lm"), rule="mean",
        threshold=0.5, model=folder, descriptions=TOLD, examples={"sky": ["sun"]},
        modalities={"sky": "m"},
    )  # fmt: skip
    names = ["RouteClassifier", "ExampleRouter", "DescriptionRouter", "LMRouter"]
    assert [type(member).__name__ for member in made.routers] == names
    assert (made.rule, made.threshold, made.modalities) == ("mean", 0.5, {"sky": "m"})
    assert made.routers[1].examples == made.routers[3].examples == {"sky": ["sun"]}
    assert made.routers[2].descriptions == made.routers[3].descriptions == TOLD


def test_members_without_their_parts_are_refused():
    with pytest.raises(ValueError, match="lm must be a language model for the member lm"):
        routing.ensemble(Letters(), routers=("lm",))


@pytest.mark.parametrize("made_by", [routing.classifier, routing.ensemble])
def test_the_router_that_comes_along_is_refused_under_another_encoder(made_by):
    said = r"model: auto has a router for encoder minilm \(.*\), got 'letters' \(letters\)"
    with pytest.raises(RouterError, match=said):
        made_by(Letters())


def test_the_router_that_comes_along_is_taken_for_its_encoder():
    (shipped,) = shipped_routers()
    told = json.loads((shipped / "config.json").read_text())["encoder"]

    class AsTrained(Letters):
        name, fingerprint, dim = "mine", told["fingerprint"], told["dim"]

    assert set(routing.classifier(AsTrained()).labels) == set(MODALITIES)
    assert routing.ensemble(AsTrained()).routers[0].labels == routing.classifier(AsTrained()).labels
