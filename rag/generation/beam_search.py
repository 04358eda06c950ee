"""Beam search: the most probable continuations of a prompt, found by keeping several open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.generation.sampling import largest, require_distribution

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rag.generation.engines import AnyEngine
    from rag.generation.prefilled import Prefilled


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A continuation that beam search found.

    Attributes:
        token_ids: the continuation, without the stop token.
        log_prob: natural log-probability of the tokens, the stop token included.
        score: `log_prob` / tokens ** length_penalty, the stop token counted.
        finished: whether it came to an end; otherwise there was no room for more.
        stop: the stop token that ended it, if one did.
    """

    token_ids: tuple[int, ...]
    log_prob: float
    score: float
    finished: bool
    stop: int | None = None


def beam_search(
    engine: AnyEngine,
    state: Prefilled,
    beams: int,
    max_tokens: int,
    stop_ids: frozenset[int],
    *,
    length_penalty: float = 1.0,
    num_return_sequences: int = 1,
    early_stopping: bool = False,
    ends: Callable[[tuple[int, ...]], bool] | None = None,
) -> list[Hypothesis]:
    """Return the best continuations found, by falling score; see `beam_steps`."""
    steps = beam_steps(
        engine,
        state,
        beams,
        max_tokens,
        stop_ids,
        length_penalty=length_penalty,
        num_return_sequences=num_return_sequences,
        early_stopping=early_stopping,
        ends=ends,
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: list[Hypothesis] = end.value
            return found


def beam_steps(
    engine: AnyEngine,
    state: Prefilled,
    beams: int,
    max_tokens: int,
    stop_ids: frozenset[int],
    *,
    length_penalty: float = 1.0,
    num_return_sequences: int = 1,
    early_stopping: bool = False,
    ends: Callable[[tuple[int, ...]], bool] | None = None,
) -> Generator[int, None, list[Hypothesis]]:
    """Search step by step: yield the length so far after each, return the best continuations.

    A step extends every open beam by every token. Of the best `beams` extensions those that end are
    finished; the best `beams` of those that do not stay open. Closing the generator ends the
    search and frees its states. Results, order of steps and scores are those of transformers
    (`do_sample=False`); ties go to the better beam, then to the lower id. One beam is greedy
    decoding.

    A step costs one forward pass a beam. Forks share all stored keys; a beam that is dropped is
    freed before the next token is read.

    Args:
        engine: read the prompt.
        state: of the prompt; it stays as it is.
        beams: how many continuations stay open, at least 1.
        max_tokens: the most to generate, at least 1; the window's end counts too.
        stop_ids: tokens that finish a continuation.
        length_penalty: power of the length by which a log-probability is divided: 0 compares
            sums, 1 means, more favours longer ones.
        num_return_sequences: how many to return, at most `beams`.
        early_stopping: end as soon as `beams` continuations are finished. Otherwise the search
            goes on while the best open one, at its present length, scores above the worst finished
            one.
        ends: whether a continuation is complete though no stop token came, as when its text holds
            a stop text; asked of the best few extensions of each step.

    Returns:
        By falling score; fewer than asked for only if there are no more sequences.

    Raises:
        ValueError: if a number is out of range, or the model's logits overflow.
    """
    if beams < 1:
        raise ValueError(f"beams must be at least 1, got {beams}")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty must be finite, got {length_penalty}")
    if not 1 <= num_return_sequences <= beams:
        raise ValueError(
            f"num_return_sequences must be in [1, beams], got {num_return_sequences} with "
            f"{beams} beams"
        )
    # So many that at least `beams` stay open if every stop token is among them.
    width = max(2, 1 + len(stop_ids)) * beams
    room = engine.room(state.position, max_tokens)
    live = [_Beam((), 0.0, state)]
    done: list[Hypothesis] = []
    for length in range(1, room + 1):
        found = _extensions(live, width)
        scale = length**length_penalty
        ended = [_ends(one, live, stop_ids, ends) for one in found]
        for one, finished in zip(found[:beams], ended, strict=False):
            if finished or length == room:
                stop = one.token if one.token in stop_ids else None
                ids = live[one.row].token_ids
                said = (*ids, one.token) if stop is None else ids
                score = one.log_prob / scale
                done.append(Hypothesis(said, one.log_prob, score, finished, stop))
        done = sorted(done, key=lambda made: -made.score)[:beams]
        still = [one for one, over in zip(found, ended, strict=True) if not over][:beams]
        if length == room or not still:
            break
        if len(done) == beams and (early_stopping or still[0].log_prob / scale <= done[-1].score):
            break
        live = _advanced(engine, live, still, state)
        yield length
    return done[:num_return_sequences]


@dataclass(frozen=True, slots=True)
class _Beam:
    """An open continuation and the state after it."""

    token_ids: tuple[int, ...]
    log_prob: float
    state: Prefilled


@dataclass(frozen=True, slots=True)
class _Extension:
    """The row of an open beam, one more token, and the log-probability of both."""

    row: int
    token: int
    log_prob: float


def _extensions(live: Sequence[_Beam], width: int) -> list[_Extension]:
    """Return the best extensions of all beams by one token, best first; none is impossible."""
    found = []
    for row, beam in enumerate(live):
        require_distribution(beam.state.logits)
        log_probs = beam.state.logits.log_softmax(-1).double() + beam.log_prob  # (vocabulary,)
        tokens = largest(log_probs, width)
        pairs = zip(tokens.tolist(), log_probs[tokens].tolist(), strict=True)
        found += [_Extension(row, token, value) for token, value in pairs if value > -math.inf]
    return sorted(found, key=lambda one: -one.log_prob)[:width]


def _ends(
    one: _Extension,
    live: Sequence[_Beam],
    stop_ids: frozenset[int],
    ends: Callable[[tuple[int, ...]], bool] | None,
) -> bool:
    if one.token in stop_ids:
        return True
    return ends is not None and ends((*live[one.row].token_ids, one.token))


def _advanced(
    engine: AnyEngine, live: list[_Beam], chosen: Sequence[_Extension], root: Prefilled
) -> list[_Beam]:
    """Read the tokens of the chosen extensions; `live` is emptied, and what it held is spent.

    The last extension of a beam takes over its state, the others fork it; `root` is always forked.
    """
    last = {one.row: at for at, one in enumerate(chosen)}
    open_beams = {row: live[row] for row in last}
    live.clear()
    grown = []
    for at, one in enumerate(chosen):
        beam = open_beams.pop(one.row) if last[one.row] == at else open_beams[one.row]
        keeps = one.row in open_beams or beam.state is root
        state = engine.advance(engine.fork(beam.state) if keeps else beam.state, one.token)
        grown.append(_Beam((*beam.token_ids, one.token), one.log_prob, state))
    return grown
