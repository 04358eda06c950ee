"""Every recipe on a tiny random model: one run, a batch that equals it, and a round trip."""

import pytest

from pipelines.definition.compose import recipes
from pipelines.definition.load import load_definition, load_text
from pipelines.loading import load_pipeline
from pipelines.open_index import OpenIndex
from rag.generation.local_model import LocalModel
from rag.records import Answer

QUESTIONS = ("What is sentence 3 about?", "Is it about apples or clouds?", "2 + 2?")
SHORT = {"max_tokens": 6}


@pytest.fixture(scope="module")
def lm(checkpoint):
    return LocalModel.open(str(checkpoint), "float32")


@pytest.fixture
def opened(index, encoder):
    found = OpenIndex(index, encoder=encoder)
    yield found
    found.close()


def shortened(name, **resources):
    """The recipe with few tokens a call: a random model never stops by itself."""
    pipeline = load_pipeline(name)
    for id_, bound in pipeline.checked.steps.items():
        if "max_tokens" in bound.spec.option_names:
            pipeline = pipeline.with_options(id_, **SHORT)
    return pipeline.bind(**resources)


def given(pipeline, question):
    history = [{"role": "user", "text": "Hello?"}, {"role": "assistant", "text": "Hello."}]
    extra = {"history": history} if "history" in pipeline.definition.inputs else {}
    return {"query": question, **extra}


@pytest.mark.parametrize("name", recipes())
def test_runs_and_a_batch_equals_single_runs(name, opened, lm):
    with shortened(name, index=opened, lm=lm) as pipeline:
        alone = [pipeline.run(**given(pipeline, question)) for question in QUESTIONS]
        together = pipeline.batch([given(pipeline, question) for question in QUESTIONS])
    for one, other in zip(alone, together, strict=True):
        assert isinstance(one.answer, Answer)
        assert one.answer.text == other.answer.text
        assert [p.id for p in one.answer.passages] == [p.id for p in other.answer.passages]
        spans = [
            [(r["name"], r["path"]) for r in result.trace.records if r["kind"] == "span"]
            for result in (one, other)
        ]
        assert spans[0] == spans[1]
        assert one.answer.timings_ms["total"] > 0


@pytest.mark.parametrize("name", recipes())
def test_python_and_yaml_are_the_same_pipeline(name):
    definition, mistakes = load_definition(name)
    assert mistakes == []
    again, mistakes = load_text(load_pipeline(name).to_yaml())
    assert mistakes == []
    assert again == definition


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_says_what_it_is(name):
    definition, _ = load_definition(name)
    assert definition.name == name
    assert len(definition.description) > 20
