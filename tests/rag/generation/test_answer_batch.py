"""Answers of a batch: those of the same questions one by one, in text, evidence and accounting."""

from dataclasses import replace

import pytest
import torch

from rag.generation import answer_batch as module
from rag.generation.answer_batch import answer_batch
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.prompt import PromptEncoder, PromptTemplate
from rag.protocols import Lookup
from rag.records import ModelIdentity, Passage, Query, Selection, SentenceScore, Span, text_sha

TEMPLATE = PromptTemplate(
    prefix="Answer.\n\n", header="# {title}:", closing="\n\n", question="Q: {question}\nA:"
)
QUESTIONS = ("What is lazy?", "Which assert checks a program, and when?", "Why?", "What?", "Who is")


class DictCache:
    """The plainest PassageCache: a dictionary."""

    def __init__(self):
        self.kept = {}

    def get(self, segment):
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True


def passage_of(name, *, kept=None):
    pieces = (f"The {name} checks. ", f"A {name} is lazy. ", f"No {name} returns.")
    spans, start = [], 0
    for piece in pieces:
        spans.append(Span(start, start + len(piece)))
        start += len(piece)
    text = "".join(pieces)
    passage = Passage(name, "d", text, Span(0, start), tuple(spans), title=name)
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, kept=row in kept) for row, s in enumerate(spans))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test"))


YIELD, ASSERT, PROGRAM = (passage_of(name) for name in ("yield", "assert", "program"))
PRUNED, GONE = passage_of("pruned", kept={1, 2}), passage_of("gone", kept=set())
PASSAGES = ([YIELD, ASSERT], [ASSERT, GONE, PROGRAM], [GONE], [YIELD, ASSERT], [PRUNED])


@pytest.fixture
def generator(tiny_model, tiny_tokenizer):
    """Return a function that makes a generator over a tiny model and an empty dict cache."""

    def build(*, kind=Engine, template=TEMPLATE, **options):
        model = tiny_model(dtype=torch.float64)
        identity = ModelIdentity("tiny", "weights", "rope", "float64", "tokenizer")
        options = {"mode": "ape", "sampling": Sampling(max_tokens=12)} | options
        prompt = PromptEncoder(tiny_tokenizer, identity, template)
        return GenerateCached(kind(model, identity, DictCache()), prompt, **options)

    return build


def plain(answer):
    """What must not depend on how it was asked: where a segment was found may."""
    found = {name: reason.startswith("hit") for name, reason in answer.cache.reasons.items()}
    return replace(answer, timings_ms={}, cache=replace(answer.cache, reasons=found))


@pytest.mark.parametrize("mode", ["sequential", "parallel", "ape", "block", "graph"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_those_of_a_loop(generator, mode, temperature):
    options = {"mode": mode, "sampling": Sampling(max_tokens=12, temperature=temperature, seed=3)}
    queries = [Query(text) for text in QUESTIONS]
    loop = generator(**options)
    expected = [loop(q, p) for q, p in zip(queries, PASSAGES, strict=True)]
    made = generator(**options)
    found = answer_batch(made, queries, PASSAGES)
    assert [plain(answer) for answer in found] == [plain(answer) for answer in expected]
    assert len({answer.text for answer in found}) > 1
    assert [answer.abstained for answer in found][2]
    assert found[2].timings_ms == expected[2].timings_ms
    assert made.engine.cache.kept.keys() == loop.engine.cache.kept.keys()
    # Asked again, everything is there.
    again = answer_batch(made, queries, PASSAGES)
    assert [answer.text for answer in again] == [answer.text for answer in expected]
    assert not any(answer.cache.misses for answer in again)


def test_what_two_questions_share_is_encoded_for_the_first(generator):
    found = answer_batch(generator(), [Query("Why?"), Query("What?")], [[YIELD], [YIELD, ASSERT]])
    assert [(a.cache.hits, a.cache.misses) for a in found] == [(0, 2), (2, 1)]


def test_every_answer_has_the_times_of_the_batch(generator):
    found = answer_batch(generator(), [Query(text) for text in QUESTIONS], PASSAGES)
    read = [answer for answer in found if not answer.abstained or answer.tokens.generated]
    for answer in read:
        times = answer.timings_ms
        assert times.keys() == {"kv", "ttft", "decode"}
        assert 0 < times["kv"] < times["ttft"]
        assert times["decode"] >= 0
    assert len({answer.timings_ms["kv"] for answer in read}) == 1


class Scripted(Engine):
    """An engine that reads as ever, and then says what each request is told, a letter a token."""

    scripts = ()

    def decode_batch(self, states, samplings, stop):
        self.steps = []
        return Script(self, [list(script) for script in self.scripts])


class Script:
    def __init__(self, engine, scripts):
        self.engine, self.scripts = engine, dict(enumerate(scripts))

    def __iter__(self):
        return self

    def __next__(self):
        step = {row: script.pop(0) for row, script in self.scripts.items() if script}
        self.scripts = {row: script for row, script in self.scripts.items() if row in step}
        if not step:
            raise StopIteration
        self.engine.steps.append(set(step))
        return step

    def leave(self, rows):
        for row in rows:
            self.scripts.pop(row, None)


def test_a_stop_text_ends_one_answer_and_not_the_others(generator, tiny_tokenizer):
    made = generator(kind=Scripted, template=replace(TEMPLATE, stop="###"))
    texts = ("A yield.###more and more", "The yield checks. A yield is lazy.", "")
    made.engine.scripts = [
        tiny_tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        for text in texts
    ]
    found = answer_batch(made, [Query("Why?")] * 3, [[YIELD]] * 3)
    assert [answer.text for answer in found] == ["A yield.", texts[1], ""]
    assert [answer.finish for answer in found] == ["stop"] * 3
    assert found[0].tokens.generated < len(made.engine.scripts[0])
    assert found[1].tokens.generated == len(made.engine.scripts[1])
    assert made.engine.steps[0] == {0, 1}
    assert made.engine.steps[-1] == {1}
    assert sum(0 in step for step in made.engine.steps) == found[0].tokens.generated
    assert [bool(answer.citations) for answer in found] == [True, True, False]
    assert found[2].abstained


def test_large_batches_are_answered_in_groups_that_fit(generator, monkeypatch):
    queries = [Query(text) for text in QUESTIONS]
    expected = [plain(answer) for answer in answer_batch(generator(), queries, PASSAGES)]
    sizes = []

    class Watched(Engine):
        def prefill_batch(self, plans, **options):
            sizes.append(len(plans))
            return super().prefill_batch(plans, **options)

    made = generator(kind=Watched)
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    assert [plain(a) for a in answer_batch(made, queries, PASSAGES)] == expected
    assert sizes == [3, 1]
    sizes.clear()
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    again = answer_batch(made, queries, PASSAGES)
    assert [a.text for a in again] == [a.text for a in expected]
    assert sizes == [1, 1, 1, 1]
    sizes.clear()
    plans = [
        made.plan(q, [p for p in ps if p.kept_rows])
        for q, ps in zip(queries, PASSAGES, strict=True)
        if ps != [GONE]
    ]
    needed = [plan.cached_tokens + plan.computed_tokens + 12 for plan in plans]
    monkeypatch.setattr(module, "BATCH_BYTES", sum(needed[:2]) * made.engine.kv_bytes_per_token)
    answer_batch(made, queries, PASSAGES)
    assert sizes[0] == 2


def test_nothing_to_answer(generator):
    assert answer_batch(generator(), [], []) == []
    (answer,) = answer_batch(generator(), [Query("Why?")], [[GONE]])
    assert answer == generator()(Query("Why?"), [GONE])


def test_refuses_another_number_of_passage_lists(generator):
    with pytest.raises(ValueError, match="one list a query, 2, got 1 lists"):
        answer_batch(generator(), [Query("Why?")] * 2, [[YIELD]])
