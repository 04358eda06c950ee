"""The generator's factory: options by name become the parts that they stand for."""

import pytest

from pipelines.catalogue.generation import cached
from rag.generation.context_planner import READ_ROWS, ContextPlanner
from rag.generation.cost_model import CostModel
from rag.generation.local_model import LocalModel
from rag.records import ModelIdentity

COST = {"prefill_tokens_per_s": 100.0, "load_bytes_per_s": 1e9, "kv_bytes_per_token": 10.0}


@pytest.fixture
def lm(tiny_model, tiny_tokenizer):
    from rag.models.language_model import LoadedModel

    identity = ModelIdentity("tiny", "w", "r", "float32", "t")
    return LocalModel(LoadedModel(tiny_model(), tiny_tokenizer, identity))


def test_rows_are_read_unless_something_else_is_asked_for(lm):
    assert cached(lm).context == READ_ROWS
    assert cached(lm, context="full").context == ContextPlanner("full")


def test_context_options_reach_the_planner_in_its_units(lm):
    made = cached(
        lm,
        context="auto",
        context_slack_ms=20,
        context_blend=0.15,
        context_cost={**COST, "span_s": 0.5},
    )
    cost = CostModel(100.0, 1e9, 10.0, span_s=0.5)
    assert made.context == ContextPlanner("auto", cost, 0.02, 0.15)


@pytest.mark.parametrize("given", [{}, {"load_bytes_per_s": 1.0}, {**COST, "speed": 1.0}])
def test_constants_that_are_missing_or_unknown_are_refused(lm, given):
    message = "context_cost takes prefill_tokens_per_s, load_bytes_per_s, kv_bytes_per_token, "
    with pytest.raises(ValueError, match=message):
        cached(lm, context="auto", context_cost=given)


@pytest.mark.parametrize("mode", ["sequential", "prefix"])
def test_a_mode_without_a_choice_refuses_one(lm, mode):
    with pytest.raises(ValueError, match=f"mode '{mode}' has no use for context"):
        cached(lm, mode=mode, context="text")
