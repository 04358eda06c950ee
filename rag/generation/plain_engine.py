"""The engine without KV reuse: sequential plans on any causal language model, as it comes."""

from __future__ import annotations

import copy
import inspect
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch

from rag.errors import UnsupportedModelError
from rag.generation.attention import IMPLEMENTATION
from rag.generation.batch import DecodeBatch
from rag.generation.decode_loops import DecodeLoops
from rag.generation.model_lock import model_lock
from rag.generation.one_row import products_of
from rag.generation.prefilled import Prefilled
from rag.records import CacheUse, ModelIdentity, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from rag.generation.decoding import Sampling
    from rag.generation.plan import EncodingPlan
    from rag.protocols import SegmentKV

CACHE_ARGUMENTS = ("past_key_values", "cache_params")
"""What models call their cache; state-space models have a word of their own."""
WINDOW_SETTINGS = ("max_position_embeddings", "max_seq_len")


@dataclass(frozen=True, slots=True)
class PlainCache:
    """What a model keeps of a request: whatever it makes by itself.

    Attributes:
        argument: the name under which the model takes it back.
        state: the cache.
    """

    argument: str
    state: Any

    mass = None
    """Attention to passages is not watched."""

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(tensor.nbytes for tensor in _tensors(self.state))

    def fork(self) -> PlainCache:
        """Return a copy that goes on by itself."""
        return PlainCache(self.argument, copy.deepcopy(self.state))


class PlainEngine(DecodeLoops):
    """Runs sequential plans with the model's own attention and its own cache; stores nothing.

    It has the methods of `rag.generation.engine.Engine` that generators use, and stands in for it
    where KV reuse is refused: by the user's wish, and visibly. A prompt is read in one forward
    pass, and tokens after it one by one, because a recurrent state takes them in no other way.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        identity: what its output depends on.
        reason: why KV reuse is refused; told in errors.

    Attributes:
        cache: None: no KV is kept between requests.
        reuses: False.

    Raises:
        ValueError: if the model is prepared for an `Engine`.
    """

    reuses: ClassVar[bool] = False

    def __init__(self, model: Any, identity: ModelIdentity, reason: str) -> None:
        if model.config._attn_implementation == IMPLEMENTATION:  # noqa: SLF001 - no public getter
            raise ValueError(
                f"model must have attention of its own, got {identity.name!r}, which is prepared "
                "for KV reuse by an Engine"
            )
        self.model = model
        self.identity = identity
        self.reason = reason
        self.cache = None
        self._lock = model_lock(model)
        parameters = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    @property
    def window(self) -> int:
        """Positions that a prompt and its answer may take; a recurrent model has no limit."""
        config = self.model.config.get_text_config()
        found = (getattr(config, name, None) for name in WINDOW_SETTINGS)
        return next((int(limit) for limit in found if limit), sys.maxsize)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that a token's KV takes at most: as if every layer attended with all its heads."""
        config = self.model.config.get_text_config()
        numbers = 2 * int(config.num_hidden_layers) * int(config.hidden_size)
        return numbers * int(self.model.dtype.itemsize)

    def prefill(self, plan: EncodingPlan, *, watch: bool = False) -> Prefilled:
        """Read a sequential plan's prompt.

        Raises:
            UnsupportedModelError: if the plan reads cached passages, attention is to be watched, or
                the prompt does not fit into the model's window.
        """
        if plan.prefix is not None or plan.context or plan.targets or plan.prefill_start:
            self._refuse(f"mode {plan.mode!r} reads cached passages")
        if watch:
            self._refuse("attention to passages cannot be watched")
        return self.read(plan.prefill)

    def prefill_all(self, plans: Sequence[EncodingPlan]) -> list[Prefilled]:
        """Read several prompts of one answer; as `prefill`."""
        return [self.prefill(plan) for plan in plans]

    def prefill_batch(
        self, plans: Sequence[EncodingPlan], *, watch: bool = False
    ) -> list[Prefilled]:
        """Read the prompts of several requests, one after another; as `prefill`."""
        return [self.prefill(plan, watch=watch) for plan in plans]

    @torch.inference_mode()
    def read(
        self,
        token_ids: Sequence[int],
        *,
        like: PlainCache | None = None,  # noqa: ARG002 - nothing of another prompt is taken over
        shared: int = 0,  # noqa: ARG002
    ) -> Prefilled:
        """Read a raw prompt, all of it.

        Args:
            token_ids: at least one.
            like: unused: a model's own cache cannot be cut at a token.
            shared: unused.

        Raises:
            UnsupportedModelError: if the prompt does not fit into the model's window.
            ValueError: if there is no token.
        """
        if not token_ids:
            raise ValueError("token_ids must hold at least one token, got none")
        self._check_window(len(token_ids))
        logits, cache = self._run(token_ids, None)
        own: Any = cache
        return Prefilled(logits, own, len(token_ids), CacheUse(), 0.0)

    @torch.inference_mode()
    def advance(self, state: Prefilled, token: int) -> Prefilled:
        """Append one token; return the state with the logits after it. The old state is spent.

        Raises:
            UnsupportedModelError: if the token's position passes the model's window.
        """
        self._check_window(state.position + 1)
        logits, cache = self._run((token,), _own(state))
        return _with(state, cache, logits=logits, position=state.position + 1)

    def advance_batch(self, states: Sequence[Prefilled], tokens: Sequence[int]) -> list[Prefilled]:
        """Append one token to each of several requests, one after another; as `advance`."""
        return [self.advance(state, token) for state, token in zip(states, tokens, strict=True)]

    def following(self, state: Prefilled, token_ids: Sequence[int]) -> Tensor:
        """Return the logits that tokens after a prompt are chosen from: (n, vocabulary).

        The state stays as it is and can be asked again; float32, or float64 for a float64 model.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
        """
        rows = [state.logits]
        if len(token_ids) > 1:
            self._check_window(state.position + len(token_ids) - 1)
            state = self.fork(state)
        for token in token_ids[:-1]:
            state = self.advance(state, token)
            rows.append(state.logits)
        return torch.stack(rows)[: len(token_ids)]

    @torch.inference_mode()
    def fork(self, state: Prefilled) -> Prefilled:
        """Return the same state once more, cache and all: either can go on by itself."""
        return _with(state, _own(state).fork())

    def decode_batch(
        self, states: Sequence[Prefilled], samplings: Sequence[Sampling], stop: frozenset[int]
    ) -> DecodeBatch:
        """Decode several requests in turns; see `DecodeBatch`."""
        return DecodeBatch(self, states, samplings, stop)  # type: ignore[arg-type]

    def store(self, fresh: Sequence[tuple[Segment, SegmentKV]]) -> None:
        """Keep nothing."""

    def encode(self, segment: Segment) -> NoReturn:
        """Refuse: there is no KV of this model that could be stored.

        Raises:
            UnsupportedModelError: always, with the reason.
        """
        self._refuse(f"segment {segment.name!r} cannot be encoded")

    def _run(self, token_ids: Sequence[int], cache: PlainCache | None) -> tuple[Tensor, PlainCache]:
        """Run tokens: logits after the last, (vocabulary,), and the cache that comes back."""
        before = {} if cache is None else {cache.argument: cache.state}
        with self._lock, products_of(len(token_ids), self.model.device, self.model.dtype):
            out = self.model(
                torch.tensor(token_ids, device=self.model.device)[None],
                use_cache=True,
                **before,
                **self._last_only,
            )
        argument = next(
            (name for name in CACHE_ARGUMENTS if getattr(out, name, None) is not None), None
        )
        if argument is None:
            self._refuse("it returns no cache to go on from")
        logits: Tensor = out.logits[0, -1]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return wide, PlainCache(argument, getattr(out, argument))

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedModelError(
            f"{self.identity.name} runs without KV reuse, in mode 'sequential' only: {what} "
            f"({self.reason})"
        )


def _own(state: Prefilled) -> PlainCache:
    cache: Any = state.cache
    assert isinstance(cache, PlainCache)
    return cache


def _with(state: Prefilled, cache: PlainCache, **changes: Any) -> Prefilled:
    return replace(state, **changes | {"cache": cache})


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a cache, however it keeps them."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif hasattr(value, "__dict__"):
        yield from _tensors(list(vars(value).values()))
