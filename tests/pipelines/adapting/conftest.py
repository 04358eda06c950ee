"""A small data folder, and a file of labelled passages."""

import gzip
import json

import pytest

from rag.records import Passage, Span

TOWNS = ("Aton", "Beck", "Corby", "Dale")


def write_lines(path, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        path.write_text(text)


@pytest.fixture
def lines():
    return write_lines


@pytest.fixture
def towns(tmp_path, monkeypatch):
    """Four articles of three passages each; the cache is a folder of the test.

    Each passage has a question, every article one that is unanswerable.
    """
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "towns"
    folder.mkdir()
    corpus, asked, refused = [], [], []
    for number, town in enumerate(TOWNS):
        for thing in ("mayor", "river", "bridge"):
            id_ = f"{town}-{thing}"
            sentences = [f"The {thing} of {town} is old.", f"It is called {thing}{number}."]
            corpus.append(
                {"id": id_, "title": town, "text": " ".join(sentences), "sentences": sentences}
            )
            asked.append(
                {
                    "id": f"q-{id_}",
                    "question": f"What is the {thing} of {town} called?",
                    "answers": [f"the {thing}{number}", f"{thing}{number}"],
                    "supporting": [{"doc_id": id_, "sentence_ids": [1]}],
                    "context_ids": [f"{town}-mayor", id_, f"{TOWNS[number - 1]}-{thing}"],
                }
            )
        refused.append(
            {
                "id": f"u-{town}",
                "question": f"Who paid for the river of {town}?",
                "answers": [],
                "unanswerable": True,
                "near_doc_id": f"{town}-river",
            }
        )
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl.gz", asked)
    write_lines(folder / "unanswerable.jsonl", refused)
    (folder / "meta.json").write_text(json.dumps({"licence": "CC BY 4.0 (towns); MIT"}))
    return folder


def labelled_row(id_, question, sentences, gold, answers, source="wiki", title="Some_page"):
    return {
        "id": id_,
        "source": source,
        "question": question,
        "title": title,
        "sentences": sentences,
        "gold": gold,
        "answers": answers,
    }


@pytest.fixture
def row():
    return labelled_row


@pytest.fixture
def passage():
    """Return a function (id, text, title) -> passage of one sentence."""

    def made(id_, text=None, title="", score=None):
        text = f"text of {id_}" if text is None else text
        whole = Span(0, len(text))
        return Passage(id_, id_, text, whole, (whole,) if text else (), title, score=score)

    return made
