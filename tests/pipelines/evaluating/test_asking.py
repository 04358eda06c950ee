"""Asking: what of a pipeline's results becomes an outcome, and what of it a configuration is."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipelines.catalogue.spec import Catalogue, Need, OperatorSpec, Option, Port, ResourceSpec
from pipelines.evaluating.asking import ModelChoice, PipelineAsker, UnaskableError, asker_of
from pipelines.flow.blocks import Definition, step
from pipelines.flow.pipeline import Pipeline
from pipelines.flow.result import Result, StepFailedError
from rag.evaluation import Question, read_questions
from rag.ranking import Ranking
from rag.records import (
    Answer,
    CacheUse,
    Hit,
    Passage,
    Query,
    Selection,
    Span,
    TokenUse,
    text_sha,
)
from rag.tracing import Trace

COLD, WARM = CacheUse(0, 2), CacheUse(2, 0)


def passage(id_, kept=None, score=None):
    return Passage(id_, id_, "x", Span(0, 1), (Span(0, 1),), kept=kept, score=score)


def answer(cache=WARM, ttft=5.0, prompt=10, **more):
    tokens = TokenUse(prompt, 0, prompt, 1)
    return Answer("She", cache=cache, timings_ms={"ttft": ttft}, tokens=tokens, **more)


def result(found=None, ranking=None, **variables):
    outputs = {} if found is None else {"answer": found}
    return Result(outputs, {**variables, **outputs}, Trace(), ranking)


class Scripted:
    """A pipeline without steps that gives results from a list of lists, one a batch."""

    name = "scripted"
    checked = SimpleNamespace(steps={})

    def __init__(self, *batches, inputs=("query",)):
        self.definition = Definition(
            name="scripted", steps=(), inputs=dict.fromkeys(inputs, "Query")
        )
        self.batches = list(batches)
        self.asked = []
        self.closed = False

    def batch(self, inputs, *, on_error):
        assert on_error == "return"
        self.asked.append(inputs)
        return self.batches.pop(0)

    def close(self):
        self.closed = True


QUESTIONS = [Question("q", "Who?"), Question("r", "Why?")]


def generating(*answers, times=None):
    """A pipeline of one generator that gives these answers in turn, and what it was asked.

    With `times` the generator measures the time to the first token itself: it gives these in turn.
    """
    left, asked = list(answers), []

    class Generate:
        def __call__(self, query: Query, passages: list[Passage]) -> Answer:
            asked.append((query, list(passages)))
            return left.pop(0)

        def stream(self, query, passages):
            yield self(query, passages)

    class Measure(Generate):
        def __init__(self):
            self.timed = []

        def first_token_ms(self, query, passages):
            self.timed.append((query, list(passages)))
            return times.pop(0)

    def find(query: Query) -> list[Passage]:
        return [passage(query.text)]

    generate = Generate() if times is None else Measure()
    pipeline = Pipeline("generating", [find, generate])
    return pipeline, asked if times is None else (asked, generate.timed)


def test_a_cold_answer_is_generated_again_from_its_passages_for_its_time():
    read = (passage("a"),)
    pipeline, asked = generating(
        answer(COLD, 90.0, passages=read), answer(WARM, 7.0), answer(WARM, 5.0)
    )
    first, second = PipelineAsker(pipeline)(QUESTIONS)
    assert asked[2] == (Query("Who?"), list(read))
    assert (first.ttft_ms, second.ttft_ms) == (5.0, 7.0)
    assert first.answer.cache == COLD
    assert first.prompt_tokens == 10


def test_a_generator_that_measures_is_asked_once_an_answer_and_answers_nothing_again():
    read = (passage("a"), passage("b"))
    answers = [answer(COLD, 90.0, passages=read), answer(WARM, 70.0, passages=read[:1])]
    pipeline, (asked, timed) = generating(*answers, times=[4.0, 6.0])
    first, second = PipelineAsker(pipeline)(QUESTIONS)
    assert len(asked) == 2
    assert timed == [(Query("Who?"), list(read)), (Query("Why?"), list(read[:1]))]
    assert (first.ttft_ms, second.ttft_ms) == (4.0, 6.0)
    assert (first.answer.cache, second.answer.cache) == (COLD, WARM)


def test_a_generator_that_measures_nothing_gives_no_time():
    pipeline, (asked, timed) = generating(answer(WARM, 70.0), times=[None])
    (outcome,) = PipelineAsker(pipeline)(QUESTIONS[:1])
    assert (len(asked), len(timed)) == (1, 1)
    assert outcome.ttft_ms is None
    assert outcome.prompt_tokens == 10


def test_without_a_measurement_a_warm_answer_keeps_its_own_time():
    pipeline, asked = generating(answer(WARM, 7.0))
    (outcome,) = PipelineAsker(pipeline)(QUESTIONS[:1])
    assert len(asked) == 1
    assert outcome.ttft_ms == 7.0


def test_caches_that_cannot_be_filled_give_no_time():
    pipeline, asked = generating(answer(COLD), answer(COLD))
    (outcome,) = PipelineAsker(pipeline)(QUESTIONS[:1])
    assert len(asked) == 2
    assert outcome.ttft_ms is None
    assert outcome.prompt_tokens == 10


def test_an_answer_that_read_nothing_has_neither_time_nor_tokens():
    pipeline = Scripted([result(answer(ttft=0.0, prompt=0, abstained=True))])
    (outcome,) = PipelineAsker(pipeline)(QUESTIONS[:1])
    assert outcome.ttft_ms is outcome.prompt_tokens is None


def test_a_failed_step_is_an_outcome_with_its_error():
    failed = StepFailedError("retrieve", "retrieve", "Who?", OSError("gone"), Trace())
    first, second = PipelineAsker(Scripted([failed, result(answer())]))(QUESTIONS)
    assert "step 'retrieve' failed: OSError: gone" in first.error
    assert second.error is None


def test_the_ranking_goes_on_below_what_was_read():
    ranking = Ranking([passage("a", score=2.0)], [Hit("b", 1.0)])
    kept = Selection("a", text_sha("x"), (), "test")
    pruned = [passage("a", kept), passage("b", kept)]
    given = result(answer(passages=(passage("a", kept),)), ranking, passages=pruned)
    (outcome,) = PipelineAsker(Scripted([given]))(QUESTIONS[:1])
    assert outcome.documents == ["a", "b"]
    assert outcome.passages == pruned


def test_a_pruned_variable_goes_before_one_that_is_not():
    kept = Selection("a", text_sha("x"), (), "test")
    given = result(passages=[passage("a")], shorter=[passage("a", kept)])
    (outcome,) = PipelineAsker(Scripted([given]))(QUESTIONS[:1])
    assert outcome.passages[0].kept is kept
    assert outcome.answer is None


def test_history_is_empty_and_the_pipeline_is_closed():
    pipeline = Scripted([result()], inputs=("query", "history"))
    with PipelineAsker(pipeline) as asker:
        asker(QUESTIONS[:1])
    assert pipeline.asked == [[{"query": Query("Who?"), "history": []}]]
    assert pipeline.closed


def test_a_pipeline_with_other_inputs_is_refused(data, encoder):
    with pytest.raises(UnaskableError, match="takes query, draft"):
        asker_of(Scripted(inputs=("query", "draft")), data, encoder=encoder)


@dataclass(frozen=True)
class Search:
    """The first passages of the index by id, whatever is asked."""

    index: Any
    top_k: int = 2

    def __call__(self, query):
        return list(self.index.passages.values())[: self.top_k]


CATALOGUE = Catalogue(
    {
        "retrieve.first": OperatorSpec(
            name="retrieve.first",
            target="scripted_search:Search",
            submodule="",
            summary="",
            about="",
            options=(Option("top_k", int, 2),),
            needs=(Need("index", "index"),),
            inputs=(Port("query", Query),),
            output=Port("passages", list[Passage]),
        )
    },
    {
        "index.folder": ResourceSpec(
            "index.folder",
            "index",
            "pipelines.open_index:OpenIndex",
            "",
            "",
            (
                Option("path", Path),
                Option("download", bool, default=False),
                Option("kv_ram", int, 0),
                Option("kv_disk", int, 0),
            ),
        )
    },
)


@pytest.fixture
def searching(monkeypatch):
    module = ModuleType("scripted_search")
    module.Search = Search
    monkeypatch.setitem(sys.modules, "scripted_search", module)

    def build(**options):
        steps = [step("retrieve.first", **options)]
        return Pipeline("searching", steps, outputs=("passages",), catalogue=CATALOGUE)

    return build


def test_a_pipeline_is_asked_over_the_index_of_the_data(data, encoder, searching):
    with asker_of(searching(), data, encoder=encoder) as asker:
        outcomes = asker(read_questions(data)[:2])
    for outcome in outcomes:
        assert outcome.error is None
        assert outcome.documents == ["a", "b"]
        assert [p.id for p in outcome.passages] == ["a", "b"]
        assert outcome.answer is None


def test_the_configuration_knows_options_and_data(data, encoder, searching):
    def config(pipeline, **choice):
        return asker_of(pipeline, data, encoder=encoder, choice=ModelChoice(**choice)).config

    first = config(searching())
    assert config(searching(), model="other") == first, "this pipeline asks no model"
    assert config(searching(top_k=3)) != first
    (data / "qrels.tsv").write_text("")
    assert config(searching()) != first
