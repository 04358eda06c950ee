"""Answers as JSON: what is there only if there is something to tell."""

import json
from dataclasses import replace

from pipelines.cli.answers import as_json
from rag.records import Answer, Attention, Passage, Span

PASSAGE = Passage("a.md:0", "a.md", "Red. Blue.", Span(0, 10), (Span(0, 5), Span(5, 10)))
ANSWER = Answer("Red.", (PASSAGE,), mode="ape", model="tiny")


def test_attention_is_told_by_passage_and_sentence():
    looked = (Attention("a.md:0", 1.0, (2 / 3, 1 / 3)), Attention("b.md:0", 0.0))
    found = as_json(replace(ANSWER, attention=looked))
    assert found["attention"] == [
        {"passage_id": "a.md:0", "share": 1.0, "sentences": [0.666667, 0.333333]},
        {"passage_id": "b.md:0", "share": 0.0, "sentences": []},
    ]
    json.dumps(found, allow_nan=False)


def test_without_attention_nothing_is_said_of_it():
    assert "attention" not in as_json(ANSWER)
    seen = as_json(replace(ANSWER, attention=(Attention("a.md:0", 1.0),)))
    assert {key: seen[key] for key in as_json(ANSWER)} == as_json(ANSWER)
