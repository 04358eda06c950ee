"""The part of a pipeline before its generator: what is left out, and what stays."""

import pytest

from pipelines.evaluating.retrieval_part import without_generation
from pipelines.flow.blocks import loop
from pipelines.flow.pipeline import Pipeline
from pipelines.loading import load_pipeline


@pytest.mark.parametrize(
    ("recipe", "left_out", "steps"),
    [
        ("ask", ("generate",), ["retrieve", "prune"]),
        ("naive", ("generate",), ["retrieve"]),
        ("bm25", (), ["retrieve"]),
        ("multi-query", ("generate",), ["query", "retrieve", "fuse", "prune"]),
    ],
)
def test_ends_where_the_passages_are_ready(recipe, left_out, steps):
    cut, found = without_generation(load_pipeline(recipe))
    assert found == left_out
    assert list(cut.checked.steps) == steps
    assert cut.definition.outputs == ("passages",)
    assert cut.check() == []
    assert "lm" not in cut.checked.needed or recipe == "multi-query"


def test_a_generator_that_later_steps_search_with_stays():
    pipeline = load_pipeline("iter-retgen")
    cut, left_out = without_generation(pipeline)
    assert left_out == ()
    assert cut is pipeline


def test_bound_objects_and_options_stay():
    pipeline = Pipeline(
        "p", [loop(1, ["retrieve.dense"]), "generate.cached"], resources={"index": object()}
    )
    cut, left_out = without_generation(pipeline)
    assert left_out == ("generate",)
    assert "index" not in [name for name in cut.checked.needed if name == "lm"]
