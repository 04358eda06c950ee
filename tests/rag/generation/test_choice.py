"""Label scoring against stock forward passes and `Engine.score`, and contextual calibration."""

import math

import pytest
import torch

from rag.errors import UnsupportedModelError
from rag.generation.choice import choose_label
from rag.generation.engine import Engine
from rag.generation.plan import ContextWeights, parallel_plan, sequential_plan
from rag.records import ModelIdentity, Segment

LABELS = ((11,), (12, 13), (12, 14, 15), (200, 7))


def tokens(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 300, (n,), generator=rng).tolist())


@pytest.fixture
def engine(tiny_model):
    """Return a function dtype -> engine over a tiny model."""

    def build(dtype=torch.float64, **changes):
        name = str(dtype).removeprefix("torch.")
        model = tiny_model(dtype=dtype, **changes)
        return Engine(model, ModelIdentity("tiny", "w", "r", name, "t"))

    return build


def stock_log_prob(made, prompt, label):
    """Log-probability of a label after a prompt by the model's own attention."""
    made.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        logits = made.model(torch.tensor([[*prompt, *label]]), use_cache=False).logits[0]
    made.model.set_attn_implementation("dovetail_segments")
    table = logits.log_softmax(-1).double()
    rows = range(len(prompt) - 1, len(prompt) + len(label) - 1)
    return [float(table[row, token]) for row, token in zip(rows, label, strict=True)]


def normalised(scores):
    total = math.fsum(math.exp(score) for score in scores)
    return [score - math.log(total) for score in scores]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("normalise", ["sum", "mean"])
def test_labels_have_the_probability_of_one_forward_each(engine, dtype, error, normalise):
    made, prompt = engine(dtype), tokens(12)
    state = made.prefill(sequential_plan(prompt))
    each = [stock_log_prob(made, prompt, label) for label in LABELS]
    scores = [sum(one) / (len(one) if normalise == "mean" else 1) for one in each]
    found = choose_label(made, state, LABELS, normalise=normalise)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(normalised(scores), abs=error)


def test_labels_after_cached_passages_are_those_of_scoring(engine):
    made = engine()
    prefix = Segment(made.identity, "prefix", tokens(4), name="prefix")
    passage = Segment(made.identity, "passage", tokens(9, 1), (prefix,), name="p")
    plan = parallel_plan(prefix, ((passage, None),), tokens(5, 2), ContextWeights(0.8, 1.0))
    state = made.prefill(plan)
    scores = torch.stack([made.score(state, label).sum() for label in LABELS])
    assert torch.allclose(choose_label(made, state, LABELS), scores.log_softmax(-1), atol=1e-14)
    assert torch.equal(choose_label(made, state, LABELS), choose_label(made, state, LABELS))


def test_the_mean_does_not_favour_the_shorter_label(engine):
    made = engine()
    state = made.prefill(sequential_plan(tokens(12)))
    first = int(state.logits.argmax())
    second = int(made.advance(made.fork(state), first).logits.argmax())
    labels = ((first,), (first, second))
    by_sum = choose_label(made, state, labels)
    by_mean = choose_label(made, state, labels, normalise="mean")
    assert by_sum[0] > by_sum[1]
    assert float(by_mean.diff()) > float(by_sum.diff())


def test_content_free_scores_divide_out_what_the_model_always_prefers(engine):
    made = engine()
    state, blank = (made.prefill(sequential_plan(tokens(12, seed))) for seed in (0, 1))
    prior = choose_label(made, blank, LABELS)
    ratio = choose_label(made, state, LABELS).exp() / prior.exp()
    found = choose_label(made, state, LABELS, content_free=prior)
    assert torch.allclose(found.exp(), ratio / ratio.sum())
    assert abs(float(found.exp().sum()) - 1) < 1e-12


def test_after_the_content_free_prompt_itself_all_labels_are_alike(engine):
    made = engine()
    state = made.prefill(sequential_plan(tokens(12)))
    prior = choose_label(made, state, LABELS, normalise="mean")
    found = choose_label(made, state, LABELS, normalise="mean", content_free=prior)
    assert torch.allclose(found.exp(), torch.full((4,), 0.25, dtype=torch.float64))


def test_a_uniform_prior_changes_nothing(engine):
    made = engine()
    state = made.prefill(sequential_plan(tokens(12)))
    uniform = torch.full((4,), -math.log(4))
    plain = choose_label(made, state, LABELS)
    assert torch.allclose(choose_label(made, state, LABELS, content_free=uniform), plain)


def test_a_single_label_is_certain(engine):
    made = engine()
    state = made.prefill(sequential_plan(tokens(12)))
    assert choose_label(made, state, ((11, 12),)).tolist() == [0.0]


def test_the_state_stays_as_it_is(engine):
    made = engine()
    state = made.prefill(sequential_plan(tokens(12)))
    logits, length = state.logits.clone(), state.cache.tail_tokens
    choose_label(made, state, LABELS)
    assert torch.equal(state.logits, logits)
    assert state.cache.tail_tokens == length


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ((), {}, "labels must hold at least one label, got none"),
        (((1,), ()), {}, "labels must have at least one token each, got none in row 1"),
        (((1,), (2,), (1,)), {}, "labels must differ, got rows 0 and 2 alike"),
        (((1,),), {"normalise": "max"}, "normalise must be one of sum, mean, got 'max'"),
        (
            ((1,), (2,)),
            {"content_free": torch.zeros(3)},
            r"content_free must have one score a label, shape \(2,\), got \(3,\)",
        ),
    ],
)
def test_refuses_what_makes_no_sense(labels, options, message):
    with pytest.raises(ValueError, match=message):
        choose_label(None, None, labels, **options)


def test_a_label_past_the_window_is_refused(engine):
    made = engine(max_position_embeddings=40)
    state = made.prefill(sequential_plan(tokens(39)))
    with pytest.raises(UnsupportedModelError, match="the model's window ends at 40"):
        choose_label(made, state, ((5,), (5, 6, 7)))
