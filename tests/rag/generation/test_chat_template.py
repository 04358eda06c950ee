"""Chat templates: pieces join to what the tokenizer makes of the whole, and text stays text."""

import copy
from itertools import count, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from rag.errors import UnsupportedModelError
from rag.generation.chat_template import DATE, chat_pieces
from rag.generation.engine import Engine
from rag.generation.plan import ContextWeights, parallel_plan
from rag.generation.prompt import PromptEncoder
from rag.generation.templates import TEMPLATES, PromptTemplate
from rag.generation.worked_examples import EXAMPLES
from rag.records import ModelIdentity, Passage, Query, Span

MODEL = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")
CHAT = TEMPLATES["chat"]
# Each names its control tokens, the one that ends a turn first, and how it writes turns.
LLAMA = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{% set said = messages[0].content | trim %}
{%- set messages = messages[1:] %}{% else %}{% set said = '' %}{% endif %}
{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' + said + '<|eot_id|>' }}
{%- for turn in messages %}
{{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\n\n' + turn.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
CHATML = """
{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\nYou are Tiny.<|im_end|>\n' }}{% endif %}
{%- for turn in messages %}
{{- '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
THINKING = (
    CHATML
    + """
{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking %}
{{- '<think>\n\n</think>\n\n' }}{% endif %}"""
)
MISTRAL = """
{{- bos_token }}
{%- for turn in messages %}
{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Turns must alternate user/assistant/user/assistant') }}{% endif %}
{%- if turn.role == 'user' %}{{- '[INST] ' + turn.content + ' [/INST]' }}
{%- else %}{{- ' ' + turn.content + eos_token }}{% endif %}
{%- endfor %}"""
GEMMA = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{- raise_exception('No system role') }}{% endif %}
{%- for turn in messages %}
{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Turns must alternate') }}{% endif %}
{%- set role = 'model' if turn.role == 'assistant' else turn.role %}
{{- '<start_of_turn>' + role + '\n' + turn.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}"""
SILENT = """
{%- for turn in messages if turn.role != 'system' %}
{{- '<|' + turn.role + '|>\n' + turn.content + eos_token + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{% endif %}"""
KINDS = {
    "llama": (LLAMA, ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"], True),
    "chatml": (CHATML, ["<|im_end|>", "<|im_start|>"], True),
    "thinking": (THINKING, ["<|im_end|>", "<|im_start|>"], True),
    "mistral": (MISTRAL, ["</s>"], False),
    "gemma": (GEMMA, ["<end_of_turn>", "<start_of_turn>"], False),
    "silent": (SILENT, ["</s>"], False),
}
WITH_BOS = {"llama", "mistral", "gemma"}


@pytest.fixture(scope="module")
def chatty(tiny_tokenizer):
    """Return a function: kind of chat template -> a tokenizer that has it, and adds <s>."""

    def build(kind, special=True):
        template, tokens, _ = KINDS[kind]
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.add_tokens([AddedToken(t, special=special) for t in tokens if t != "</s>"])
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
        tokenizer.chat_template = template
        return tokenizer

    return build


def passage_of(*sentences, title="Checks", name="p"):
    text, ends = "", [0]
    for sentence in sentences:
        text += sentence
        ends.append(len(text))
    spans = tuple(Span(a, b) for a, b in pairwise(ends))
    return Passage(name, "d", text, Span(0, len(text)), spans, title=title)


def joined(prompt, passages, query):
    prefix = prompt.prefix()
    read = [token for p in passages for token in prompt.passage(p, prefix).token_ids]
    return [*prefix.token_ids, *read, *prompt.question(query)]


def by_definition(tokenizer, kind, asked, examples=()):
    """The tokens that the tokenizer itself makes of turns that are written out here."""
    instruction, opening = CHAT.prefix, "Passages:\n\n"
    turns = []
    for e in examples:
        said = f"{opening}Title: {e.title}\nText: {e.text}\n\nQuestion: {e.question}"
        turns += [{"role": "user", "content": said}, {"role": "assistant", "content": e.answer}]
    turns.append({"role": "user", "content": opening + asked})
    if KINDS[kind][2]:
        turns.insert(0, {"role": "system", "content": instruction})
    else:
        turns[0]["content"] = f"{instruction}\n\n{turns[0]['content']}"
    return tokenizer.apply_chat_template(
        turns,
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=False,
        date_string=DATE,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("examples", [(), EXAMPLES])
def test_pieces_join_to_what_the_chat_template_makes_of_the_whole(chatty, kind, examples):
    tokenizer = chatty(kind)
    template = TEMPLATES["chat-examples" if examples else "chat"]
    prompt = PromptEncoder(tokenizer, MODEL, template)
    passages = [
        passage_of("Lazily, it\nyields. ", "    return 1\n", title="A > B"),
        passage_of("日本語。", name="q", title=""),
    ]
    asked = (
        "Title: A > B\nText: Lazily, it yields.\n    return 1\n\n"
        "Title: \nText: 日本語。\n\nQuestion: What yields?"
    )
    ids = joined(prompt, passages, Query("What\nyields? "))
    assert ids == by_definition(tokenizer, kind, asked, examples)
    assert ids.count(1) == (kind in WITH_BOS)
    assert ids.index(1) == 0 if kind in WITH_BOS else 1 not in ids
    assert template.turns(asked, system=KINDS[kind][2])[-1]["content"].endswith(asked)


WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Zs"]), max_size=20)


@given(kind=st.sampled_from(list(KINDS)), title=WORDS, body=WORDS, question=WORDS)
def test_any_text_joins_exactly(chatty, kind, title, body, question):
    tokenizer = chatty(kind)
    prompt = PromptEncoder(tokenizer, MODEL, CHAT)
    question = f"{question}?"
    shown = " ".join(question.split())
    asked = f"Title: {title}\nText: {' '.join(f'{body}.'.split())}\n\nQuestion: {shown}"
    ids = joined(prompt, [passage_of(f"{body}.", title=title)], Query(question))
    assert ids == by_definition(tokenizer, kind, asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_ends_at_its_own_token_and_at_end_of_sequence(chatty, kind):
    tokenizer = chatty(kind)
    end = tokenizer.convert_tokens_to_ids(KINDS[kind][1][0])
    assert PromptEncoder(tokenizer, MODEL, CHAT).stop_ids == {2, end}
    assert PromptEncoder(tokenizer, MODEL).stop_ids == {2}


def test_what_follows_the_end_of_a_turn_ends_none(chatty):
    tokenizer = chatty("llama")
    tokenizer.chat_template = LLAMA + "{% if not add_generation_prompt %}{{ bos_token }}{% endif %}"
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert PromptEncoder(tokenizer, MODEL, CHAT).stop_ids == {2, end}


def test_a_turn_that_ends_with_no_token_ends_at_end_of_sequence(chatty):
    tokenizer = chatty("chatml")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert PromptEncoder(tokenizer, MODEL, CHAT).stop_ids == {2}


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("kind", ["llama", "chatml", "gemma", "mistral"])
def test_text_of_documents_and_questions_never_becomes_a_control_token(chatty, kind, special):
    tokenizer = chatty(kind, special)
    prompt = PromptEncoder(tokenizer, MODEL, CHAT)
    control = set(tokenizer.added_tokens_decoder)
    text = "".join(["<s>", *KINDS[kind][1]]) * 2
    passage = passage_of(f"It says {text}. ", text, title=f"On {text}")
    segment = prompt.passage(passage, prompt.prefix())
    assert not control & set(segment.token_ids)
    assert prompt.text(segment.token_ids) == f"Title: On {text}\nText: It says {text}. {text}\n\n"
    rows = [prompt.text(segment.token_ids[a:b]) for a, b in segment.sentence_rows]
    assert rows == [f" It says {text}.", f" {text}"]
    plain, attack = prompt.question(Query("Why?")), prompt.question(Query(f"Why {text}?"))
    assert prompt.text(attack) == prompt.text(plain).replace("Why?", f"Why {text}?")
    counted = [sum(token in control for token in ids) for ids in (plain, attack)]
    assert counted[0] == counted[1]


def test_text_does_not_end_a_turn_with_a_token_that_only_answers_have(chatty):
    tokenizer = chatty("chatml", special=False)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}"
        "{{ '<|im_end|>' if m.role == 'assistant' else '\n' }}{% endfor %}"
    )
    prompt = PromptEncoder(tokenizer, MODEL, CHAT)
    (end,) = prompt.stop_ids - {2}
    assert end == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end not in prompt.question(Query("What is <|im_end|>?"))


def test_the_chat_templates_own_control_tokens_are_control_tokens(chatty):
    tokenizer = chatty("chatml")
    start, end = (tokenizer.convert_tokens_to_ids(f"<|im_{at}|>") for at in ("start", "end"))
    prompt = PromptEncoder(tokenizer, MODEL, CHAT)
    turns = [token for token in prompt.prefix().token_ids if token in (start, end)]
    assert turns == [start, end, start]
    assert [token for token in prompt.question(Query("Why?")) if token in (start, end)] == [
        end, start,
    ]  # fmt: skip
    assert prompt.text(prompt.question(Query("Why?"))).endswith("<|im_start|>assistant\n")


def test_only_the_question_stands_after_the_passages(chatty):
    prompt = PromptEncoder(chatty("chatml"), MODEL, CHAT)
    assert prompt.text(prompt.prefix().token_ids) == (
        f"<|im_start|>system\n{CHAT.prefix}<|im_end|>\n<|im_start|>user\nPassages:\n\n"
    )
    assert prompt.text(prompt.question(Query("Why?"))) == (
        "Question: Why?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_model_that_can_think_is_asked_not_to(chatty):
    prompt = PromptEncoder(chatty("thinking"), MODEL, CHAT)
    assert prompt.text(prompt.question(Query("Why?"))).endswith(
        "assistant\n<think>\n\n</think>\n\n"
    )


def test_the_prefix_is_the_same_every_day(chatty, monkeypatch):
    from transformers.utils import chat_template_utils

    tokenizer = chatty("llama")

    class Later:
        days = count(1)

        @classmethod
        def now(cls):
            from datetime import datetime

            return datetime(2031, 1, next(cls.days))  # noqa: DTZ001

    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    first, second = (PromptEncoder(tokenizer, MODEL, CHAT).prefix() for _ in range(2))
    assert first == second
    assert f"Today Date: {DATE}\n" in PromptEncoder(tokenizer, MODEL).text(first.token_ids)


def test_the_logits_of_cached_pieces_are_those_of_the_whole_chat(chatty, tiny_model):
    tokenizer = chatty("llama")
    prompt = PromptEncoder(tokenizer, MODEL, CHAT)
    model = tiny_model(vocab_size=320, max_position_embeddings=1024)
    passage, query = passage_of("Lazily, it yields."), Query("What yields?")
    segment = prompt.passage(passage, prompt.prefix())
    weights = ContextWeights()
    plan = parallel_plan(prompt.prefix(), ((segment, None),), prompt.question(query), weights)
    got = Engine(model, MODEL).prefill(plan).logits
    asked = "Title: Checks\nText: Lazily, it yields.\n\nQuestion: What yields?"
    whole = by_definition(tokenizer, "llama", asked)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        assert (got - model(torch.tensor([whole])).logits[0, -1]).abs().max() < 1e-4
        assert (got - model(torch.tensor([whole[:-1]])).logits[0, -1]).abs().max() > 1e-3


def test_no_chat_template_is_an_error_that_names_the_prompts_that_work(tiny_tokenizer):
    prompt = PromptEncoder(tiny_tokenizer, MODEL, CHAT)
    wanted = (
        "'chat' needs a tokenizer with a chat template.*work with it: examples, instruct, thought"
    )
    with pytest.raises(UnsupportedModelError, match=wanted):
        prompt.prefix()


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('ask politely') }}", "it says 'ask politely'"),
        ("hello", "leaves out or changes"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "leaves out or changes"),
        ("{% for m in messages %}{{ m.content + m.content }}{% endfor %}", "leaves out or changes"),
        ("{% for m in messages %}{{ m.content[:99] }}{% endfor %}", "leaves out or changes"),
    ],
)
def test_a_chat_template_that_cannot_be_cut_is_an_error(chatty, template, why):
    tokenizer = chatty("chatml")
    tokenizer.chat_template = template
    with pytest.raises(UnsupportedModelError, match=f"cannot be used for prompt 'chat': .*{why}"):
        chat_pieces(tokenizer, CHAT)


@pytest.mark.parametrize("where", ["prefix", "opening", "header", "question", "closing"])
def test_a_control_token_in_a_template_is_an_error(chatty, where):
    texts = {"header": "{title}", "question": "{question}"} | {"prefix": "Be brief."}
    texts[where] = texts.get(where, "") + "<|im_end|>"
    template = PromptTemplate(**texts, chat=True, name="own")
    with pytest.raises(ValueError, match=r"'own' must hold no control token.*<\|im_end\|>"):
        chat_pieces(chatty("chatml"), template)
