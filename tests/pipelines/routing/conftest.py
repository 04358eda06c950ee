"""A few questions, corpora that a test makes up, and a small folder of real ones."""

import pytest

from rag.evaluation.data import Question
from rag.records import Passage, Span


def passage(document, text):
    return Passage(f"{document}:1", document, text, Span(0, len(text)), (Span(0, len(text)),))


class MadeUp:
    """Retrieves by label and question from a table; remembers what it is asked."""

    def __init__(self, found):
        self.found, self.asked, self.stop_after = found, [], None

    def __call__(self, queries, label):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append((label, [query.text for query in queries]))
        return [
            [passage(f"{label}-{n}", text) for n, text in enumerate(self.found[label](query.text))]
            for query in queries
        ]


@pytest.fixture
def questions():
    return [
        Question("tower", "How tall is the tower?", ("330 m",)),
        Question("king", "Who was king?", ("Olaf",)),
        Question("never", "What is never said?", ("hush",)),
    ]


@pytest.fixture
def retrieve():
    return MadeUp(
        {
            "paragraph": lambda text: ["Olaf was king of Norway."] if "king" in text else [],
            "table": lambda text: ["height: 330 m", "king: Olaf"],
            "document": lambda text: ["The tower is 330 m tall. " * 5 + "Olaf was king."],
        }
    )


@pytest.fixture
def corpora(tmp_path, encoder, monkeypatch):
    """A corpora folder of two notes and a table, and an encoder that is found by any name."""
    from pipelines.corpora.build import build_corpora

    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: encoder)
    notes = tmp_path / "sources"
    notes.mkdir()
    (notes / "kings.md").write_text("# Kings\n\nOlaf was king of Norway. He was holy.\n")
    (notes / "towers.md").write_text("# Towers\n\nThe tower opened in 1889. It is of iron.\n")
    (notes / "heights.csv").write_text("name,height\ntower,330 m\nmast,120 m\n")
    folder = tmp_path / "corpora"
    build_corpora([str(notes)], folder, encoder=encoder, labels=["paragraph", "table"])
    return folder
