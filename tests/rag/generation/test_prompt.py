"""Prompts: rows of sentences are exact, control tokens are ours alone, code keeps its lines."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from rag.generation.engine import Engine
from rag.generation.plan import ContextWeights, parallel_plan
from rag.generation.prompt import PromptEncoder, PromptTemplate, rows_of_sentences, sentence_piece
from rag.records import ModelIdentity, Passage, Query, Segment, Span

MODEL = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")
UNK, BOS, EOS = 0, 1, 2
PROSE = ["The assert statement inserts checks.  ", "A yield\nreturns values. ", "Lazily, that is."]


def passage_of(pieces, title="Checks", name="p", document="d"):
    """A passage whose sentences are these pieces of text."""
    spans, start = [], 0
    for piece in pieces:
        spans.append(Span(start, start + len(piece)))
        start += len(piece)
    return Passage(name, document, "".join(pieces), Span(0, start), tuple(spans), title=title)


@pytest.fixture(scope="module")
def prompt(tiny_tokenizer):
    return PromptEncoder(tiny_tokenizer, MODEL)


@pytest.fixture(scope="module")
def with_bos(tiny_tokenizer):
    """A tokenizer that begins every text with <s>, as Llama's does."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    assert tokenizer("a")["input_ids"][0] == BOS
    return tokenizer


def read(prompt, segment, rows=None):
    ids = segment.token_ids
    return prompt.text(ids if rows is None else tuple(ids[row] for row in rows))


def test_a_passage_is_header_sentences_closing(prompt):
    template = PromptTemplate(header="[{title}]", closing="\n--\n")
    plain = PromptEncoder(prompt.tokenizer, MODEL, template)
    segment = plain.passage(passage_of(PROSE), plain.prefix())
    assert read(plain, segment) == (
        "[Checks] The assert statement inserts checks. A yield returns values."
        " Lazily, that is.\n--\n"
    )
    assert [read(plain, segment, range(*rows)) for rows in segment.sentence_rows] == [
        " The assert statement inserts checks.",
        " A yield returns values.",
        " Lazily, that is.",
    ]
    assert segment.parents == (plain.prefix(),)
    assert (segment.role, segment.name, segment.document) == ("passage", "p", "d")


def test_rows_of_some_sentences_keep_header_and_closing(prompt):
    segment = prompt.passage(passage_of(PROSE), prompt.prefix())
    header, closing = segment.sentence_rows[0][0], segment.sentence_rows[-1][1]
    for kept in [(0,), (1,), (0, 2)]:
        rows = rows_of_sentences(segment, kept)
        assert rows[:header] == tuple(range(header))
        assert rows[-(len(segment) - closing) :] == tuple(range(closing, len(segment)))
        assert list(rows) == sorted(set(rows))
    assert "statement" not in read(prompt, segment, rows_of_sentences(segment, (1,)))


def test_all_sentences_are_no_selection_and_none_is_refused(prompt):
    segment = prompt.passage(passage_of(PROSE, name="p7"), prompt.prefix())
    assert rows_of_sentences(segment, (0, 1, 2)) is None
    with pytest.raises(ValueError, match="no sentence of 'p7' is kept"):
        rows_of_sentences(segment, ())


PIECES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "    return 1\n",
        "def f():\n    yield\n\n",
        "</s>",
        "日本語。",
        "a\u2028b ",
        "e\u0301 ",
        "\r\n",
    ]
)


@given(st.lists(st.tuples(PIECES, st.booleans()), min_size=1, max_size=6), st.text(max_size=8))
def test_rows_are_the_tokens_of_the_pruned_text(prompt, drawn, title):
    title = title.encode("utf-8", "replace").decode()
    pieces, kept = zip(*drawn, strict=True)
    rows = tuple(row for row, stays in enumerate(kept) if stays)
    assume(rows)
    prefix = prompt.prefix()
    whole = prompt.passage(passage_of(pieces, title), prefix)
    pruned = prompt.passage(passage_of([pieces[row] for row in rows], title, "q"), prefix)
    selected = rows_of_sentences(whole, rows)
    if selected is None:
        assert len(rows) == len(pieces)
    else:
        assert tuple(whole.token_ids[row] for row in selected) == pruned.token_ids
    ends = [whole.sentence_rows[0][0], *(end for _, end in whole.sentence_rows)]
    assert list(whole.sentence_rows) == list(pairwise(ends))
    assert ends[-1] <= len(whole)
    assert not {UNK, BOS, EOS} & set(whole.token_ids)


def test_the_first_token_is_bos_where_the_tokenizer_adds_one(with_bos):
    prompt = PromptEncoder(with_bos, MODEL)
    prefix = prompt.prefix()
    segment = prompt.passage(passage_of(PROSE), prefix)
    assert prefix.token_ids.index(BOS) == 0
    everything = (*prefix.token_ids, *segment.token_ids, *prompt.question(Query("Why?")))
    assert everything.count(BOS) == 1
    assert prompt.text(prefix.token_ids) == "<s>" + prompt.template.prefix


def test_no_bos_where_the_tokenizer_adds_none(prompt):
    prefix = prompt.prefix()
    segment = prompt.passage(passage_of(PROSE), prefix)
    everything = (*prefix.token_ids, *segment.token_ids, *prompt.question(Query("Why?")))
    assert not {BOS, EOS} & set(everything)
    assert prompt.text(prefix.token_ids) == prompt.template.prefix


@pytest.mark.parametrize("text", ["</s>", "<s>", "a</s>b <unk><s>", "</s></s>"])
@pytest.mark.parametrize("bos", [False, True])
def test_text_never_becomes_a_control_token(prompt, with_bos, text, bos):
    prompt = PromptEncoder(with_bos, MODEL) if bos else prompt
    passage = passage_of([f"It says {text}. ", f"{text}"], title=f"On {text}")
    segment = prompt.passage(passage, prompt.prefix())
    question = prompt.question(Query(f"What is {text}?"))
    assert not {UNK, BOS, EOS} & {*segment.token_ids, *question}
    assert read(prompt, segment).count(text) == 3
    assert text in prompt.text(question)


def test_the_tokenizer_by_itself_would_make_control_tokens(prompt):
    assert EOS in prompt.tokenizer("a</s>b")["input_ids"]


def test_control_tokens_put_there_on_purpose_reach_the_model(tiny_model):
    engine = Engine(tiny_model(), MODEL)
    prefix = Segment(MODEL, "prefix", (BOS, 7, 8), name="prefix")
    passage = Segment(MODEL, "passage", (20, EOS, 21, BOS, 22, UNK), (prefix,), name="p")
    question = (30, EOS, 31)
    plan = parallel_plan(prefix, ((passage, None),), question, ContextWeights())
    got = engine.prefill(plan).logits
    ids = [*prefix.token_ids, *passage.token_ids, *question]

    def stock(ids):
        engine.model.set_attn_implementation("eager")
        with torch.inference_mode():
            return engine.model(torch.tensor([ids])).logits[0, -1]

    assert (got - stock(ids)).abs().max() < 1e-5
    assert (got - stock([40 if i == EOS else i for i in ids])).abs().max() > 1e-3


def test_code_keeps_its_lines_and_prose_is_put_on_one():
    assert sentence_piece("A yield\nreturns\t values. \n\n") == " A yield returns values."
    assert sentence_piece("    def f():\n        yield 1\n") == "\n    def f():\n        yield 1"
    assert sentence_piece("if a:\n    b()\n") == "\nif a:\n    b()"
    assert sentence_piece("\n\n    b()\n") == "\n    b()"


def test_white_space_alone_is_a_sentence_without_words():
    assert sentence_piece(" \n ").strip() == ""


def test_a_question_is_put_on_one_line(prompt):
    asked = prompt.text(prompt.question(Query("  Why\ndoes\r\n\tit rise?\n")))
    assert "Why does it rise?" in asked
    assert asked == prompt.text(prompt.question(Query("Why does it rise?")))


def test_braces_in_titles_and_questions_are_text(prompt):
    segment = prompt.passage(passage_of(PROSE, title="{title} {0} {x!r}"), prompt.prefix())
    assert "{title} {0} {x!r}" in read(prompt, segment)
    assert "{question} {}" in prompt.text(prompt.question(Query("{question} {}")))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_text_survives_tokens_and_back(prompt, text):
    other = PromptEncoder(prompt.tokenizer, MODEL, PromptTemplate(prefix=text))
    assert other.text(other.prefix().token_ids) == text


def test_a_passage_that_changed_is_tokenised_anew(tiny_tokenizer):
    prompt = PromptEncoder(tiny_tokenizer, MODEL)
    first = prompt.passage(passage_of(PROSE), prompt.prefix())
    assert prompt.passage(passage_of(PROSE), prompt.prefix()) == first
    for changed in (passage_of([*PROSE[:2], "No."]), passage_of(PROSE, title="Other")):
        assert prompt.passage(changed, prompt.prefix()) != first
    resplit = passage_of([PROSE[0] + PROSE[1], PROSE[2]])
    assert len(prompt.passage(resplit, prompt.prefix()).sentence_rows) == 2
    prefix = Segment(MODEL, "prefix", (9,))
    assert prompt.passage(passage_of(PROSE), prefix).parents == (prefix,)


def test_forgetting_what_was_tokenised_changes_nothing(prompt, monkeypatch):
    monkeypatch.setattr("rag.generation.prompt.REMEMBERED", 2)
    small = PromptEncoder(prompt.tokenizer, MODEL)
    for name in ("a", "b", "c", "a"):
        passage = passage_of(PROSE, name=name)
        assert small.passage(passage, small.prefix()) == prompt.passage(passage, prompt.prefix())
    assert len(small._passages) <= 2


def test_an_answer_ends_at_end_of_sequence_where_there_is_one(prompt):
    assert prompt.stop_ids == {EOS}
    endless = copy.deepcopy(prompt.tokenizer)
    endless.eos_token = None
    assert PromptEncoder(endless, MODEL).stop_ids == frozenset()
