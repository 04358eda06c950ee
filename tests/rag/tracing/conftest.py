"""A run of two rounds, built by hand: passages, pruning, KV hits and misses, an answer."""

from types import SimpleNamespace

import pytest

from rag.records import (
    Answer,
    CacheUse,
    Citation,
    Judgement,
    Passage,
    Selection,
    SentenceScore,
    Span,
    TokenUse,
    text_sha,
)
from rag.tracing import Trace

SENTENCES = ("Backups run at two. ", "The lamp is red. ", "They go to the attic.")
TEXT = "".join(SENTENCES)
PROMPT = "system: be brief\n\n" + TEXT + "\n\nWhen?  "


def spans(sentences=SENTENCES):
    ends = [sum(map(len, sentences[: n + 1])) for n in range(len(sentences))]
    return tuple(Span(e - len(s), e) for s, e in zip(sentences, ends, strict=True))


def passage(id_="a.md:0", kept=None, score=0.5, text=TEXT, sentences=None):
    parts = sentences or spans()
    selection = kept and Selection(
        id_,
        text_sha(text),
        tuple(
            SentenceScore(span, value, value > 0.4, "title" if value == 0 else None)
            for span, value in zip(parts, kept, strict=True)
        ),
        "sentences",
        0.4,
    )
    span = Span(100, 100 + len(text))
    return Passage(
        id_, "a.md", text, span, parts, title="Backups", score=score, kept=selection or None
    )


def answer(text="They run at two. It is late.", prompt=PROMPT, passages=()):
    return Answer(
        text,
        passages,
        (Citation(1, "a.md:0", "a.md", 100, 119, "Backups run at two.", 0, 16, 0.9),),
        (Span(17, len(text)),),
        cache=CacheUse(1, 1, 2_500_000, {"prefix": "hit (ram)", "a.md:0": "absent"}),
        tokens=TokenUse(30, 10, 20, 5),
        timings_ms={"ttft": 12.5, "decode": 400.0},
        mode="ape",
        model="tiny",
        prompt=prompt,
        finish="stop",
    )


def run_of(kept=(0.9, 0.1, 0.6), said=None, ids=("a.md:0", "b.md:0"), speed=1.0, **about):
    """A run with a loop of one round, every time in it exact."""
    trace = Trace(pipeline="advanced", **about)
    at = 0.0
    for name, use, ms, value in (
        ("retrieve", "retrieve.hybrid", 10.0, [passage(id_) for id_ in ids]),
        ("prune", "prune.sentences", 20.0, [passage(kept=kept)]),
        ("generate", "generate.cached", 70.0, answer(**({"text": said} if said else {}))),
        ("judge", "judge.stable", 0.5, Judgement(passed=True, score=0.8, reason="same as before")),
    ):
        path, wall_ms = f"loop[0]/{name}", ms * speed
        began = trace._began + at / 1e3
        trace.add_span(
            name, use=use, path=path, began=began, wall_ms=wall_ms, cached=name == "retrieve"
        )
        trace.output(value, step=name, path=path)
        at += wall_ms
    for record in trace.records:
        if record["kind"] == "event":
            record["at_ms"] = at
    return trace


@pytest.fixture
def trace():
    return run_of()


@pytest.fixture
def build():
    """The functions that make passages, answers and runs."""
    return SimpleNamespace(passage=passage, answer=answer, run=run_of)
