"""A local language model that continues texts, and lends its engine to cached generation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, Self

from rag.generation.decoding import Sampling
from rag.generation.prompt import PromptEncoder, PromptTemplate
from rag.protocols import PassageCache
from rag.records import Completion, ModelIdentity, text_sha

if TYPE_CHECKING:
    from rag.generation.engine import Engine, Prefilled
    from rag.generation.segment_cache import SegmentCache
    from rag.models.language_model import LoadedModel

PLACED_BYTES = 2 << 30
REMEMBERED_PROMPTS = 8
REMEMBERED_BYTES = 256 << 20


class LocalModel:
    """A model that runs here: the resource `lm`; satisfies `rag.protocols.TextModel`.

    A prompt that begins as an earlier one did, with the same instructions and examples, is not read
    from its beginning again: whole blocks of tokens are taken over, which changes no result. Calls
    may come from several threads; forward passes take turns.

    Attributes:
        identity: what the model's KV and its output depend on.
        prompt: tokenises for the model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        placed_bytes: int = PLACED_BYTES,
        template: PromptTemplate = PromptTemplate(),
    ) -> None:
        """Wrap a model that is loaded; nothing runs before the first use.

        Args:
            loaded: model, tokenizer and identity.
            placed_bytes: budget of each engine for passages in the form that attention reads.
            template: the text around passages and question, for generators.
        """
        self.identity: ModelIdentity = loaded.identity
        self.prompt = PromptEncoder(loaded.tokenizer, loaded.identity, template)
        self._model = loaded.model
        self._placed_bytes = placed_bytes
        self._engines: dict[int, Engine] = {}
        self._opening = threading.Lock()
        self._recent = _RecentPrompts()

    @classmethod
    def open(
        cls,
        name: str = "smollm2-135m",
        dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto",
        download: bool = False,
        placed_bytes: int = PLACED_BYTES,
    ) -> Self:
        """Load a language model from an installed package, a local folder or file, or the hub.

        Args:
            name: `smollm2-135m`, a folder in Hugging Face layout, a `.gguf` file, or a hub id.
            dtype: of the forward pass; `auto` is bfloat16 where that is fast, else float32.
            download: let a name without `/` reach the hub too.
            placed_bytes: RAM for passages in the form that attention reads.

        Raises:
            ModelNotFoundError: if nothing resolves the name, or what it names holds no model.
        """
        from rag.models.language_model import load_language_model

        loaded = load_language_model(name, dtype=dtype, download=download)
        return cls(loaded, placed_bytes=placed_bytes)

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.identity.name

    @property
    def fingerprint(self) -> str:
        """Hash of everything its output depends on, sampling apart; its name is no part of that."""
        facts = {key: value for key, value in asdict(self.identity).items() if key != "name"}
        return text_sha(json.dumps(facts, sort_keys=True))

    def engine(self, cache: PassageCache | None = None) -> Engine:
        """Return the engine that reads passages from a KV store; always the same one for a store.

        Args:
            cache: the store; None gives the engine that only remembers in its own budget.

        Raises:
            UnsupportedModelError: if KV reuse is not proven exact for the model's family.
        """
        from rag.generation.engine import Engine

        # An engine holds its cache, so no other object can take over the id.
        key = id(cache)
        with self._opening:
            if key not in self._engines:
                self._engines[key] = Engine(
                    self._model, self.identity, cache, placed_bytes=self._placed_bytes
                )
            return self._engines[key]

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
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

        Raises:
            UnsupportedModelError: if a prompt does not fit into the model's window.
            ValueError: if a number is out of range, or a prompt or a stop text is empty.
        """
        if isinstance(prompts, str) or isinstance(stop, str):
            raise ValueError("prompts and stop must be lists of texts, got one text")  # noqa: TRY004
        if "" in stop:
            raise ValueError(f"stop must hold no empty text, got {list(stop)}")
        sampling = Sampling(max_tokens, temperature, seed)
        return [self._complete(prompt, sampling, stop) for prompt in prompts]

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
        state = self._read(ids)
        self._recent.add(ids, state.cache)
        engine = self.engine()
        scores = [engine.score(state, self.prompt.ids(text)) for text in continuations]
        return [float(score.double().sum()) for score in scores]

    def _complete(self, prompt: str, sampling: Sampling, stop: Sequence[str]) -> Completion:
        ids = self._prompt_ids(prompt)
        engine, state = self.engine(), self._read(ids)
        text = _Continuation(self.prompt, stop)
        for token, logprob in engine.decode_scored(state, sampling, self.prompt.stop_ids):
            if text.push(token, logprob):
                break
        self._recent.add(ids, state.cache)
        return text.completion(engine.room(len(ids), sampling.max_tokens))

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        ids = self.prompt.whole(prompt)
        if not ids:
            raise ValueError("a prompt must not be empty, got no token")
        return ids

    def _read(self, ids: tuple[int, ...]) -> Prefilled:
        like, shared = self._recent.find(ids)
        return self.engine().read(ids, like=like, shared=shared)


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
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._pieces: list[str] = []
        self._logprobs: list[float] = []
        self._text = ""
        self._stopped = False

    def push(self, token: int, logprob: float) -> bool:
        """Add a token; return whether a stop text is there."""
        self._ids.append(token)
        self._logprobs.append(logprob)
        # An unfinished character decodes to U+FFFD; it belongs to the token that finishes it.
        whole = self._prompt.text(tuple(self._ids)).rstrip("\ufffd")
        self._pieces.append(whole[len(self._text) :])
        self._text = whole
        cuts = [cut for cut in (whole.find(stop) for stop in self._stop) if cut >= 0]
        if cuts:
            self._stopped = True
            self._cut(min(cuts))
        return self._stopped

    def completion(self, room: int) -> Completion:
        """Return the result; `room` is how many tokens there could have been."""
        ended = self._stopped or len(self._ids) < room
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
