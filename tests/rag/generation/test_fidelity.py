"""Fidelity of a mode: divergence and likelihood, read literally from dense forwards."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.generation.decoding import Sampling
from rag.generation.fidelity import answer_nll, divergence, divergence_of, reference_of
from rag.generation.plan import (
    ContextWeights,
    Recompute,
    block_plan,
    parallel_plan,
    sequential_plan,
)

NEVER = frozenset()


@pytest.fixture(scope="module")
def engine(families):
    return families.engine("llama", torch.float64)


@pytest.fixture
def states(families, engine):
    """The same passages and question, read exactly, with weights, and in one row of tokens."""
    prefix, passages = families.segments(engine)
    question = families.tokens(7, seed=9)
    ids = tuple(token for part in (prefix, *passages) for token in part.token_ids)
    pairs = tuple((passage, None) for passage in passages)
    plan = parallel_plan(prefix, pairs, question, ContextWeights())
    exact = engine.prefill(sequential_plan((*ids, *question)))
    return exact, engine.prefill(plan), (*ids, *question), plan


def dense(families, engine, ids):
    """Log-probabilities after every token of a sequential prompt."""
    causal = torch.ones(len(ids), len(ids)).tril().bool()
    return families.stock_forward(engine, ids, range(len(ids)), causal).log_softmax(-1)


def test_a_reference_is_the_greedy_answer_with_its_distributions(families, engine, states):
    exact, _, ids, _ = states
    reference = reference_of(engine, exact, NEVER, 5)
    greedy = list(engine.decode(engine.fork(exact), Sampling(5), NEVER))
    assert list(reference.token_ids) == greedy
    want = dense(families, engine, (*ids, *greedy[:-1]))[-5:]
    assert (reference.log_probs - want).abs().max() < 1e-9
    assert reference.log_probs.argmax(-1).tolist() == greedy


@pytest.mark.parametrize("at", [0, 2])
def test_the_token_that_ends_an_answer_counts_and_nothing_after_it(engine, states, at):
    exact = states[0]
    whole = reference_of(engine, exact, NEVER, 5)
    stop = whole.token_ids[at]
    first = whole.token_ids.index(stop)
    ended = reference_of(engine, exact, frozenset({stop}), 5)
    assert ended.token_ids == whole.token_ids[: first + 1]
    assert torch.allclose(ended.log_probs, whole.log_probs[: first + 1], atol=1e-9, rtol=0)


def test_a_mode_does_not_diverge_from_itself(engine, states):
    exact, parallel, _, _ = states
    for state in (exact, parallel):
        assert divergence(engine, state, reference_of(engine, state, NEVER)) == 0


def test_divergence_is_the_sum_over_words_literally(families, engine, states):
    exact, parallel, _, plan = states
    reference = reference_of(engine, exact, NEVER, 3)
    table = families.dense_oracle(engine, plan, reference.token_ids[:-1])[-3:].log_softmax(-1)
    total = 0.0
    for theirs, ours in zip(reference.log_probs.tolist(), table.tolist(), strict=True):
        total += sum(math.exp(p) * (p - q) for p, q in zip(theirs, ours, strict=True))
    assert abs(divergence(engine, parallel, reference) - total / 3) < 1e-9
    assert total > 1e-3


def test_divergence_is_not_symmetric(engine, states):
    exact, parallel, _, _ = states
    there = divergence(engine, parallel, reference_of(engine, exact, NEVER))
    back = divergence(engine, exact, reference_of(engine, parallel, NEVER))
    assert abs(there - back) > 1e-4


@settings(max_examples=10)
@given(st.integers(0, 99), st.sampled_from([(1.0, 1.0, 0.0), (0.5, 0.9, 0.4)]))
def test_divergence_is_never_negative(families, engine, seed, weights):
    prefix, passages = families.segments(engine)
    question = families.tokens(3, seed=seed)
    pairs = tuple((passage, None) for passage in passages)
    exact = engine.prefill(block_plan(prefix, pairs, question))
    state = engine.prefill(parallel_plan(prefix, pairs, question, ContextWeights(*weights)))
    assert divergence(engine, state, reference_of(engine, exact, NEVER, 4)) > 0


def test_all_rows_computed_anew_do_not_diverge_from_the_exact_mode(families, engine, states):
    exact, _, _, _ = states
    prefix, passages = families.segments(engine)
    pairs = tuple((passage, None) for passage in passages)
    plan = block_plan(prefix, pairs, families.tokens(7, seed=9))
    reference = reference_of(engine, exact, NEVER)
    apart = divergence(engine, engine.prefill(plan), reference)
    repaired = replace(plan, recompute=Recompute(share=1.0))
    assert divergence(engine, engine.prefill(repaired), reference) < 1e-12 < apart


def test_likelihood_is_the_mean_over_tokens_literally(families, engine, states):
    exact, parallel, ids, plan = states
    answer = families.tokens(4, seed=3)
    for state, table in [
        (exact, dense(families, engine, (*ids, *answer[:-1]))),
        (parallel, families.dense_oracle(engine, plan, answer[:-1]).log_softmax(-1)),
    ]:
        rows = table[-4:].tolist()
        want = -sum(row[token] for row, token in zip(rows, answer, strict=True)) / 4
        assert abs(answer_nll(engine, state, answer) - want) < 1e-9
    one = answer_nll(engine, exact, answer[:1])
    assert abs(one + float(exact.logits.log_softmax(-1)[answer[0]])) < 1e-12


def test_states_stay_as_they_are(engine, states):
    exact, parallel, _, _ = states
    before = [(s.logits.clone(), s.cache.tail_tokens, s.position) for s in (exact, parallel)]
    reference = reference_of(engine, exact, NEVER)
    once = divergence(engine, parallel, reference), answer_nll(engine, parallel, (5, 6, 7))
    assert (
        divergence(engine, parallel, reference),
        answer_nll(engine, parallel, (5, 6, 7)),
    ) == once
    for state, (logits, tokens, position) in zip((exact, parallel), before, strict=True):
        assert torch.equal(state.logits, logits)
        assert (state.cache.tail_tokens, state.position) == (tokens, position)


def test_an_answer_without_a_token_is_refused(engine, states):
    with pytest.raises(ValueError, match="answer must hold at least one token, got none"):
        answer_nll(engine, states[0], ())


def test_distributions_of_another_shape_are_refused(engine, states):
    reference = reference_of(engine, states[0], NEVER, 3)
    assert divergence_of(reference.log_probs, reference) == 0
    with pytest.raises(ValueError, match=r"reference's, \(3, 300\), got \(2, 300\)"):
        divergence_of(reference.log_probs[:2], reference)
