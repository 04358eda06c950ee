"""A local language model that continues texts, and lends its engine to cached generation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from rag.errors import UnsupportedModelError
from rag.generation.chat_template import has_chat_template
from rag.generation.decoding import Sampling, StopTexts, decode_samples, require_samples
from rag.generation.passed_tests import PassedTests
from rag.generation.prompt import PromptEncoder
from rag.generation.templates import PromptChoice, PromptTemplate, chosen_template
from rag.protocols import PassageCache
from rag.records import Completion, ModelIdentity, text_sha

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rag.adaptation.base_weights import BaseWeights
    from rag.generation.engine import Engine
    from rag.generation.plain_engine import PlainEngine
    from rag.generation.prefilled import Prefilled
    from rag.generation.segment_cache import SegmentCache
    from rag.models.language_model import LoadedModel

PLACED_BYTES = 2 << 30
REMEMBERED_PROMPTS = 8
REMEMBERED_BYTES = 256 << 20


class LocalModel:
    """A model that runs here: the resource `lm`; satisfies `rag.protocols.TextModel`.

    A prompt that begins as an earlier one did, with the same instructions and examples, is not read
    from its beginning again: whole blocks of tokens are taken over, which changes no result. Calls
    may come from several threads; forward passes take turns. An adapter is for reading passages:
    `complete` and `logprobs` ask the model as it came.

    Attributes:
        identity: what the model's KV and its output depend on.
        prompt: tokenises for the model.
        adapter: what a person calls the adapter that is merged into the model: `none`,
            `NAME (shipped)`, or its folder.
        notes: what a user should see, as that KV reuse is refused and a fallback is at work.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        placed_bytes: int = PLACED_BYTES,
        template: PromptTemplate = PromptTemplate(),
        passed: PassedTests | None = None,
        adapter: str = "none",
        base: BaseWeights | None = None,
    ) -> None:
        """Wrap a model that is loaded; nothing runs before the first use.

        Args:
            loaded: model, tokenizer and identity.
            placed_bytes: budget of each engine for passages in the form that attention reads.
            template: the text around passages and question, for generators.
            passed: remembers the engine's self-test; None runs it once for this object.
            adapter: what a person calls the adapter that was merged into the model.
            base: what it was merged into, to complete prompts with; None completes with the model
                as it is.
        """
        self.identity: ModelIdentity = loaded.identity
        self.adapter = adapter
        self._base = base
        self.prompt = PromptEncoder(loaded.tokenizer, loaded.identity, template)
        self._model = loaded.model
        self._placed_bytes = placed_bytes
        self._prompts = {template: self.prompt}
        self._engines: dict[int, Engine] = {}
        self._plain: PlainEngine | None = None
        self.notes: tuple[str, ...] = ()
        self._passed = passed
        self._opening = threading.Lock()
        self._recent = _RecentPrompts()

    @classmethod
    def open(
        cls,
        name: str = "smollm2-135m",
        dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto",
        download: bool = False,
        placed_bytes: int = PLACED_BYTES,
        adapter: str = "auto",
    ) -> Self:
        """Load a language model from an installed package, a local folder or file, or the hub.

        Args:
            name: `smollm2-135m`, a folder in Hugging Face layout, a `.gguf` file, or a hub id.
            dtype: of the forward pass; `auto` is bfloat16 where that is fast, else float32.
            download: let a name without `/` reach the hub too.
            placed_bytes: RAM for passages in the form that attention reads.
            adapter: for reading cached passages: `auto` is the one that comes with Dovetail for
                this model, or none; `none`; or a folder that `dovetail adapt` wrote.

        Raises:
            AdapterError: if the adapter is none, is damaged, or belongs to another model.
            ModelNotFoundError: if nothing resolves the name, or what it names holds no model.
        """
        from rag.adaptation.adapter import adapted, load_adapter_config
        from rag.adaptation.base_weights import BaseWeights
        from rag.adaptation.shipped import adapter_name, passed_over, resolve_adapter
        from rag.models.language_model import load_language_model

        loaded = load_language_model(name, dtype=dtype, download=download)
        folder = resolve_adapter(adapter, loaded.identity)
        note = passed_over(adapter, loaded.identity) if folder is None else None
        base = None
        if folder is not None:
            loaded = adapted(loaded, folder)
            base = BaseWeights(
                loaded.model,
                load_adapter_config(folder).layers,
                lambda: load_language_model(name, dtype=dtype, download=download).model,
            )
        model = cls(
            loaded,
            placed_bytes=placed_bytes,
            passed=PassedTests(),
            adapter=adapter_name(folder),
            base=base,
        )
        model.notes = (note,) if note else ()
        return model

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.identity.name

    @property
    def fingerprint(self) -> str:
        """Hash of everything its output depends on, sampling apart; its name is no part of that."""
        facts = {key: value for key, value in asdict(self.identity).items() if key != "name"}
        return text_sha(json.dumps(facts, sort_keys=True))

    @overload
    def engine(
        self, cache: PassageCache | None = None, *, fallback: Literal[False] = False
    ) -> Engine: ...
    @overload
    def engine(
        self, cache: PassageCache | None = None, *, fallback: bool
    ) -> Engine | PlainEngine: ...
    def engine(
        self, cache: PassageCache | None = None, *, fallback: bool = False
    ) -> Engine | PlainEngine:
        """Return the engine that reads passages from a KV store; always the same one for a store.

        Args:
            cache: the store; None gives the engine that only remembers in its own budget.
            fallback: return an engine for mode `sequential`, the model as it comes, where KV reuse
                is refused; `notes` says so.

        Raises:
            UnsupportedModelError: if KV reuse is not proven exact for the model's family, and there
                is no fallback.
        """
        from rag.generation.engine import Engine
        from rag.generation.plain_engine import PlainEngine

        # An engine holds its cache, so no other object can take over the id.
        key = id(cache)
        with self._opening:
            if key in self._engines:
                return self._engines[key]
            if self._plain is None:
                memory = self._passed
                tested = bool(self._engines) or (memory is not None and memory.has(self.identity))
                try:
                    made = Engine(
                        self._model,
                        self.identity,
                        cache,
                        placed_bytes=self._placed_bytes,
                        tested=tested,
                    )
                except UnsupportedModelError as error:
                    self._plain = PlainEngine(self._model, self.identity, str(error))
                else:
                    if memory is not None and not tested:
                        memory.add(self.identity)
                    return self._engines.setdefault(key, made)
            if fallback:
                refused = f"KV reuse refused: {self._plain.reason}; mode sequential"
                if refused not in self.notes:
                    self.notes = (*self.notes, refused)
                return self._plain
            raise UnsupportedModelError(self._plain.reason)

    def prompt_of(self, prompt: PromptChoice | Mapping[str, str | bool]) -> PromptEncoder:
        """Return what tokenises with a named template or one of your own; the same one each time.

        Args:
            prompt: as of `rag.generation.templates.chosen_template`.

        Raises:
            UnsupportedModelError: if the tokenizer has no chat template that a chat can use.
            ValueError: as of `chosen_template`, or for a control token in a chat's texts.
        """
        tokenizer = self.prompt.tokenizer
        template = chosen_template(
            prompt, has_chat=has_chat_template(tokenizer), parameters=parameter_count(self._model)
        )
        with self._opening:
            if template not in self._prompts:
                made = PromptEncoder(tokenizer, self.identity, template)
                made.prefix()
                self._prompts[template] = made
            return self._prompts[template]

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        num_return_sequences: int = 1,
    ) -> list[Completion]:
        """Return one continuation a prompt, in order; each is what it would be alone.

        Text in a prompt never becomes a control token. The tokens of a completion join to its text
        with the white space around it; the last one is cut where the stop text begins.

        Args:
            prompts: raw texts; the model sees nothing else.
            max_tokens: the most to generate, at least 1.
            stop: a continuation ends before the first of these texts.
            temperature: 0 is greedy.
            seed: of the sampler, which starts anew for every prompt.
            top_k: sample from the k most probable tokens; 0 is off.
            top_p: sample from the smallest set of most probable tokens that holds this
                probability, in (0, 1]; 1 is off.
            min_p: sample from tokens at least this times as probable as the most probable one, in
                [0, 1); 0 is off.
            num_return_sequences: continuations a prompt; those of a prompt follow each other, with
                seeds `seed`, `seed` + 1, and so on. The prompt is read once.

        Raises:
            UnsupportedModelError: if a prompt does not fit into the model's window.
            ValueError: if a number is out of range, a prompt or a stop text is empty, or at
                temperature 0 a filter is set or more than one sequence is asked for.
        """
        if isinstance(prompts, str) or isinstance(stop, str):
            raise ValueError("prompts and stop must be lists of texts, got one text")  # noqa: TRY004
        sampling = Sampling(max_tokens, temperature, seed, top_k, top_p, min_p, tuple(stop))
        require_samples(sampling, num_return_sequences)
        with self._as_it_came():
            return [
                completion
                for prompt in prompts
                for completion in self._complete(prompt, sampling, num_return_sequences)
            ]

    def logprobs(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Return the natural log-probability of each continuation after the prompt.

        Prompt and continuation are tokenised apart: a continuation brings its own leading space.
        An empty one is certain. The prompt is read once.

        Args:
            prompt: a raw text.
            continuations: raw texts.

        Raises:
            UnsupportedModelError: if prompt and continuation do not fit into the model's window.
            ValueError: if the prompt is empty.
        """
        if isinstance(continuations, str):
            raise ValueError("continuations must be a list of texts, got one text")  # noqa: TRY004
        ids = self._prompt_ids(prompt)
        with self._as_it_came():
            state = self._read(ids)
            self._recent.add(ids, state.cache)
            engine = self.engine(fallback=True)
            scores = [engine.score(state, self.prompt.ids(text)) for text in continuations]
        return [float(score.double().sum()) for score in scores]

    def _as_it_came(self) -> AbstractContextManager[None]:
        return nullcontext() if self._base is None else self._base.in_place()

    def _complete(self, prompt: str, sampling: Sampling, count: int) -> list[Completion]:
        ids = self._prompt_ids(prompt)
        engine, state, stop = self.engine(fallback=True), self._read(ids), self.prompt.stop_ids
        # One continuation may spend the state; several need forks of it.
        runs = (
            iter([engine.decode_scored(state, sampling, stop)])
            if count == 1
            else decode_samples(engine, state, sampling, stop, count)
        )
        completions = []
        for tokens in runs:
            text = _Continuation(self.prompt, sampling.stop)
            for token, logprob in tokens:
                if text.push(token, logprob):
                    break
            completions.append(text.completion(engine.room(len(ids), sampling.max_tokens)))
        self._recent.add(ids, state.cache)
        return completions

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        ids = self.prompt.whole(prompt)
        if not ids:
            raise ValueError("a prompt must not be empty, got no token")
        return ids

    def _read(self, ids: tuple[int, ...]) -> Prefilled:
        like, shared = self._recent.find(ids)
        return self.engine(fallback=True).read(ids, like=like, shared=shared)


def parameter_count(model: Any) -> int:
    """Return how many numbers a model has learned; weights that two layers share count once."""
    return sum(parameter.numel() for parameter in model.parameters())


class _RecentPrompts:
    """The caches of recent prompts, one for each beginning that they share."""

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[int, ...], SegmentCache]] = []
        self._lock = threading.Lock()

    def find(self, ids: tuple[int, ...]) -> tuple[SegmentCache | None, int]:
        """Return the cache that shares most with a prompt, and how many tokens: whole blocks."""
        with self._lock:
            shared, row = self._closest(ids)
            return (self._kept[row][1], shared) if shared else (None, 0)

    def add(self, ids: tuple[int, ...], cache: SegmentCache) -> None:
        """Remember a prompt in place of the one that it shares most with; drop the oldest."""
        with self._lock:
            shared, row = self._closest(ids)
            if shared:
                del self._kept[row]
            self._kept.append((ids, cache))
            while len(self._kept) > REMEMBERED_PROMPTS or self._nbytes() > REMEMBERED_BYTES:
                del self._kept[0]

    def _nbytes(self) -> int:
        return sum(cache.nbytes for _, cache in self._kept)

    def _closest(self, ids: tuple[int, ...]) -> tuple[int, int]:
        """Return how much is shared, and the row it is shared with; the latest row of a tie."""
        counts = [(_shared(ids, known), row) for row, (known, _) in enumerate(self._kept)]
        return max(counts, default=(0, 0))


def _shared(ids: tuple[int, ...], known: tuple[int, ...]) -> int:
    """Return how many tokens of `ids` can be taken over: whole blocks, never the last token."""
    from rag.generation.engine import READ_BLOCK

    pairs = enumerate(zip(ids, known, strict=False))
    common = next((at for at, (a, b) in pairs if a != b), min(len(ids) - 1, len(known)))
    return common - common % READ_BLOCK


class _Continuation:
    """A continuation that grows token by token, cut where the first stop text begins."""

    def __init__(self, prompt: PromptEncoder, stop: Iterable[str]) -> None:
        self._prompt = prompt
        self._stop = StopTexts(tuple(stop))
        self._ids: list[int] = []
        self._pieces: list[str] = []
        self._logprobs: list[float] = []
        self._text = ""

    def push(self, token: int, logprob: float) -> bool:
        """Add a token; return whether a stop text is there, and none can begin before it."""
        self._ids.append(token)
        self._logprobs.append(logprob)
        # An unfinished character decodes to U+FFFD; it belongs to the token that finishes it.
        whole = self._prompt.text(tuple(self._ids)).rstrip("\ufffd")
        self._pieces.append(whole[len(self._text) :])
        self._text = whole
        found = self._stop.found(whole)
        return found < len(whole) and found <= self._stop.pending(whole)

    def completion(self, room: int) -> Completion:
        """Return the result; `room` is how many tokens there could have been."""
        end = self._stop.found(self._text)
        ended = end < len(self._text) or len(self._ids) < room
        if end < len(self._text):
            self._cut(end)
        return Completion(
            self._text.strip(),
            tuple(self._pieces),
            tuple(self._logprobs),
            "stop" if ended else "length",
        )

    def _cut(self, end: int) -> None:
        """Keep the tokens that begin before `end`, the last one up to it."""
        kept, at = [], 0
        for piece in self._pieces:
            if at >= end:
                break
            kept.append(piece[: end - at])
            at += len(piece)
        self._text = self._text[:end]
        self._pieces = kept
        del self._logprobs[len(kept) :]
