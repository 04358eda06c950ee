"""Answers as JSON: what is there only if there is something to tell."""

import json
from dataclasses import replace

import pytest

from pipelines.cli.answers import as_json, draw, draw_passages, routed
from rag.records import (
    Answer,
    Attention,
    ContextStep,
    Passage,
    Route,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)

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


def test_how_each_passage_was_read_is_told():
    step = ContextStep("a.md:0", "text", "absent", 9, 4, 0.5, {"text": 0.25, "rows": 0.125})
    found = as_json(replace(ANSWER, context=(step,)))
    assert found["context"] == [
        {
            "passage_id": "a.md:0", "step": "text", "reason": "absent", "tokens": 9,
            "kept_tokens": 4, "load_ratio": 0.5, "seconds": {"text": 0.25, "rows": 0.125},
        }
    ]  # fmt: skip
    json.dumps(found, allow_nan=False)
    assert "context" not in as_json(ANSWER)


def test_what_was_predicted_is_explained_below_the_answer(capsys):
    times = {"ttft": 1.0, "total": 2.0}
    step = ContextStep("a.md:0", "text", "absent", 9, 4, 0.5, {"text": 0.25, "rows": 0.125})
    draw(replace(ANSWER, context=(step,), timings_ms=times))
    told = capsys.readouterr().err
    assert "a.md:0: text, 4 of 9 tokens (s = 0.44), β = 0.5, text 0.250000 s" in told
    assert "predicted in all: 0.250000 s" in told
    draw(replace(ANSWER, context=(replace(step, seconds={}),), timings_ms=times))
    assert "tokens (s =" not in capsys.readouterr().err


def test_kept_words_stand_in_one_line(capsys):
    words = [Span(*ends) for ends in ((0, 3), (3, 4), (4, 9), (9, 10))]
    scores = tuple(SentenceScore(s, 0.5, kept=row in {0, 2}) for row, s in enumerate(words))
    kept = Selection("a.md:0", text_sha(PASSAGE.text), scores, "words", unit="word")
    draw_passages([replace(PASSAGE, kept=kept)])
    assert "2 of 4 words kept\n   + Red Blue\n" in capsys.readouterr().out
    assert as_json(replace(ANSWER, passages=(replace(PASSAGE, kept=kept),)))["passages"][0][
        "kept"
    ] == [[0, 3], [4, 9]]


@pytest.mark.parametrize(
    ("route", "line"),
    [
        (
            Route(("table", "paragraph"), {"table": 0.712, "paragraph": 0.2, "none": 0.088}),
            "routed to table (0.71), paragraph (0.20)",
        ),
        (
            Route(("paragraph",), {"paragraph": 0.2}, reason="table has no passages: left out"),
            "routed to paragraph (0.20); table has no passages: left out",
        ),
        (Route(("law",)), "routed to law"),
        (Route(()), "routed to no label"),
    ],
)
def test_a_route_is_told_in_one_line(route, line):
    assert routed(route) == line


def test_a_route_is_told_to_programs():
    route = Route(("table",), {"table": 0.7, "none": 0.3}, "rules", fallback=True, reason="why")
    assert as_json(ANSWER, route)["route"] == {
        "labels": ["table"], "probs": {"table": 0.7, "none": 0.3}, "source": "rules",
        "fallback": True, "reason": "why",
    }  # fmt: skip
    assert "route" not in as_json(ANSWER)
