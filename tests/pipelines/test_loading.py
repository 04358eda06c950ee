"""Pipelines that are to answer: one that ends with passages goes on as `ask` does."""

import pytest

from pipelines.flow.diagnostics import InvalidPipelineError
from pipelines.loading import load_answering, load_pipeline


def steps(pipeline):
    return list(pipeline.checked.steps)


def test_a_retrieval_recipe_goes_on_to_an_answer():
    pipeline = load_answering("bm25")
    assert steps(pipeline) == ["retrieve", "prune", "generate"]
    assert pipeline.definition.outputs == ("answer",)
    assert pipeline.name == "bm25"
    assert pipeline.check() == []


def test_overrides_reach_the_steps_that_were_added():
    pipeline = load_answering("prf-both", sets=["generate.mode=sequential", "retrieve.k=5"])
    assert pipeline.checked.steps["generate"].options == {"mode": "sequential"}
    assert pipeline.checked.steps["retrieve"].options["k"] == 5


def test_a_file_that_prunes_is_not_pruned_again(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: 1\nextends: dense\nsteps:\n  - use: prune.sentences\n    with: {threshold: 0.1}\n"
    )
    pipeline = load_answering(file)
    assert steps(pipeline) == ["retrieve", "prune", "generate"]
    assert pipeline.checked.steps["prune"].options == {"threshold": 0.1}


def test_what_answers_already_is_loaded_as_it_is():
    assert load_answering("ask").definition == load_pipeline("ask").definition


def test_mistakes_are_still_found(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nextends: dense\nsteps: [{id: retrieve, with: {topk: 3}}]\n")
    with pytest.raises(InvalidPipelineError, match="topk"):
        load_answering(file)
    with pytest.raises(InvalidPipelineError, match="no recipe 'nonesuch'"):
        load_answering("nonesuch")
