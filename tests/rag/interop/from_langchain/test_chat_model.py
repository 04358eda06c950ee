"""LangChain chat models as text models: stop, options, what cannot be asked, round trip."""

import asyncio

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from rag.interop.langchain import as_chat_model, from_chat_model
from rag.protocols import TextModel
from rag.records import Completion


class Service(BaseChatModel):
    """Says what it was asked and with what; has the fields that most services have."""

    model: str = "service-1"
    max_completion_tokens: int = 5
    temperature: float = 0.7

    @property
    def _llm_type(self):
        return "service"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = f" {messages[0].type} {messages[0].text} {len(stop or ())} {sorted(kwargs.items())} "
        message = AIMessage(text, response_metadata={"finish_reason": "length"})
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_what_is_asked_reaches_the_model_under_its_own_names():
    (found,) = from_chat_model(Service()).complete(["hi"], max_tokens=9, stop=["Z"])
    options = [("max_completion_tokens", 9), ("temperature", 0.0)]
    assert found == Completion(f"human hi 1 {options}", finish="length")


def test_options_may_be_named_by_hand():
    model = from_chat_model(Service(), options={"max_tokens": "num_predict", "seed": "seed"})
    (found,) = model.complete(["hi"], max_tokens=9, seed=3)
    assert found.text == "human hi 0 [('num_predict', 9), ('seed', 3)]"


def test_prompts_are_answered_in_order_and_no_prompt_asks_nothing():
    model = from_chat_model(Service())
    found = model.complete(["a", "b", "c"])
    assert [one.text.split()[1] for one in found] == ["a", "b", "c"]
    assert asyncio.run(model.acomplete(["a", "b", "c"])) == found
    assert model.complete([]) == asyncio.run(model.acomplete([])) == []


def test_a_reply_ends_before_the_first_stop_text_even_if_the_model_ignores_it():
    model = from_chat_model(FakeListChatModel(responses=["one. two; three"]), options={})
    assert model.complete(["x"], stop=[";", "."]) == [Completion("one", finish="stop")]


def test_models_that_reply_with_bare_text_work_too():
    model = from_chat_model(FakeListLLM(responses=[" text "]), options={})
    assert model.complete(["x"]) == [Completion("text")]


def test_what_the_model_cannot_be_asked_is_an_error():
    model = from_chat_model(FakeListChatModel(responses=["x"]), options={})
    with pytest.raises(ValueError, match=r"^FakeListChatModel takes no temperature, got 0.5$"):
        model.complete(["x"], temperature=0.5)
    with pytest.raises(ValueError, match=r"^service-1 takes no seed, got 3$"):
        from_chat_model(Service()).complete(["x"], temperature=0.5, seed=3)
    with pytest.raises(ValueError, match=r"^max_tokens must be at least 1, got 0$"):
        model.complete(["x"], max_tokens=0)
    with pytest.raises(NotImplementedError, match="gives no log-probabilities"):
        model.logprobs("x", ["y"])


def test_a_model_whose_replies_nothing_limits_must_be_allowed():
    with pytest.raises(ValueError, match=r"declares no field for max_tokens; pass options="):
        from_chat_model(FakeListChatModel(responses=["x"]))
    with pytest.raises(ValueError, match=r"^options must name max_tokens, .* got 'top_p'$"):
        from_chat_model(Service(), options={"top_p": "top_p"})
    with pytest.raises(ValueError, match=r"^model must have bind and batch, got builtins.int$"):
        from_chat_model(3)


def test_it_is_a_text_model_whose_fingerprint_follows_its_settings():
    model = from_chat_model(Service())
    assert isinstance(model, TextModel)
    assert model.name == "service-1"
    same, other = Service(), Service(model="service-2")
    assert from_chat_model(same).fingerprint == model.fingerprint
    assert from_chat_model(other).fingerprint != model.fingerprint
    assert from_chat_model(same, options={}).fingerprint != model.fingerprint


def test_a_model_that_went_to_langchain_comes_back(length_model):
    model = from_chat_model(as_chat_model(length_model))
    (found,) = model.complete(["why"], max_tokens=7, temperature=0.5, seed=2, stop=[" letters"])
    assert found == Completion("User: why has 9", finish="stop")
    assert length_model.calls[0][1:] == (
        7,
        (" letters", "\nSystem:", "\nUser:", "\nAssistant:"),
        0.5,
        2,
    )
