"""Names of language models, and recipes that run unchanged on a model that runs elsewhere."""

import pytest

from pipelines.catalogue.table import catalogue, load
from pipelines.definition.compose import recipes
from pipelines.definition.load import load_text
from pipelines.flow.check import check
from pipelines.flow.result import StepFailedError
from pipelines.language_model import is_remote, language_model
from pipelines.loading import load_pipeline
from pipelines.open_index import OpenIndex
from rag.errors import ModelNotFoundError, RouterError, UnsupportedModelError
from rag.interop.langchain import from_chat_model
from rag.models.openai_compatible import OpenAICompatibleModel
from rag.records import Answer, TokenUse

QUESTION = "What is sentence 3 about?"
SAID = "Answer: Sentence 3 is about apples."
QUOTE = "Sentence 3 is about apples."


@pytest.fixture
def opened(index, encoder):
    found = OpenIndex(index, encoder=encoder)
    yield found
    found.close()


@pytest.fixture
def lm(service):
    service.says(SAID, usage=(120, 9), pieces=5)
    made = OpenAICompatibleModel("tiny", service.url)
    yield made
    made.close()


def test_a_url_names_a_service_and_its_model():
    use = language_model("http://127.0.0.1:8000/v1#org/tiny:4b", dtype="float32")
    assert use.use == "lm.openai_compatible"
    assert use.options == {"base_url": "http://127.0.0.1:8000/v1", "model": "org/tiny:4b"}


@pytest.mark.parametrize("name", ["smollm2-135m", "owner/name", "./folder", "C:\\x", "httpx"])
def test_anything_else_is_a_model_that_runs_here(name):
    assert not is_remote(name)
    use = language_model(name, dtype="float32")
    assert (use.use, use.options) == ("lm.transformers", {"model": name, "dtype": "float32"})


def test_a_url_without_a_model_says_how_and_shows_no_password():
    with pytest.raises(ModelNotFoundError, match="must end with #MODEL") as wrong:
        language_model("https://me:hunter2@a.org/v1")
    assert "'https://a.org/v1'" in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_the_recipe_ask_runs_unchanged(opened, lm, service):
    with load_pipeline("ask").bind(index=opened, lm=lm) as pipeline:
        result = pipeline.run(QUESTION)
        assert any("tiny is remote" in note for note in pipeline.notes)
    answer = result.answer
    assert (answer.text, answer.mode, answer.model) == (QUOTE, "sequential", "tiny")
    assert [citation.quote for citation in answer.citations] == [QUOTE]
    assert answer.tokens == TokenUse(120, 0, 120, 9)
    (kv,) = [r for r in result.trace.records if r["name"] == "kv"]
    assert kv["segments"]
    assert set(kv["segments"].values()) == {"not cached: tiny is remote"}
    (prompt,) = [r for r in result.trace.records if r["name"] == "prompt"]
    assert service.bodies[0]["messages"][0]["content"] == prompt["text"] == answer.prompt


def test_a_name_is_enough_and_events_tell_of_the_answer(opened, lm, service):
    with load_pipeline("ask").bind(index=opened, lm=f"{service.url}#tiny") as pipeline:
        *events, last = pipeline.stream(QUESTION)
    shown = "".join(e.text for e in events if type(e).__name__ == "Token")
    assert shown == last.result.answer.text == QUOTE


def test_options_of_the_generator_reach_the_service(opened, lm, service):
    sets = ["generate.max_tokens=9", "generate.temperature=0.5", "generate.seed=3"]
    with load_pipeline("ask", sets=sets).bind(index=opened, lm=lm) as pipeline:
        pipeline.run(QUESTION)
    (body,) = service.bodies
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (9, 0.5, 3)


@pytest.mark.parametrize(("threshold", "abstains"), [(1.0, True), (0.1, False)])
def test_support_is_asked_for_as_ever(opened, lm, service, threshold, abstains):
    service.says("Sentence 3 is about apples and zebras.")
    sets = [f"generate.threshold={threshold}"]
    with load_pipeline("ask", sets=sets).bind(index=opened, lm=lm) as pipeline:
        assert pipeline.run(QUESTION).answer.abstained is abstains


@pytest.mark.parametrize("name", [name for name in recipes() if name != "splade"])
def test_every_recipe_runs_or_says_why_not(name, opened, lm, length_scorers):
    pipeline = load_pipeline(name).bind(index=opened, lm=lm)
    history = {"history": []} if "history" in pipeline.definition.inputs else {}
    with pipeline:
        if name == "replug":
            with pytest.raises(UnsupportedModelError, match="must be a model that runs here"):
                pipeline.run(QUESTION)
        elif name == "universal-ensemble":
            with pytest.raises(RouterError, match="auto has a router for encoder minilm"):
                pipeline.run(QUESTION)
        else:
            result = pipeline.run(query=QUESTION, **history)
            if "answer" in result.outputs:
                assert isinstance(result.answer, Answer)
                assert result.answer.text


@pytest.mark.parametrize("name", ["flare", "self-rag"])
def test_recipes_that_weigh_tokens_say_so_where_a_service_does_not_tell(name, opened, service):
    service.says(SAID)
    lm = OpenAICompatibleModel("tiny", service.url, token_logprobs=False)
    failing = pytest.raises(StepFailedError, match="its model does not tell them")
    with load_pipeline(name).bind(index=opened, lm=lm) as pipeline, failing:
        pipeline.run(QUESTION)
    lm.close()


def test_a_chat_model_of_langchain_answers_the_same_recipe(opened):
    fake = pytest.importorskip("langchain_core.language_models").FakeListChatModel
    lm = from_chat_model(fake(responses=[SAID]), options={})
    with load_pipeline("ask").bind(index=opened, lm=lm) as pipeline:
        result = pipeline.run(QUESTION)
    assert result.answer.text == QUOTE
    assert [citation.quote for citation in result.answer.citations] == [QUOTE]
    assert result.answer.model == "FakeListChatModel"
    assert "not cached: FakeListChatModel is remote" in result.answer.cache.reasons.values()
    bare = load_pipeline("ask").bind(index=opened, lm=fake(responses=[SAID]))
    with bare, pytest.raises(Exception, match="lm must be a text model, as from_chat_model makes"):
        bare.run(QUESTION)


def test_a_pipeline_file_declares_a_service(opened, lm, service):
    text = f"""\
version: 1
extends: ask
resources:
  lm:
    use: lm.openai_compatible
    with: {{base_url: "{service.url}", model: tiny, api: completions, retries: 0}}
"""
    definition, mistakes = load_text(text)
    assert mistakes == []
    found = check(definition, catalogue())
    assert found.errors == []
    spec, options, _ = found.resources["lm"]
    made = load(spec.target)(**options)
    made.complete(["p"])
    made.close()
    ((path, _, _),) = service.requests
    assert path == "/v1/completions"


def test_wrong_options_of_a_service_are_mistakes_in_the_file():
    text = """\
version: 1
extends: ask
resources:
  lm: {use: lm.openai_compatible, with: {model: tiny, concurrency: 0, api: wire}}
"""
    definition, _ = load_text(text)
    said = " ".join(mistake.message for mistake in check(definition, catalogue()).errors)
    assert "needs the option 'base_url'" in said
    assert "concurrency must be at least 1" in said
    assert "'wire'" in said
