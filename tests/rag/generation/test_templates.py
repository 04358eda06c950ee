"""Prompt templates: named ones, those of one's own, what is refused, turns and texts."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.templates import (
    CHAT_FROM_PARAMETERS,
    NAMES,
    OWN,
    TEMPLATES,
    PromptTemplate,
    chosen_template,
)
from rag.generation.worked_examples import EXAMPLES
from rag.records import Passage, Query, Selection, SentenceScore, Span

QUERY = Query("Why\ndoes it rise? ")
SMALL, LARGE = CHAT_FROM_PARAMETERS, CHAT_FROM_PARAMETERS + 1


def passage_of(text, title="Bread", name="p", kept=True):
    whole = Span(0, len(text))
    selection = Selection(name, "sha", (SentenceScore(whole, 0.0, kept=kept),), "by hand")
    return Passage(name, "d", text, whole, (whole,), title=title, kept=selection)


def own(**texts):
    return chosen_template(texts, has_chat=True, parameters=LARGE)


def test_the_default_is_three_worked_examples_with_short_answers():
    text = PromptTemplate().render(QUERY, [passage_of("Yeast."), passage_of("Salt.", "Sea")])
    assert text.startswith("Title: Great Barrier Reef\nText: The Great Barrier Reef lies in ")
    assert text.count("\nAnswer:") == len(EXAMPLES) + 1
    assert (
        "\n\nQuestion: How long is the Great Barrier Reef?\nAnswer: over 2,300 kilometres\n" in text
    )
    assert text.endswith(
        "either piece has moved before\n\nTitle: Sea\nText: Salt.\n\nTitle: Bread\nText: Yeast.\n\n"
        "Question: Why does it rise?\nAnswer:"
    )


def test_an_instruction_takes_the_place_of_examples():
    instruct = TEMPLATES["instruct"]
    assert instruct.prefix == TEMPLATES["chat"].prefix + "\n\n"
    assert "Question" not in instruct.prefix
    assert (instruct.header, instruct.question) == (
        PromptTemplate().header,
        PromptTemplate().question,
    )


def test_every_name_has_a_template_that_says_its_name():
    assert tuple(TEMPLATES) == NAMES
    assert [template.name for template in TEMPLATES.values()] == list(NAMES)
    assert [name for name, template in TEMPLATES.items() if template.chat] == [
        "chat", "chat-examples",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_named_template_is_what_is_chosen(name):
    assert chosen_template(name, has_chat=False, parameters=0) is TEMPLATES[name]


@pytest.mark.parametrize(
    ("has_chat", "parameters", "chosen"),
    [
        (True, LARGE, "chat"),
        (True, SMALL, "examples"),
        (False, LARGE, "examples"),
        (False, SMALL, "examples"),
    ],
)
def test_auto_is_chat_for_large_chat_models_alone(has_chat, parameters, chosen):
    assert chosen_template("auto", has_chat=has_chat, parameters=parameters).name == chosen


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"auto, examples, .*thought or a mapping, got 'Chat'"):
        chosen_template("Chat", has_chat=True, parameters=LARGE)


def test_turns_of_a_chat_hold_instruction_examples_and_what_is_asked():
    template = TEMPLATES["chat-examples"]
    turns = template.messages(QUERY, [passage_of("Yeast."), passage_of("Salt.", "Sea")])
    assert [turn["role"] for turn in turns] == ["system", *["user", "assistant"] * 3, "user"]
    assert turns[0]["content"] == template.prefix
    assert turns[2]["content"] == "over 2,300 kilometres"
    assert turns[1]["content"] == (
        f"Passages:\n\nTitle: Great Barrier Reef\nText: {EXAMPLES[0].text}\n\n"
        "Question: How long is the Great Barrier Reef?"
    )
    assert turns[-1]["content"] == (
        "Passages:\n\nTitle: Sea\nText: Salt.\n\nTitle: Bread\nText: Yeast.\n\n"
        "Question: Why does it rise?"
    )


def test_without_a_system_role_the_instruction_opens_the_first_turn():
    template = TEMPLATES["chat-examples"]
    with_system, without = template.turns("Q"), template.turns("Q", system=False)
    assert without[1:] == with_system[2:]
    assert without[0] == {
        "role": "user",
        "content": f"{template.prefix}\n\n{with_system[1]['content']}",
    }


def test_a_chat_without_instruction_has_no_system_turn():
    assert own(chat=True, prefix="", opening="").messages(QUERY, []) == [
        {"role": "user", "content": "Question: Why does it rise?"}
    ]


@pytest.mark.parametrize("name", NAMES)
def test_unread_passages_leave_no_text(name):
    template = TEMPLATES[name]
    say = template.messages if template.chat else template.render
    assert say(QUERY, [passage_of("Unread.", kept=False)]) == say(QUERY, [])
    assert "Unread." in str(say(QUERY, [passage_of("Unread.")]))


def test_a_text_has_no_turns_and_a_chat_no_text():
    with pytest.raises(ValueError, match="'examples' is a text and no chat; use render"):
        PromptTemplate().messages(QUERY, [])
    with pytest.raises(ValueError, match="'chat' is a chat and no text; use messages"):
        TEMPLATES["chat"].render(QUERY, [])


@pytest.mark.parametrize("name", NAMES)
def test_no_passage_has_a_number(name):
    template = TEMPLATES[name]
    a, b = passage_of("Yeast."), passage_of("Salt.", "Sea")
    say = template.messages if template.chat else template.render
    for passages in ([a, b], [b, a], [a, a, a, b], [a]):
        said = str(say(QUERY, passages)).replace("\\n", "\n")
        assert said.count("Title: Bread\nText: Yeast.\n\n") == passages.count(a)
        assert said.count("Title: Sea\nText: Salt.\n\n") == passages.count(b)
    around = template.header + template.closing + template.opening
    assert not set(around) & set("0123456789[]#")


def test_texts_of_ones_own_replace_those_of_a_named_template():
    assert own(header="# {title}:", stop="\n\n") == PromptTemplate(
        header="# {title}:", stop="\n\n", name="own"
    )
    chat = own(chat=True, prefix="Sei kurz.")
    assert chat.prefix == "Sei kurz."
    assert (chat.question, chat.stop, chat.opening, chat.examples) == (
        TEMPLATES["chat"].question, TEMPLATES["chat"].stop, "Passages:\n\n", (),
    )  # fmt: skip
    assert set(OWN) == {one.name for one in fields(PromptTemplate)} - {"examples", "name"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"heading": "x"}, "prompt takes prefix, header, .*got 'heading'"),
        ({"name": "x"}, "got 'name'"),
        ({"examples": "x"}, "got 'examples'"),
        ({"stop": 3}, "prompt.stop must be a text, got 3"),
        ({"prefix": True}, "prompt.prefix must be a text, got True"),
        ({"chat": "yes"}, "prompt.chat must be true or false, got 'yes'"),
        ({"prefix": ""}, "prompt.prefix must not be empty: passages are cached after it"),
        ({"stop": ""}, "stop must be a text that is not empty, got ''"),
        ({"opening": "x"}, "opening and examples are parts of a chat; put them into prefix"),
        ({"header": "Text:"}, r"header must hold \{title\} once, got it 0 times in 'Text:'"),
        ({"header": "{title}{title}"}, r"header must hold \{title\} once, got it 2 times"),
        ({"header": "{{title}}"}, "got it 0 times"),
        ({"header": "{title} {n}"}, r"knows only \{title\}, got \{n\} at character 9 of"),
        ({"header": "{title!r}"}, r"got \{title!r\} at character 1 of"),
        ({"header": "{title} {"}, r"got \{ at character 9 of .*write \{\{ and \}\} for braces"),
        ({"header": "} {title}"}, r"got \} at character 1 of"),
        (
            {"question": "Q: {title}"},
            r"question knows only \{question\}, got \{title\} at character 4",
        ),
        ({"question": "Q:"}, r"question must hold \{question\} once, got it 0 times"),
    ],
)
def test_what_is_wrong_in_a_template_of_ones_own(texts, message):
    with pytest.raises(ValueError, match=message):
        own(**texts)


@given(st.text(), st.text(), st.text(alphabet="{}title q"))
def test_a_header_is_either_refused_or_formats_to_what_it_says(before, title, more):
    header = before.replace("{", "{{").replace("}", "}}") + more
    try:
        template = PromptTemplate(header=header)
    except ValueError as error:
        assert str(error).startswith("header ")  # noqa: PT017
        return
    made = template.header_of(passage_of("Text.", title=title or "-"))
    assert made.startswith(before)
    assert (title or "-") in made[len(before) :]


def test_braces_that_are_doubled_are_braces():
    template = PromptTemplate(header="{{{title}}}:", question="{{}} {question}")
    assert template.header_of(passage_of("x", title="{t}")) == "{{t}}:"
    assert template.question_of(Query("a {b}")) == "{} a {b}"


def test_prefix_closing_and_stop_are_taken_as_they_are():
    template = own(prefix="{a} {{b}} \n", closing="{c}", stop="{d}")
    assert template.render(QUERY, [passage_of("x")]).startswith(
        "{a} {{b}} \nTitle: Bread\nText: x{c}"
    )


def test_a_local_model_keeps_one_encoder_a_template(tiny_model, tiny_tokenizer, identity):
    from rag.generation.local_model import LocalModel
    from rag.models.language_model import LoadedModel

    lm = LocalModel(LoadedModel(tiny_model(), tiny_tokenizer, identity()))
    assert lm.prompt_of("auto") is lm.prompt_of("examples") is lm.prompt
    assert lm.prompt_of("instruct") is lm.prompt_of("instruct")
    assert lm.prompt_of({"stop": "x"}) is lm.prompt_of({"stop": "x"})
    assert lm.prompt_of({"stop": "x"}).template == PromptTemplate(stop="x", name="own")


def test_weights_that_two_layers_share_count_once(tiny_model):
    from rag.generation.local_model import parameter_count

    apart, tied = (
        parameter_count(tiny_model(tie_word_embeddings=shared)) for shared in (False, True)
    )
    assert apart - tied == 300 * 48
