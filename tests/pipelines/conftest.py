"""A small folder of notes, and an index of it."""

import pytest

from rag.records import PassageScores


@pytest.fixture
def notes(tmp_path):
    """A folder with three documents of a few sentences."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("apples", "bridges", "clouds"):
        text = " ".join(f"Sentence {n} is about {name}." for n in range(6))
        (folder / f"{name}.md").write_text(f"# About {name}\n\n{text}\n")
    return folder


@pytest.fixture
def index(notes, encoder, monkeypatch, tmp_path):
    """An index of three notes, and an encoder that is found by any name."""
    from pipelines.indexing import build_index
    from pipelines.snapshots import Form
    from retrievers.graph.settings import GraphSettings

    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: encoder)
    folder = tmp_path / "notes.idx"
    build_index([str(notes)], folder, encoder=encoder, form=Form(graph=GraphSettings()))
    return folder


class LengthScorer:
    """Stands in for a trained scorer: likes long sentences, and passages in reverse."""

    name, threshold = "length", 0.3

    def __call__(self, query, passages):
        return [
            PassageScores(
                tuple(min(1.0, len(span) / 60) for span in passage.sentences), -(passage.score or 0)
            )
            for passage in passages
        ]


@pytest.fixture
def length_scorers(monkeypatch):
    """In place of trained scorers, which know one encoder."""
    for loaded in ("load_provence", "FeatureScorer"):
        monkeypatch.setattr(
            f"pipelines.catalogue.pruning.{loaded}", lambda *_, **__: LengthScorer()
        )
