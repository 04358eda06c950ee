"""Our text models as LangChain chat models: prompt, stop, options, streams, usage, refusals."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from rag.interop.langchain import as_chat_model
from rag.interop.to_langchain.chat_model import role_lines
from rag.records import Completion

NEXT = ("\nSystem:", "\nUser:", "\nAssistant:")


def test_messages_become_lines_of_speakers(length_model):
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        AIMessage("Hello."),
        HumanMessage([{"type": "text", "text": "Why? "}]),
    ]
    reply = as_chat_model(length_model).invoke(messages)
    prompt = "System: Be brief.\nUser: Hi\nAssistant: Hello.\nUser: Why?\nAssistant:"
    assert length_model.calls == [([prompt], 256, NEXT, 0.0, 0)]
    assert reply.content == "User: Why? has 10 letters."
    assert reply.response_metadata["model_name"] == "length"
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.usage_metadata == {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def test_options_of_a_call_win_over_the_models(length_model):
    chat = as_chat_model(length_model, max_tokens=9, temperature=0.5, seed=1, stop=["x"])
    chat.invoke("hi")
    chat.invoke("hi", stop=["y"], max_tokens=3, temperature=0.1, seed=2)
    chat.bind(stop=[]).invoke("hi")
    assert [call[1:] for call in length_model.calls] == [
        (9, ("x", *NEXT), 0.5, 1),
        (3, ("y", *NEXT), 0.1, 2),
        (9, NEXT, 0.5, 1),
    ]


def test_another_rendering_has_only_the_stops_it_is_given(length_model):
    chat = as_chat_model(length_model, render=lambda turns: f"Q: {turns[-1][1]}", stop=["\n"])
    chat.invoke("why")
    assert length_model.calls[0][:3] == (["Q: why"], 256, ("\n",))


def test_it_works_in_a_chain(length_model):
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | as_chat_model(length_model) | StrOutputParser()
    assert chain.invoke({"question": "why"}) == "User: why has 9 letters."
    assert "".join(chain.stream({"question": "why"})) == "User: why has 9 letters."


def test_a_model_that_streams_is_streamed(length_model, recorder):
    class Streaming(type(length_model)):
        def stream(self, prompt, **options):
            yield from ("a", "b")
            yield Completion("ab", ("a", "b"), (0.0, 0.0), "length")

    chat = as_chat_model(Streaming())
    chunks = list(chat.stream("hi", config={"callbacks": [recorder]}))
    assert [(c.content, c.chunk_position) for c in chunks] == [
        ("a", None),
        ("b", None),
        ("", "last"),
    ]
    whole = chunks[0] + chunks[1] + chunks[2]
    assert whole.usage_metadata["output_tokens"] == 2
    assert whole.response_metadata["finish_reason"] == "length"
    tokens = [what for what in recorder.seen if what[0] == "token" and what[1]]
    assert tokens == [("token", "a"), ("token", "b")]


def test_a_model_that_converses_gets_the_turns(length_model):
    class Conversing(type(length_model)):
        def converse(self, turns, **options):
            return Completion(f"{turns} {options['stop']}")

    chat = as_chat_model(Conversing())
    assert chat.invoke("hi", stop=["x"]).content == "[('human', 'hi')] ['x']"
    assert "".join(c.content for c in chat.stream("hi")) == "[('human', 'hi')] []"


def test_usage_is_left_out_where_it_is_not_known(length_model):
    length_model.prompt = None
    assert as_chat_model(length_model).invoke("hi").usage_metadata is None


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            ToolMessage("x", tool_call_id="1"),
            "messages must be of type system, human, ai, got tool",
        ),
        (
            HumanMessage([{"type": "image", "url": "http://x.org/y.png"}]),
            "messages must hold text only, got image",
        ),
    ],
)
def test_what_is_not_plain_text_is_refused(length_model, message, error):
    with pytest.raises(ValueError, match=rf"^{error}$"):
        as_chat_model(length_model).invoke([message])


def test_an_unknown_option_is_refused(length_model):
    with pytest.raises(ValueError, match=r"^a call takes stop, max_tokens, .* got top_p$"):
        as_chat_model(length_model).invoke("hi", top_p=0.5)
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        as_chat_model(length_model, top_p=0.5)
    with pytest.raises(ValueError, match=r"^lm must have name, fingerprint, complete and logprobs"):
        as_chat_model(object())


def test_a_cache_of_langchain_tells_models_and_options_apart(length_model):
    def key(**options):
        return as_chat_model(length_model, **options)._get_llm_string()

    assert len({key(), key(seed=1), key(max_tokens=3), key(render=lambda turns: "")}) == 4
    assert key() == key(render=role_lines)
