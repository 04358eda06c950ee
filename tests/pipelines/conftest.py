"""A cheap encoder and a small folder of notes."""

import hashlib

import numpy as np
import pytest


class HashEncoder:
    """Unit vectors from hashes of the texts; counts what it encodes, and can be told to stop."""

    dim = 16

    def __init__(self, fingerprint="f" * 64, name="hash"):
        self.name = name
        self.fingerprint = fingerprint
        self.texts = []
        self.stop_after = None

    def encode(self, texts, *, progress=None):
        if self.stop_after is not None and len(self.texts) + len(texts) > self.stop_after:
            raise KeyboardInterrupt
        self.texts += texts
        rows = [
            np.frombuffer(hashlib.sha256((self.fingerprint + t).encode()).digest(), np.uint16)
            for t in texts
        ]
        vectors = np.array(rows, np.float32).reshape(-1, self.dim) - 32767.5
        if progress:
            progress(len(texts))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder():
    return HashEncoder()


@pytest.fixture
def notes(tmp_path):
    """A folder with three documents of a few sentences."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("apples", "bridges", "clouds"):
        text = " ".join(f"Sentence {n} is about {name}." for n in range(6))
        (folder / f"{name}.md").write_text(f"# About {name}\n\n{text}\n")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tiny_model, tiny_tokenizer, tmp_path_factory):
    """A folder with a tiny model, with room for the whole prompt, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(max_position_embeddings=4096).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def index(notes, encoder, monkeypatch, tmp_path):
    """An index of three notes, and an encoder that is found by any name."""
    from pipelines.indexing import build_index

    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipelines.answering.load_encoder", lambda name, download: encoder)
    folder = tmp_path / "notes.idx"
    build_index([str(notes)], folder, encoder=encoder)
    return folder
