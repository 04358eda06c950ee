"""Our text models as LangChain chat models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict
from typing_extensions import override

from rag.protocols import TextModel
from rag.records import Completion

SPEAKERS = {"system": "System", "human": "User", "ai": "Assistant"}
_NEXT_SPEAKER = tuple(f"\n{speaker}:" for speaker in SPEAKERS.values())

Turns = list[tuple[str, str]]


def role_lines(turns: Turns) -> str:
    """Return a conversation as lines `Speaker: text`, ended by the assistant's turn to speak.

    Args:
        turns: pairs of role (`system`, `human` or `ai`) and text.
    """
    return "".join(f"{SPEAKERS[role]}: {text.strip()}\n" for role, text in turns) + "Assistant:"


class ChatDovetail(BaseChatModel):
    """A text model as a LangChain chat model: text only, no tools.

    A text model continues raw text and reads control tokens in it as plain text, so that no message
    can pretend to be another; a chat template would be lost on it. A model that has
    `converse(turns, max_tokens=, stop=, temperature=, seed=)`, which returns a `Completion`, is
    asked by that, and may use its own template; any other reads the messages as `render` writes
    them. It streams if it has `stream` with the arguments of `complete` for one prompt, which
    yields pieces of text and a `Completion` last; else its text comes in one chunk.

    Attributes:
        lm: writes.
        max_tokens: the most to generate, at least 1.
        temperature: 0 is greedy.
        seed: of the sampler.
        stop: texts that end the reply, beside those of each call.
        render: makes one prompt of roles and texts. With `role_lines` a reply ends where the next
            line names a speaker; with another set `stop`.
        streaming: whether `invoke` streams as well, for handlers that want each token.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    lm: Any
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: list[str] | None = None
    render: Callable[[Turns], str] = role_lines
    streaming: bool = False

    @property
    @override
    def _llm_type(self) -> str:
        return "dovetail"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.lm.name,
            "fingerprint": self.lm.fingerprint,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": self.stop,
            "render": f"{self.render.__module__}.{getattr(self.render, '__qualname__', '')}",
        }

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        params["ls_provider"] = "dovetail"
        params.setdefault("ls_model_name", self.lm.name)
        return params

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        turns = _turns(messages)
        completion = self._reply(turns, self._options(stop, kwargs))
        message = AIMessage(
            completion.text,
            response_metadata=self._facts(completion),
            usage_metadata=self._usage(turns, completion),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        turns = _turns(messages)
        for item in self._said(turns, self._options(stop, kwargs)):
            if isinstance(item, str):
                chunk = AIMessageChunk(content=item)
            else:
                chunk = AIMessageChunk(
                    content="",
                    response_metadata=self._facts(item),
                    usage_metadata=self._usage(turns, item),
                    chunk_position="last",
                )
            yield ChatGenerationChunk(message=chunk)

    def _said(self, turns: Turns, options: dict[str, Any]) -> Iterator[str | Completion]:
        if hasattr(self.lm, "stream") and not hasattr(self.lm, "converse"):
            yield from self.lm.stream(self.render(turns), **options)
            return
        completion = self._reply(turns, options)
        yield completion.text
        yield completion

    def _reply(self, turns: Turns, options: dict[str, Any]) -> Completion:
        if hasattr(self.lm, "converse"):
            replied: Completion = self.lm.converse(turns, **options)
            return replied
        (completion,) = self.lm.complete([self.render(turns)], **options)
        return completion  # type: ignore[no-any-return]

    def _options(self, stop: Sequence[str] | None, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `complete` for one call."""
        own = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        unknown = sorted(set(given) - set(own))
        if unknown:
            raise ValueError(f"a call takes stop, {', '.join(own)}, got {', '.join(unknown)}")
        ends = list((self.stop or []) if stop is None else stop)
        if self.render is role_lines and not hasattr(self.lm, "converse"):
            ends += [end for end in _NEXT_SPEAKER if end not in ends]
        return {**own, **given, "stop": ends}

    def _facts(self, completion: Completion) -> dict[str, Any]:
        facts = {"model_name": self.lm.name, "finish_reason": completion.finish}
        return {key: value for key, value in facts.items() if value}

    def _usage(self, turns: Turns, completion: Completion) -> UsageMetadata | None:
        """Return token counts, if the model tells its tokens and has a tokenizer."""
        prompt = getattr(self.lm, "prompt", None)
        if prompt is None or not completion.tokens or hasattr(self.lm, "converse"):
            return None
        read, wrote = len(prompt.whole(self.render(turns))), len(completion.tokens)
        return UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)


def as_chat_model(lm: TextModel, **options: Any) -> ChatDovetail:
    """Return a text model as a LangChain `BaseChatModel`.

    Args:
        lm: writes.
        **options: `max_tokens`, `temperature`, `seed`, `stop`, `render`; see `ChatDovetail`.

    Raises:
        ValueError: if `lm` is no text model, or for an unknown option.
    """
    if not isinstance(lm, TextModel):
        raise ValueError(  # noqa: TRY004
            f"lm must have name, fingerprint, complete and logprobs, got {type(lm).__name__}"
        )
    return ChatDovetail(lm=lm, **options)


def _turns(messages: Sequence[BaseMessage]) -> Turns:
    """Return roles and texts.

    Raises:
        ValueError: for a message that is not plain text of the system, a person or the assistant.
    """
    turns = []
    for message in messages:
        if message.type not in SPEAKERS:
            allowed = ", ".join(SPEAKERS)
            raise ValueError(f"messages must be of type {allowed}, got {message.type}")
        other = [block["type"] for block in message.content_blocks if block["type"] != "text"]
        if other:
            raise ValueError(f"messages must hold text only, got {', '.join(other)}")
        turns.append((message.type, str(message.text)))
    return turns
