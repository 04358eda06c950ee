"""Routing to corpora and retrieval from them in the catalogue, and in the recipes made of them."""

import math

import pytest

from pipelines.catalogue import corpora
from pipelines.catalogue.table import catalogue, load
from pipelines.corpora.opening import open_indexes
from pipelines.flow.result import OptionsError
from pipelines.indexing import build_index
from pipelines.loading import load_pipeline
from pipelines.open_index import OpenIndex
from rag.generation.local_model import LocalModel
from rag.records import Query, Route
from rag.routing.descriptions import DescriptionRouter

QUESTION = Query("What is sentence 3 about?")
ONLY_PARAGRAPHS = "the index is a single one, so it is the corpus `paragraph`"


def ids(passages):
    return {one.id.partition("/")[0] for one in passages}


@pytest.fixture
def opened(notes, encoder, index, tmp_path):
    """Corpora `paragraph` of three notes, `table` of one with a year, and an empty `image`."""
    sheets = tmp_path / "sheets"
    sheets.mkdir()
    text = " ".join(f"Row {n} is about sums." for n in range(40))
    (sheets / "sums.md").write_text(f"---\nyear: 2021\n---\n# Sums\n\n{text}\n")
    build_index([str(sheets)], tmp_path / "sheets.idx", encoder=encoder)
    found = open_indexes({"paragraph": index, "table": tmp_path / "sheets.idx"}, encoder=encoder)
    found.empty = ("image",)
    found.modalities = {**found.modalities, "image": "image"}
    yield found
    found.close()


@pytest.fixture
def plain(index, encoder):
    found = OpenIndex(index, encoder=encoder)
    yield found
    found.close()


@pytest.fixture(scope="module")
def lm(checkpoint):
    return LocalModel.open(str(checkpoint), "float32")


@pytest.fixture
def sent(monkeypatch):
    """A function that makes the router by descriptions return a route."""

    def to(*labels, **probs):
        routes = lambda _, query: [Route(labels, probs, "descriptions")] * len(query)  # noqa: E731
        monkeypatch.setattr(DescriptionRouter, "batch", routes)

    return to


def test_both_are_listed_with_their_resource_and_ports():
    route, retrieve = (catalogue().operators[f"{name}.corpora"] for name in ("route", "retrieve"))
    assert [port.name for port in route.inputs] == ["route"]
    assert [port.name for port in retrieve.inputs] == ["query", "route"]
    assert (route.output.name, retrieve.output.name) == ("route", "passages")
    assert {need.name: need.kind for need in route.needs} == {"index": "index"}
    assert {need.name: need.optional for need in retrieve.needs} == {"index": False, "lm": True}
    assert retrieve.batched
    assert retrieve.asynchronous is False
    assert load(route.target) is corpora.route


def test_a_route_goes_to_corpora_with_passages(opened):
    router = corpora.route(opened, policy="single")
    assert (router.corpora, router.empty) == (("paragraph", "table"), ("image",))
    found = router(Route(("image",), {"image": 0.9, "table": 0.06, "paragraph": 0.04}))
    assert found.labels == ("table",)
    assert found.reason == "image has no passages: table instead"


def test_options_reach_the_router(opened):
    router = corpora.route(opened, policy="top_p", threshold=0.3, most=4)
    assert (router.policy, router.threshold, router.most) == ("top_p", 0.3, 4)
    assert (corpora.route(opened).policy, corpora.route(opened).threshold) == ("top_p", 0.9)


def test_evidence_comes_from_every_corpus(opened):
    router = corpora.evidence(opened, cosine_weight=2, term_weight=0.5, prior_weight=1)
    assert list(router.corpora) == ["paragraph", "table"]
    assert (router.cosine_weight, router.term_weight, router.prior_weight) == (2, 0.5, 1)
    found = router(QUESTION, Route(("table",), {"table": 0.5, "paragraph": 0.4, "none": 0.1}))
    best = {}
    vectors = opened.encoder.encode_queries([QUESTION.text])
    for label, index in opened.corpora.items():
        (cosine,) = (hits[0].score for hits in index.dense.search_vectors(vectors, 1))
        hits = index.sparse.search(QUESTION, 1)
        terms = len(index.term_index.analyser.query_terms(QUESTION.text))
        best[label] = 2 * cosine + 0.5 * (hits[0].score if hits else 0.0) / terms
    odds = 0.5 / 0.4 * math.exp(best["table"] - best["paragraph"])
    assert found.probs["table"] / found.probs["paragraph"] == pytest.approx(odds)
    assert found.probs["none"] == 0.1


def test_passages_come_from_the_routes_corpora(opened):
    search = corpora.retrieve(opened, top_k=2, tokens=None)
    assert ids(search(QUESTION, Route(("paragraph",)))) == {"notes"}
    assert ids(search(QUESTION, Route(("table",)))) == {"sheets"}
    both = search(QUESTION, Route(("table", "paragraph"), {"paragraph": 0.6, "table": 0.4}))
    assert [one.id.partition("/")[0] for one in both] == ["notes", "sheets"]
    both = corpora.retrieve(opened, top_k=4, tokens=None)(
        QUESTION, Route(("table", "paragraph"), {"paragraph": 0.51, "table": 0.49})
    )
    assert [one.id.partition("/")[0] for one in both] == ["notes"] * 2 + ["sheets"] * 2
    assert search(QUESTION, Route(("none",))) == []


def test_one_corpus_without_a_budget_is_its_hybrid_ranking(opened):
    from pipelines.catalogue.retrieval import hybrid

    options = {"top_k": 3, "interpolation": "both", "sparse_weight": 0.3, "k": 2, "k1": 1.5, "b": 0}
    found = corpora.retrieve(opened, tokens=None, **options)(QUESTION, Route(("paragraph",)))
    expected = hybrid(opened.corpora["paragraph"], **options)(QUESTION)
    assert found == expected
    assert found.tail == expected.tail


def test_tokens_are_estimated_unless_the_model_counts_them(opened, lm):
    route = Route(("paragraph", "table"), {"paragraph": 0.51, "table": 0.49})
    whole = corpora.retrieve(opened, tokens=None)(QUESTION, route)
    assert len(whole) > 2
    cut = corpora.retrieve(opened, tokens=1)(QUESTION, route)
    assert len(cut) == 1
    assert cut[0].id == whole[0].id
    count = corpora.retrieve(opened, lm).count
    text = whole[0].searchable
    assert count(text) != corpora.retrieve(opened).count(text)
    assert corpora.retrieve(opened).count("six bytes") == 3


def test_a_filter_holds_in_every_corpus(opened):
    route = Route(("paragraph", "table"))
    found = corpora.retrieve(opened, filter={"source": "notes/apples.md"})(QUESTION, route)
    assert {one.document for one in found} == {"notes/apples.md"}
    found = corpora.retrieve(opened, filter={"year": "2021"})(QUESTION, route)
    assert ids(found) == {"sheets"}
    with pytest.raises(ValueError, match="colour"):
        corpora.retrieve(opened, filter={"colour": "red"})


def test_a_plain_index_is_the_corpus_paragraph_and_says_so_once(plain):
    route, search = corpora.route(plain), corpora.retrieve(plain, top_k=2)
    found = route(Route(("table",), {"table": 0.9, "paragraph": 0.1}))
    assert found.labels == ("paragraph",)
    assert found.reason == "table has no passages: paragraph instead"
    assert ids(search(QUESTION, found)) == {"notes"}
    assert [note for note in plain.notes if ONLY_PARAGRAPHS in note] == plain.notes
    assert len(plain.notes) == 1


def universal(*sets, name="universal"):
    sets = ["generate.max_tokens=6", "recall.max_tokens=6", "route.temperature=0.05", *sets]
    sets += ["evidence.cosine_weight=0", "evidence.term_weight=0", "evidence.prior_weight=1"]
    return load_pipeline(name, sets=sets if name == "universal" else sets[:2])


@pytest.mark.usefixtures("length_scorers")
class TestRecipes:
    def test_the_route_decides_what_is_read_and_the_trace_says_why(self, opened, lm, sent):
        sent("image", image=0.9, table=0.06, paragraph=0.04)
        with universal().bind(index=opened, lm=lm) as pipeline:
            result = pipeline.run(QUESTION.text)
        assert ids(result.answer.passages) == {"sheets"}
        routes = [
            (one["step"], one.get("reason"))
            for one in result.trace.records
            if one["kind"] == "event" and one["name"] == "route"
        ]
        changed = "image has no passages: table instead"
        assert routes == [("route", None), ("evidence", None), ("corpora", changed)]

    def test_a_question_for_no_corpus_is_answered_without(self, opened, lm, sent):
        sent("none", none=0.97, table=0.03)
        with universal().bind(index=opened, lm=lm) as pipeline:
            result = pipeline.run(QUESTION.text)
        assert result.answer.passages == ()
        assert result.ranking is None

    def test_it_runs_on_a_plain_index_with_a_note(self, plain, lm, sent):
        sent("clip", clip=0.6, paragraph=0.4)
        with universal().bind(index=plain, lm=lm) as pipeline:
            result = pipeline.run(QUESTION.text)
            assert any(ONLY_PARAGRAPHS in note for note in pipeline.notes)
        assert ids(result.answer.passages) == {"notes"}

    def test_a_batch_equals_single_runs(self, opened, lm):
        questions = [QUESTION.text, "Which row is about sums?", "2 + 2?"]
        with universal().bind(index=opened, lm=lm) as pipeline:
            alone = [pipeline.run(question) for question in questions]
            together = pipeline.batch([{"query": question} for question in questions])
        for one, other in zip(alone, together, strict=True):
            assert one.answer.text == other.answer.text
            assert [p.id for p in one.answer.passages] == [p.id for p in other.answer.passages]

    def test_a_router_for_other_labels_is_named(self, opened, lm, sent):
        sent("math", math=0.9, law=0.1)
        with (
            universal().bind(index=opened, lm=lm) as pipeline,
            pytest.raises(Exception, match="got a router of math, law"),
        ):
            pipeline.run(QUESTION.text)

    def test_the_ensemble_needs_the_encoder_of_its_router(self, opened, lm):
        with (
            universal(name="universal-ensemble").bind(index=opened, lm=lm) as pipeline,
            pytest.raises(Exception, match="model: auto has a router for encoder minilm"),
        ):
            pipeline.run(QUESTION.text)

    def test_options_that_do_not_go_together_name_the_step(self, opened, lm):
        with (
            universal("retrieve.depth=2").bind(index=opened, lm=lm) as pipeline,
            pytest.raises(OptionsError, match="depth must be at least top_k = 5, got 2"),
        ):
            pipeline.run(QUESTION.text)

    def test_ask_says_where_a_question_was_sent(self, index, checkpoint, sent, capsys):
        from pipelines.cli.main import main

        sent("table", table=0.9, paragraph=0.1)
        arguments = ["ask", QUESTION.text, "-i", str(index), "-p", "universal"]
        arguments += ["--model", str(checkpoint), "--dtype", "float32", "--max-tokens", "4"]
        assert main(arguments) == 0
        err = capsys.readouterr().err
        assert "routed to paragraph (0.10); table has no passages: paragraph instead" in err
        assert main([*arguments, "--quiet"]) == 0
        assert "routed to" not in capsys.readouterr().err
