"""LangChain chat models as our text models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag.interop.from_langchain.naming import class_path, model_name, needs
from rag.models.reply import FINISHES
from rag.records import Completion, text_sha

_ALIASES = {
    "max_tokens": (
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "max_new_tokens",
        "num_predict",
    ),
    "temperature": ("temperature",),
    "seed": ("seed",),
}


@dataclass(frozen=True)
class LangChainTextModel:
    """Text model that asks a LangChain chat model; satisfies `rag.protocols.TextModel`.

    Each prompt is one message of a person, so a service's own chat template stands around it and
    the model answers the prompt rather than continuing it.

    Attributes:
        model: has `bind` and `batch`.
        options: names that a call of the model gives to `max_tokens`, `temperature` and `seed`.
    """

    model: Any
    options: Mapping[str, str]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.options) - set(_ALIASES))
        if unknown:
            raise ValueError(f"options must name {', '.join(_ALIASES)}, got {unknown[0]!r}")

    @property
    def name(self) -> str:
        """The model's own name, else its class."""
        return model_name(self.model)

    @property
    def fingerprint(self) -> str:
        """Hash of class and settings as the model tells them; no service tells its weights."""
        settings = getattr(self.model, "_identifying_params", {})
        facts = class_path(self.model), self.name, settings, sorted(self.options.items())
        return text_sha(json.dumps(facts, default=str, sort_keys=True))

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Completion]:
        """Return one reply a prompt, in order; it is cut at the first stop text in any case.

        What `options` leaves out cannot be asked for: a temperature above 0 or a seed other than 0
        is then an error. At temperature 0 a model without one is asked as it was set up, as it is
        for `max_tokens`. With a service, neither temperature 0 nor a seed promises the same text
        twice.

        Args:
            prompts: raw texts.
            max_tokens: the most to generate, at least 1.
            stop: a reply ends before the first of these texts.
            temperature: 0 is greedy.
            seed: of the sampler; 0 asks for none in particular.

        Raises:
            ValueError: for what the model cannot be asked.
        """
        bound = self._bound(max_tokens, stop, temperature, seed)
        return [_completion(reply, stop) for reply in bound.batch(list(prompts))] if prompts else []

    async def acomplete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Completion]:
        """Do as `complete` does with the model's `abatch`."""
        bound = self._bound(max_tokens, stop, temperature, seed)
        replies = await bound.abatch(list(prompts)) if prompts else []
        return [_completion(reply, stop) for reply in replies]

    def logprobs(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Refuse: chat models do not score texts that they did not write.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{self.name} gives no log-probabilities of a given text")

    def _bound(self, max_tokens: int, stop: Sequence[str], temperature: float, seed: int) -> Any:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        wanted = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        for option in ("temperature", "seed"):
            if wanted[option] and option not in self.options:
                raise ValueError(f"{self.name} takes no {option}, got {wanted[option]}")
        given: dict[str, Any] = {theirs: wanted[ours] for ours, theirs in self.options.items()}
        if stop:
            given["stop"] = list(stop)
        return self.model.bind(**given)


def from_chat_model(model: Any, *, options: Mapping[str, str] | None = None) -> LangChainTextModel:
    """Return a LangChain chat model as a `TextModel`.

    Args:
        model: anything with `bind` and `batch` from texts to messages.
        options: what a call of the model calls `max_tokens`, `temperature` and `seed`, such as
            `{"max_tokens": "num_predict"}`; `{}` says that it takes none of them. None looks for
            fields of these names, and of those that other services use.

    Raises:
        ValueError: if it lacks these methods; if `options` names something else; or if it is None
            and no field limits the tokens: then replies could be longer than an operator asks for,
            which only `options` may allow.
    """
    needs(model, "model", "bind", "batch")
    if options is None:
        options = _declared(model)
        if "max_tokens" not in options:
            raise ValueError(
                f"{class_path(model)} declares no field for max_tokens; pass "
                "options={'max_tokens': NAME}, or options={} to ask it without a limit"
            )
    return LangChainTextModel(model, options)


def _declared(model: Any) -> dict[str, str]:
    """Return our names to theirs, by the fields of the model's class or their aliases."""
    fields = getattr(type(model), "model_fields", {})
    known = {*fields, *(field.alias for field in fields.values() if field.alias)}
    return {
        ours: next(name for name in names if name in known)
        for ours, names in _ALIASES.items()
        if known.intersection(names)
    }


def _completion(reply: Any, stop: Sequence[str]) -> Completion:
    text = reply if isinstance(reply, str) else str(reply.text)
    ends = [at for at in (text.find(end) for end in stop) if at >= 0]
    if ends:
        return Completion(text[: min(ends)].strip(), finish="stop")
    facts = getattr(reply, "response_metadata", {})
    reason = facts.get("finish_reason") or facts.get("stop_reason") or facts.get("done_reason")
    return Completion(text.strip(), finish=FINISHES.get(str(reason), ""))
