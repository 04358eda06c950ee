"""Answers to many questions at once: one model pass a token for all of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rag.generation.finish import abstention

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from rag.generation.attention_citations import AnswerAttention
    from rag.generation.cached import GenerateCached
    from rag.generation.finish import Telling
    from rag.generation.plan import EncodingPlan
    from rag.generation.prefilled import Prefilled
    from rag.records import Answer, Passage, Query

BATCH_ROWS: Final = 32
BATCH_BYTES: Final = 1 << 30
"""Most requests, and most bytes of their KV, that are in memory together."""


def answer_batch(
    generate: GenerateCached, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
) -> list[Answer]:
    """Return the answers that the generator gives to each question alone, to rounding.

    Passages that several questions share are read and placed once. Requests are taken in order, as
    many together as `BATCH_ROWS` and `BATCH_BYTES` allow, at least one. All times of an answer run
    from the call, since that is when its passages came: `ttft` includes what is read for the others
    of its group, and waiting for the groups before.

    Args:
        generate: the generator.
        queries: the questions.
        passages: for each question its passages, best first.

    Raises:
        ValueError: if there is not one list of passages a question.
        UnsupportedModelError: if a prompt does not fit into the model's window.
    """
    if len(queries) != len(passages):
        raise ValueError(
            f"passages must be one list a query, {len(queries)}, got {len(passages)} lists"
        )
    answers: dict[int, Answer] = {}
    waiting: list[_Request] = []
    for row, (query, found) in enumerate(zip(queries, passages, strict=True)):
        telling = generate.telling()
        read = [passage for passage in found if passage.kept_rows]
        if read:
            plan = generate.plan(query, read)
            waiting.append(_Request(row, query, tuple(found), plan, telling))
        else:
            name = generate.engine.identity.name
            answers[row] = abstention(found, mode=generate.mode, model=name)
    for group in _groups(generate, waiting):
        answers |= _answered(generate, group)
    return [answers[row] for row in range(len(queries))]


@dataclass
class _Request:
    """A question on its way.

    Attributes:
        row: its place in the batch.
        query: the question.
        passages: all that came, read or not.
        plan: what to read.
        telling: the text so far; pieces of it nobody sees here.
        tokens: decoded and not yet told.
        looked: takes down the attention of its tokens, if it is watched.
    """

    row: int
    query: Query
    passages: tuple[Passage, ...]
    plan: EncodingPlan
    telling: Telling
    tokens: deque[int] = field(default_factory=deque)
    looked: AnswerAttention | None = None

    def __post_init__(self) -> None:
        self._pieces = self.telling.pieces(
            iter(lambda: self.tokens.popleft() if self.tokens else None, None)
        )

    def tell(self, token: int, mass: Tensor | None) -> bool:
        """Take a token and the mass of the query that chose it; return whether the text stopped."""
        self.tokens.append(token)
        next(self._pieces)
        shown = self.telling.shown
        if self.looked is not None and mass is not None and not shown.stopped:
            self.looked.add(mass, len(shown.whole.rstrip()))
        return shown.stopped

    def end(self) -> None:
        """Show what was held back: nothing more comes."""
        for _ in self._pieces:
            pass


def _groups(generate: GenerateCached, requests: Sequence[_Request]) -> Iterator[list[_Request]]:
    """Share requests out, in order, to groups that fit into memory."""
    group: list[_Request] = []
    tokens, most = 0, BATCH_BYTES // generate.engine.kv_bytes_per_token
    for request in requests:
        plan = request.plan
        needed = plan.cached_tokens + plan.computed_tokens + generate.sampling.max_tokens
        if group and (len(group) == BATCH_ROWS or tokens + needed > most):
            yield group
            group, tokens = [], 0
        group.append(request)
        tokens += needed
    if group:
        yield group


def _answered(generate: GenerateCached, group: Sequence[_Request]) -> dict[int, Answer]:
    """Return the answers of one group by place in the batch; what was encoded is stored last."""
    engine = generate.engine
    states: list[Prefilled] = engine.prefill_batch(
        [request.plan for request in group], watch=generate.watches
    )
    states = [generate.refusing(state) for state in states]
    for request, state in zip(group, states, strict=True):
        request.looked = generate.looking(state)
    decoding = engine.decode_batch(
        states, [generate.sampling] * len(group), generate.prompt.stop_ids
    )
    told = set(range(len(group)))
    for step in decoding:
        ended = told - step.keys()
        masses = (
            {place: decoding.state(place).cache.mass for place in step} if generate.watches else {}
        )
        stopped = {
            place for place, token in step.items() if group[place].tell(token, masses.get(place))
        }
        decoding.leave(stopped)
        for place in ended | stopped:
            group[place].end()
        told -= ended | stopped
    for place in told:
        group[place].end()
    for state in states:
        engine.store(state.fresh)
    return {
        request.row: generate.finished(
            request.query, request.passages, request.plan, state, request.telling, request.looked
        )
        for request, state in zip(group, states, strict=True)
    }
