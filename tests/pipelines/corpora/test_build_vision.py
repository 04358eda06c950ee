"""Vectors of pictures in a corpora folder: made when asked for, kept up to date, and dropped."""

import numpy as np
import pytest

from pipelines.corpora.kinds import corpus_kinds
from pipelines.corpora.opening import open_corpora

image_module = pytest.importorskip("PIL.Image")


class MeanColour:
    """Encodes a picture as its mean colour; counts what it is given."""

    name, fingerprint, dim = "colours", "c" * 64, 3

    def __init__(self):
        self.seen = 0

    def encode_images(self, images, *, progress=None):
        self.seen += len(images)
        opened = [image_module.open(i) if hasattr(i, "suffix") else i for i in images]
        rows = [np.asarray(one.convert("RGB"), np.float32).mean((0, 1)) + 1 for one in opened]
        vectors = np.stack(rows)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_queries(self, texts):
        colours = {"red": (1, 0, 0), "blue": (0, 0, 1)}
        return np.array([colours[text] for text in texts], np.float32)


def paint(path, colour):
    image_module.new("RGB", (8, 8), colour).save(path)


def test_pictures_are_found_by_their_vectors(notes, build, out, encoder):
    kinds, eye = corpus_kinds(("paragraph", "image")), MeanColour()
    paint(notes / "a.png", "red")
    paint(notes / "b.png", "blue")
    build(notes, kinds=kinds)
    assert open_corpora(out, encoder=encoder).vision is None
    build(notes, kinds=kinds, image_encoder=eye)
    vision = open_corpora(out, encoder=encoder).vision
    found = vision.search_vectors(eye.encode_queries(["blue"]), 1)[0]
    assert [hit.id for hit in found] == ["notes/b.png:i0"]
    assert eye.seen == 2
    build(notes, kinds=kinds, image_encoder=eye)
    assert eye.seen == 2


def test_a_build_without_an_image_encoder_keeps_the_vectors_up_to_date(
    notes, build, out, encoder, monkeypatch
):
    kinds, eye = corpus_kinds(("paragraph", "image")), MeanColour()
    monkeypatch.setattr("rag.models.image_encoder.load_image_encoder", lambda name, **_: eye)
    paint(notes / "a.png", "red")
    build(notes, kinds=kinds, image_encoder=eye)
    paint(notes / "b.png", "blue")
    build(notes, kinds=kinds)
    vision = open_corpora(out, encoder=encoder).vision
    found = vision.search_vectors(eye.encode_queries(["red"]), 9)[0]
    assert [hit.id for hit in found] == ["notes/a.png:i0", "notes/b.png:i0"]
    (notes / "a.png").unlink()
    (notes / "b.png").unlink()
    build(notes, kinds=kinds)
    assert open_corpora(out, encoder=encoder).vision is None


def test_retrieval_goes_by_what_is_seen(notes, build, out, encoder, monkeypatch):
    from pipelines.catalogue.corpora import retrieve
    from rag.records import Query, Route

    eye, route = MeanColour(), Route(("image",), {"image": 1.0})
    monkeypatch.setattr("rag.models.image_encoder.load_image_encoder", lambda name, **_: eye)
    paint(notes / "a.png", "red")
    paint(notes / "b.png", "blue")
    build(notes, kinds=corpus_kinds(("paragraph", "image")), image_encoder=eye)
    opened = open_corpora(out, encoder=encoder)

    def found(text, **options):
        search = retrieve(opened, tokens=None, image_weight=1.0, **options)
        return [one.id for one in search(Query(text), route)]

    assert found("blue") == ["notes/b.png:i0", "notes/a.png:i0"]
    assert found("red", top_k=1) == ["notes/a.png:i0"]
    assert found("red", filter={"source": "notes/b.png"}) == ["notes/b.png:i0"]
    opened.close()
    scoped = open_corpora(out, encoder=encoder, scope={"source": "notes/b.png"})
    search = retrieve(scoped, tokens=None, image_weight=1.0)
    assert [one.id for one in search(Query("red"), route)] == ["notes/b.png:i0"]
    scoped.close()
