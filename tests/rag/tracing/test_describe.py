"""Events: what each kind of value puts into the trace."""

import json
import math
from dataclasses import replace

import pytest

from rag.ranking import Ranking
from rag.records import Answer, Attention, Completion, ContextStep, Hit, Judgement, Query, Route
from rag.tracing import Trace, events_of
from rag.tracing.wording import line_of

SENTENCES = ("Backups run at two. ", "The lamp is red. ", "They go to the attic.")
TEXT = "".join(SENTENCES)


def test_passages_are_retrieved_in_their_order_without_the_tail(build):
    ((name, data),) = events_of(
        Ranking(
            [build.passage(score=0.1234567), build.passage("b.md:0", score=None)],
            tail=[Hit("z", 0.1)],
        )
    )
    assert name == "retrieved"
    first, second = data["passages"]
    assert first == {
        "id": "a.md:0",
        "document": "a.md",
        "title": "Backups",
        "score": 0.123457,
        "rank": 1,
        "span": [100, 100 + len(TEXT)],
        "text": TEXT,
    }
    assert (second["rank"], second["score"]) == (2, None)


def test_pruned_passages_tell_of_every_sentence(build):
    ((name, data),) = events_of([build.passage(kept=(0.9, 0.0, 0.6))])
    assert name == "pruned"
    assert (data["passage"], data["method"], data["threshold"]) == ("a.md:0", "sentences", 0.4)
    assert data["text"] == TEXT
    assert data["sentences"][1] == {
        "span": [len(SENTENCES[0]), len(SENTENCES[0] + SENTENCES[1])],
        "score": 0.0,
        "kept": False,
        "forced": "title",
    }
    kept = len(SENTENCES[0]) + len(SENTENCES[2])
    assert data["keep_ratio"] == pytest.approx(kept / len(TEXT), abs=1e-6)


def test_whole_and_pruned_passages_together_keep_their_ranks(build):
    events = events_of([build.passage(kept=(0.9, 0.1, 0.6)), build.passage("b.md:0")])
    assert [name for name, _ in events] == ["retrieved", "pruned"]
    assert [row["rank"] for row in events[0][1]["passages"]] == [2]


def test_a_text_that_was_described_is_left_out_but_another_of_the_same_id_is_not(build):
    described = set()
    assert "text" in events_of([build.passage()], described)[0][1]["passages"][0]
    assert "text" not in events_of([build.passage(kept=(1, 1, 1))], described)[0][1]
    assert (
        "text" in events_of([build.passage(text=TEXT[:-1] + "!")], described)[0][1]["passages"][0]
    )


def test_an_answer_tells_of_kv_prompt_text_and_citations(build):
    events = dict(events_of(build.answer()))
    assert list(events) == ["kv", "prompt", "generated", "citations"]
    assert events["kv"] == {
        "hits": 1,
        "misses": 1,
        "bytes": 2_500_000,
        "segments": {"prefix": "hit (ram)", "a.md:0": "absent"},
    }
    assert events["prompt"]["text"] == build.answer().prompt
    assert (events["prompt"]["tokens"], events["prompt"]["cached"]) == (30, 10)
    assert events["generated"]["tokens_per_s"] == 10.0, "four tokens after the first in 400 ms"
    assert events["generated"]["ttft_ms"] == 12.5
    assert events["citations"]["citations"][0]["start"] == 100
    assert events["citations"]["unsupported"] == [[17, 28]]


def test_an_answer_tells_where_the_model_looked(build):
    looked = (Attention("a.md:0", 2 / 3, (0.5, 1 / 9, 0.0)), Attention("b.md:0", 1 / 3))
    events = dict(events_of(replace(build.answer(), attention=looked)))
    assert list(events)[-1] == "attention"
    assert events["attention"] == {
        "passages": [
            {"passage_id": "a.md:0", "share": 0.666667, "sentences": [0.5, 0.111111, 0.0]},
            {"passage_id": "b.md:0", "share": 0.333333, "sentences": []},
        ]
    }
    assert list(dict(events_of([replace(build.answer(), attention=looked)]))) == ["answers"]


def test_where_the_model_looked_is_kept_without_content(build):
    trace = Trace(content=False)
    looked = (Attention("a.md:0", 1.0, (0.75, 0.25)),)
    trace.output(replace(build.answer(), attention=looked))
    (event,) = [record for record in trace.records if record.get("name") == "attention"]
    assert event["passages"] == [{"passage_id": "a.md:0", "share": 1.0, "sentences": [0.75, 0.25]}]


def test_an_answer_that_read_nothing_tells_of_its_text_only():
    ((name, data),) = events_of(Answer("Yes."))
    assert name == "generated"
    assert (data["text"], data["tokens_per_s"], data["ttft_ms"]) == ("Yes.", 0.0, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Query("why?"), ("query", {"text": "why?"})),
        ([Query("a"), Query("b")], ("queries", {"queries": [{"text": "a"}, {"text": "b"}]})),
        (
            Route(("x",), {"x": 0.75, "y": 0.25}, "examples", fallback=True),
            (
                "route",
                {
                    "labels": ["x"],
                    "probs": {"x": 0.75, "y": 0.25},
                    "source": "examples",
                    "fallback": True,
                },
            ),
        ),
        (
            Route(("x",), reason="y has no passages: x instead"),
            (
                "route",
                {
                    "labels": ["x"],
                    "probs": {},
                    "source": "",
                    "fallback": False,
                    "reason": "y has no passages: x instead",
                },
            ),
        ),
        (
            Judgement(passed=False, score=math.inf, reason="odd"),
            ("judge", {"passed": False, "score": None, "reason": "odd"}),
        ),
        (
            Completion("a b", ("a", " b"), (-0.5, -1.5), "stop"),
            (
                "generated",
                {
                    "text": "a b",
                    "finish": "stop",
                    "tokens": 2,
                    "logprob_min": -1.5,
                    "logprob_mean": -1.0,
                },
            ),
        ),
        (Completion("a"), ("generated", {"text": "a", "finish": ""})),
        (
            [Answer("x", model="m")],
            ("answers", {"answers": [{"text": "x", "model": "m", "abstained": False}]}),
        ),
        ([], ("value", {"type": "list", "value": "[]"})),
        (None, ("value", {"type": "NoneType", "value": "None"})),
        ("x" * 300, ("value", {"type": "str", "value": "x" * 199 + "…"})),
    ],
)
def test_other_values(value, expected):
    assert events_of(value) == [expected]
    json.dumps(expected, allow_nan=False)


def test_one_passage_is_a_list_of_one(build):
    assert events_of(build.passage()) == events_of([build.passage()])


def test_lists_of_passages_are_rankings(build):
    ((name, data),) = events_of([[build.passage(score=0.5)], []])
    assert name == "rankings"
    assert data["rankings"] == [[{"id": "a.md:0", "score": 0.5, "rank": 1}], []]


def test_an_answer_tells_how_each_passage_was_read(build):
    steps = (
        ContextStep(
            "a.md:0", "rows", "loading costs less", 40, 10, 0.025, {"rows": 1e-7, "text": 2}
        ),
        ContextStep("b.md:0", "drop", "nothing is kept"),
    )
    events = dict(events_of(replace(build.answer(), context=steps)))
    assert list(events)[-1] == "context"
    assert events["context"]["passages"] == [
        {
            "passage_id": "a.md:0", "step": "rows", "reason": "loading costs less", "tokens": 40,
            "kept_tokens": 10, "load_ratio": 0.025, "seconds": {"rows": 0.0, "text": 2.0},
        },
        {
            "passage_id": "b.md:0", "step": "drop", "reason": "nothing is kept", "tokens": 0,
            "kept_tokens": 0,
        },
    ]  # fmt: skip
    assert "context" not in dict(events_of(build.answer()))


def test_pruned_words_are_called_so(build):
    one = build.passage(kept=(0.9, 0.0, 0.6))
    words = replace(one, kept=replace(one.kept, unit="word"))
    ((_, data),) = events_of([words])
    assert data["unit"] == "word"
    assert line_of({"kind": "event", "name": "pruned", **data}).startswith(
        "a.md:0: kept 2 of 3 words, "
    )
    ((_, plain),) = events_of([one])
    assert "unit" not in plain
    assert "kept 2 of 3 sentences" in line_of({"kind": "event", "name": "pruned", **plain})
