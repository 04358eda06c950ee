"""Models behind the HTTP interface that OpenAI, vLLM, llama.cpp, Ollama and many others share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Literal, get_args

from rag.errors import RemoteModelError
from rag.generation.decoding import StopTexts
from rag.models.http_service import HttpService
from rag.models.reply import FINISHES, Reply
from rag.records import TokenUse, text_sha

Api = Literal["chat", "completions"]
MOST_STOPS = 4
"""Services take no more stop texts; the others are cut here."""
_PATHS: Mapping[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}


class OpenAICompatibleModel:
    """A language model that a service runs; satisfies `rag.protocols.TextModel`.

    Prompts are sent to the service, passages in them included. Calls may come from several threads.

    - `chat` sends each prompt as one message of a person: the model answers the prompt, in the
      format that it was tuned for;
    - `completions` sends it as it is: the model continues it, as base models do best. Servers such
      as vLLM and llama.cpp have it; many services do not.

    Attributes:
        name: of the model, as the service calls it.
        base_url: where the service is.
        notes: what a person should know when it is used.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api: Api = "chat",
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 120.0,
        retries: int = 3,
        concurrency: int = 4,
        token_logprobs: bool = True,
        extra_body: Mapping[str, Any] | None = None,
        insecure_http: bool = False,
    ) -> None:
        """Look at the arguments; nothing is sent before the first prompt.

        Args:
            model: as the service calls it.
            base_url: up to and with `/v1`: `http://127.0.0.1:8000/v1`, `https://api.openai.com/v1`.
                `http` goes to this machine and its network only, unless `insecure_http`.
            api: `chat` or `completions`.
            api_key_env: name of the environment variable that holds the key; without it none is
                sent.
            timeout_s: the longest to wait for a connection, and for each piece of an answer.
            retries: how often to try again after a failed connection, 429 and 5xx, with waits that
                double from half a second, or as long as the service asks for, 30 s at most.
            concurrency: prompts that are asked at the same time, at least 1.
            token_logprobs: ask `complete` for the log-probability of each token, which not all
                services give; one that refuses because of that is asked without from then on.
            extra_body: fields that every request gets; None as a value leaves a field out.
            insecure_http: allow `http` to any host.

        Raises:
            ValueError: if one of them is not allowed.
        """
        if not model.strip():
            raise ValueError("model must be the service's name of a model, got only white space")
        if api not in get_args(Api):
            raise ValueError(f"api must be one of {', '.join(get_args(Api))}, got {api!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        self.name = model
        self._service = HttpService(
            base_url,
            api_key_env=api_key_env,
            timeout_s=timeout_s,
            retries=retries,
            insecure_http=insecure_http,
        )
        self.base_url = self._service.base_url
        self._api = api
        self._path = _PATHS[api]
        self._concurrency = concurrency
        self._token_logprobs = self._asks_logprobs = token_logprobs
        self._extra = dict(extra_body or {})

    def __repr__(self) -> str:
        return f"OpenAICompatibleModel({self.name!r}, {self.base_url!r}, api={self._api!r})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know: where the texts go, and that no KV is reused."""
        said = f"{self.name} is remote: prompts and passages go to {self.base_url} as text"
        return (f"{said} (mode sequential), as its KV cannot be reused",)

    @property
    def fingerprint(self) -> str:
        """Hash of what is asked, and where; no service tells its weights."""
        facts = self.base_url, self._api, self.name, self._extra, self._token_logprobs
        return text_sha(json.dumps(facts, sort_keys=True, default=str))

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Reply]:
        """Return one reply a prompt, in order; it is cut at the first stop text in any case.

        Neither temperature 0 nor a seed promises the same text twice, as services batch requests. A
        seed is sent where it has a meaning: if it is not 0, or the temperature is above 0.

        Args:
            prompts: raw texts.
            max_tokens: the most to generate, at least 1.
            stop: a reply ends before the first of these texts.
            temperature: 0 is greedy.
            seed: of the sampler.

        Raises:
            RemoteModelError: if the service cannot be reached, refuses, or answers without a text.
            ValueError: for an argument out of range.
        """
        bodies = [self._body(p, max_tokens, stop, temperature, seed) for p in prompts]
        if len(bodies) < 2:
            return [self._asked(body, stop) for body in bodies]
        with ThreadPoolExecutor(min(self._concurrency, len(bodies))) as threads:
            waiting = [threads.submit(self._asked, body, stop) for body in bodies]
            try:
                return [reply.result() for reply in waiting]
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str | Reply]:
        """Yield pieces of one reply as they come, and the `Reply` last; see `complete`.

        What could begin a stop text is held back. A reply that had to be cut here has no token
        counts: the request ends there, before the service tells them.
        """
        body = self._body(prompt, max_tokens, stop, temperature, seed)
        body |= {"stream": True, "stream_options": {"include_usage": True}} | self._extra
        heard, shown, ends = _Heard(), 0, StopTexts(stop)
        with closing(self._service.events(self._path, _without_none(body))) as events:
            for event in events:
                if event is None:
                    break
                heard.add(event)
                found, pending = ends.found(heard.text), ends.pending(heard.text)
                settled = min(found, pending)
                if settled > shown:
                    yield heard.text[shown:settled]
                    shown = settled
                if found < len(heard.text) and found <= pending:
                    break
            else:
                if not heard.ended:
                    raise self._service.error(self._path, "broke off before the reply was complete")
        if not heard.choices:
            raise self._service.error(self._path, "answered without choices")
        rest = heard.text[shown : ends.found(heard.text)]
        if rest:
            yield rest
        yield heard.reply(ends)

    def logprobs(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Return the natural log-probability of each continuation after the prompt.

        Only `completions` can be asked, by having it echo both. A token that holds the end of the
        prompt and the beginning of a continuation counts. An empty continuation is certain.

        Raises:
            NotImplementedError: if the service does not tell, as no chat service does.
            RemoteModelError: if it cannot be reached or refuses.
            ValueError: if the prompt is empty.
        """
        if isinstance(continuations, str):
            raise ValueError("continuations must be a list of texts, got one text")  # noqa: TRY004
        if self._api != "completions":
            raise NotImplementedError(
                f"{self.name} gives no log-probabilities of a given text: a chat service scores "
                "only what it wrote; a server with api: completions may tell them"
            )
        if not prompt:
            raise ValueError("a prompt must not be empty, got no text")
        return [self._score(prompt, text) if text else 0.0 for text in continuations]

    def close(self) -> None:
        """Close the connections; twice is harmless."""
        self._service.close()

    def _score(self, prompt: str, continuation: str) -> float:
        body = self._body(prompt + continuation, 1, (), 0.0, 0)
        answer = self._service.post(self._path, {**body, "echo": True, "logprobs": 1})
        told = _first(answer).get("logprobs") or {}
        tokens, scores = told.get("tokens") or [], told.get("token_logprobs") or []
        # A special token may stand before the prompt, and one that was generated behind all.
        whole = "".join(tokens)
        begin = whole.find(prompt + continuation)
        if begin < 0 or len(tokens) != len(scores):
            raise NotImplementedError(
                f"{self.name} gives no log-probabilities of a given text: {self.base_url} does not "
                "echo it with them"
            )
        low, high, at, total = begin + len(prompt), begin + len(prompt + continuation), 0, 0.0
        for token, score in zip(tokens, scores, strict=True):
            if at < high and at + len(token) > low:
                total += float(score or 0.0)
            at += len(token)
        return total

    def _body(
        self, prompt: str, max_tokens: int, stop: Sequence[str], temperature: float, seed: int
    ) -> dict[str, Any]:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        StopTexts(stop)
        asked = (
            {"messages": [{"role": "user", "content": prompt}]}
            if self._api == "chat"
            else {"prompt": prompt}
        )
        body = {"model": self.name, **asked, "max_tokens": max_tokens, "temperature": temperature}
        if stop:
            body["stop"] = list(stop)[:MOST_STOPS]
        if seed or temperature:
            body["seed"] = seed
        return _without_none(body | self._extra)

    def _asked(self, body: Mapping[str, Any], stop: Sequence[str]) -> Reply:
        heard = _Heard()
        heard.add(self._posted(body))
        if not heard.choices:
            raise self._service.error(self._path, "answered without choices")
        return heard.reply(StopTexts(stop))

    def _posted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if not self._asks_logprobs or "logprobs" in self._extra:
            return self._service.post(self._path, body)
        wanted = {"logprobs": True if self._api == "chat" else 1}
        try:
            return self._service.post(self._path, {**body, **wanted})
        except RemoteModelError as error:
            if not 400 <= error.status < 500 or "logprob" not in str(error).lower():
                raise
        self._asks_logprobs = False
        return self._service.post(self._path, body)


class _Heard:
    """A reply as far as it has come: whole, or in pieces.

    Attributes:
        text: so far.
        choices: whether there was anything to hear.
        ended: whether the service said why the reply ended.
    """

    def __init__(self) -> None:
        self.text = ""
        self.choices = False
        self._finish = ""
        self._use: TokenUse | None = None
        self._tokens: list[tuple[str, float]] = []

    @property
    def ended(self) -> bool:
        return bool(self._finish)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take in an answer, or an event of a stream."""
        self._use = _use(answer.get("usage")) or self._use
        choice = _first(answer)
        if not choice:
            return
        self.choices = True
        said = choice.get("delta") or choice.get("message") or choice
        text = said.get("content") or said.get("text") or "" if isinstance(said, dict) else ""
        self.text += text if isinstance(text, str) else ""
        self._finish = str(choice.get("finish_reason") or self._finish)
        self._tokens += _scored(choice.get("logprobs"))

    def reply(self, stop: StopTexts) -> Reply:
        """Return what was heard, cut at the first stop text."""
        end = stop.found(self.text)
        tokens: list[str] = []
        logprobs: list[float] = []
        if "".join(token for token, _ in self._tokens).startswith(self.text) and self.text:
            at = 0
            for token, logprob in self._tokens:
                if at < end:
                    tokens.append(token[: end - at])
                    logprobs.append(logprob)
                at += len(token)
        finish: Literal["stop", "length", ""]
        finish = "stop" if end < len(self.text) else FINISHES.get(self._finish, "")
        return Reply(self.text[:end].strip(), tuple(tokens), tuple(logprobs), finish, self._use)


def _first(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first choice of an answer; empty if it has none."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _scored(logprobs: Any) -> list[tuple[str, float]]:
    """Return tokens with their log-probabilities from either form in which they are told."""
    if not isinstance(logprobs, dict):
        return []
    if isinstance(logprobs.get("content"), list):
        return [(str(one["token"]), float(one["logprob"])) for one in logprobs["content"]]
    pairs = zip(logprobs.get("tokens") or (), logprobs.get("token_logprobs") or (), strict=False)
    return [(str(token), float(logprob or 0.0)) for token, logprob in pairs]


def _use(usage: Any) -> TokenUse | None:
    if not isinstance(usage, dict):
        return None
    prompt, generated = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(generated or 0, int):
        return None
    return TokenUse(prompt, 0, prompt, generated or 0)


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
