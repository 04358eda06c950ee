"""Lessons and passes: the tokens of an answer, what a pass computes, and who shares one."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from rag.adaptation.encodings import CACHED, SEQUENTIAL, Plans
from rag.adaptation.lessons import lessons
from rag.adaptation.packing import packed_tokens, passes
from rag.generation.plan import PlacedRows
from rag.generation.prompt import PromptEncoder
from rag.records import ModelIdentity
from rag.training.watching import Unwatched

_spec = importlib.util.spec_from_file_location(
    "made_examples", Path(__file__).with_name("made_examples.py")
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
IDENTITY = ModelIdentity("tiny", "w", "{}", "float32", "t")
CHAT = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@pytest.fixture
def prompt(tiny_tokenizer):
    return PromptEncoder(tiny_tokenizer, IDENTITY, made.TEMPLATE)


@pytest.fixture
def learned(prompt):
    plans = Plans(prompt, (SEQUENTIAL, *CACHED))
    examples = [made.example(row) for row in range(4)]
    found, dropped = lessons(examples, prompt, plans, 400, Unwatched())
    assert dropped == {}
    return plans, found


def test_an_answer_is_one_line_with_a_space_before_and_the_stop_text_after(prompt):
    ids = prompt.answer(" 42\n  cats ")
    assert prompt.text(ids) == " 42 cats\n"
    assert ids == (*prompt.ids(" 42 cats"), *prompt.ids("\n"))


def test_no_second_space_where_the_prompt_ends_with_one(tiny_tokenizer):
    spaced = replace(made.TEMPLATE, question="Q: {question}\nA: ", stop="##")
    prompt = PromptEncoder(tiny_tokenizer, IDENTITY, spaced)
    assert prompt.text(prompt.answer("42 cats")) == "42 cats##"


def test_the_answer_of_a_chat_ends_its_turn(tiny_tokenizer, monkeypatch):
    from rag.generation.templates import TEMPLATES

    monkeypatch.setattr(tiny_tokenizer, "chat_template", CHAT)
    prompt = PromptEncoder(tiny_tokenizer, IDENTITY, TEMPLATES["chat"])
    ids = prompt.answer("42 cats")
    assert prompt.text(ids[:-1]) == "42 cats"
    assert ids[-1] in prompt.stop_ids


def test_a_pass_counts_every_segment_once_and_up_to_the_last_row_read(learned):
    plans, (lesson, other, *_) = learned
    block = lesson.reading(plans, CACHED[2])
    prefix, context = block.plan.prefix.segment, block.plan.context
    read = [len(part.segment) if part.rows is None else part.rows[-1] + 1 for part in context]
    tail = len(block.plan.prefill) + len(lesson.answer) - 1
    assert packed_tokens([block]) == len(prefix) + sum(read) + tail
    assert packed_tokens([block, block]) == packed_tokens([block]) + tail
    whole = lesson.reading(plans, CACHED[2], whole=True)
    every = sum(len(part.segment) for part in whole.plan.context)
    assert packed_tokens([block, whole]) == len(prefix) + every + 2 * tail
    cut = replace(block.plan, context=(PlacedRows(context[0].segment, len(prefix), (0, 2)),))
    assert packed_tokens([replace(block, plan=cut)]) == len(prefix) + 3 + tail
    sequential = other.reading(plans, SEQUENTIAL)
    shared = packed_tokens([block]) + packed_tokens([sequential]) - len(prefix)
    assert packed_tokens([block, sequential]) == shared


def test_targets_of_a_graph_count_for_each_reading(learned, prompt):
    from rag.adaptation.encodings import Encoding
    from rag.generation.graph_edges import GraphEdges

    _, (lesson, *_) = learned
    chain = Encoding("chain", {"mode": "graph", "graph": GraphEdges("chain")})
    one = lesson.reading(Plans(prompt, [chain]), chain)
    assert one.plan.targets
    again = sum(len(t.placed) for t in one.plan.targets) + len(one.plan.prefill)
    again += len(one.answer) - 1
    assert packed_tokens([one, one]) == packed_tokens([one]) + again


def test_passes_are_filled_in_order_and_no_example_is_torn(learned):
    plans, found = learned
    groups = [[one.reading(plans, way) for way in (SEQUENTIAL, CACHED[0])] for one in found]
    together = packed_tokens([one for group in groups[:2] for one in group])
    assert passes(groups, 10**6) == [[0, 1, 2, 3]]
    assert passes(groups, 1) == [[0], [1], [2], [3]]
    assert passes(groups, together)[0] == [0, 1]
    assert passes(groups, together - 1)[0] == [0]
    assert passes([], 100) == []


def test_the_tokens_of_a_lesson_are_those_of_its_sequential_prompt(learned):
    plans, found = learned
    for one in found:
        assert one.tokens == packed_tokens([one.reading(plans, SEQUENTIAL)]) + 1


def test_what_cannot_be_learned_is_counted_by_reason(prompt):
    plans = Plans(prompt, [SEQUENTIAL])
    good, silent = made.example(0), made.example(1, answers=())
    gone = replace(good, passages=(made.passage("Ada", "So.", "It is.", kept=set()),))
    window = lessons([good], prompt, plans, 10**6, Unwatched())[0][0].tokens
    found, dropped = lessons([good, silent, gone], prompt, plans, 10**6, Unwatched())
    assert [one.example for one in found] == [good]
    assert dropped == {"no answer": 1, "no sentence kept": 1}
    assert lessons([good], prompt, plans, window, Unwatched())[1] == {
        "longer than the model's window": 1  # whole it is longer
    }
