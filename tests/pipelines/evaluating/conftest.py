"""A small data folder."""

import json

import pytest


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Three passages, one of them empty, and four questions; the cache is a folder of the test."""
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "small set"
    folder.mkdir()
    passages = [
        {"id": "a", "title": "Apples", "text": "Red. Round.", "sentences": ["Red.", "Round."]},
        {"id": "b", "title": "", "text": "", "sentences": []},
        {"id": "c", "title": "Clouds", "text": "White.", "sentences": ["White."]},
    ]
    questions = [
        {
            "id": f"q{n}",
            "question": f"What colour is number {n}?",
            "answers": ["red"],
            "supporting": [{"doc_id": "a", "sentence_ids": [0]}],
        }
        for n in range(4)
    ]
    for name, lines in (("corpus", passages), ("queries", questions)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    (folder / "qrels.tsv").write_text("".join(f"q{n}\t0\ta\t1\n" for n in range(4)))
    return folder
