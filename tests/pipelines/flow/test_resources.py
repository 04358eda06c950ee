"""Resources: opened once and only when needed, shared, closed in reverse order."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pipelines.catalogue.describe import describe
from pipelines.catalogue.spec import Catalogue
from pipelines.flow.blocks import Definition, ResourceUse, nested, route, step
from pipelines.flow.result import StepFailedError, UnboundResourceError
from rag.errors import ModelNotFoundError
from rag.protocols import Encoder
from rag.records import Answer, Query

LM = {"lm": ResourceUse(use="lm.tiny")}
TWO = {name: ResourceUse(use="lm.tiny", options={"name": name}) for name in ("lm", "big")}


def write(name, **more):
    return step("generate.write", id=name, **more)


def test_a_resource_is_opened_once_shared_and_closed_with_the_pipeline(pipeline, model):
    made = pipeline(write("a"), write("b"), resources=LM)
    assert model.opened == []
    with made:
        made.run("q")
        made.batch(["q", "r"])
        assert len(model.opened) == 1
        assert made.notes == ["tiny is open"]
    made.close()
    assert model.closed == ["tiny"]


def test_a_closed_pipeline_opens_its_resources_again(pipeline, model):
    made = pipeline(write("a"), resources=LM)
    made.run("q")
    made.close()
    assert made.run("q").answer.text == "tiny q"
    assert len(model.opened) == 2


def test_resources_are_closed_in_reverse_order_also_if_one_fails(pipeline, model, monkeypatch):
    made = pipeline(write("a", lm="lm"), write("b", lm="big"), resources=TWO)
    made.run("q")
    made.close()
    assert model.closed == ["big", "lm"]
    made.run("q")
    model.closed = []

    def close(self):
        model.closed.append(self.name)
        if self.name == "big":
            raise RuntimeError("stuck")

    monkeypatch.setattr(model, "close", close)
    made = pipeline(write("a", lm="lm"), write("b", lm="big"), resources=TWO)
    made.run("q")
    with pytest.raises(RuntimeError, match="stuck"):
        made.close()
    assert model.closed == ["big", "lm"]


def test_an_arm_or_a_step_that_never_runs_opens_nothing(pipeline, ops, model):
    arms = {"short": [step(lambda query: Answer("no model"), out="answer")], "long": [write("w")]}
    never = write("skipped", when={"var": "query.text", "equals": "never"})
    given = {"query": "Query", "answer": "Answer"}
    made = pipeline(never, resources=LM, inputs=given)
    assert made.run("q", answer="old").answer.text == "old"
    lambda_arm = pipeline(route(ops.by_length, arms), resources=LM, outputs=())
    lambda_arm.run("q")
    assert model.opened == []
    lambda_arm.run("long")
    assert len(model.opened) == 1


def test_what_is_bound_goes_before_what_is_declared_and_stays_open(pipeline, model):
    mine = model(name="mine")
    made = pipeline(write("a"), resources=LM).bind(lm=mine)
    with made:
        assert made.run("q").answer.text == "mine q"
    assert model.closed == []
    assert len(model.opened) == 1


def test_a_live_object_is_a_resource_that_stays_open(pipeline, model):
    with pipeline(write("a"), resources={"lm": model(name="live")}) as made:
        assert made.run("q").answer.text == "live q"
    assert model.closed == []


def test_a_resource_use_that_is_bound_is_opened_late_and_closed(pipeline, model):
    with pipeline(write("a")).bind(lm=ResourceUse(use="lm.tiny")) as made:
        assert model.opened == []
        assert made.run("q").answer.text == "tiny q"
    assert model.closed == ["tiny"]


def test_an_open_resource_is_said_before_anything_runs(pipeline, model):
    ran = []
    made = pipeline(step(lambda query: ran.append(query) or query, out="query"), write("w"))
    assert made.checked.errors == []
    with pytest.raises(UnboundResourceError) as unbound:
        made.run("q")
    assert str(unbound.value) == (
        "pipeline 'p' cannot run: the resource 'lm' is not bound, and w cannot do without; give "
        "--model NAME on the command line, Pipeline.bind(lm=...) in Python"
    )
    assert unbound.value.exit_status == 2
    assert ran == []


@dataclass(frozen=True)
class Embed:
    encoder: Encoder
    optional: Encoder | None = None

    def __call__(self, query: Query) -> Answer:
        return Answer(f"{self.encoder} {self.optional} {query.text}")


@pytest.fixture
def embedding(pipeline):
    embed = describe(Embed, "generate.embed", target=f"{__name__}:Embed")
    return pipeline("generate.embed", catalogue=Catalogue({"generate.embed": embed}, {}, {"generate.embed": Embed}))  # fmt: skip


def test_an_encoder_that_is_not_declared_is_that_of_the_index(embedding):
    assert embedding.checked.needed == {"index": ["generate"]}
    index = SimpleNamespace(encoder="of the index")
    bound = embedding.bind(index=index)
    assert bound.run("q").answer.text == "of the index None q"
    assert embedding.bind(index=index, encoder="mine").run("q").answer.text == "mine None q"
    assert embedding.bind(encoder="alone").run("q").answer.text == "alone None q"
    with pytest.raises(UnboundResourceError, match="the resource 'index' is not bound, and"):
        embedding.run("q")


def test_a_nested_pipeline_shares_the_outer_resources_and_closes_its_own(pipeline, model):
    own = Definition(name="inner", steps=(write("w", lm="big"),), resources={"big": TWO["big"]})
    shares = Definition(name="inner", steps=(write("w"),))
    with pipeline(nested(own), nested(shares), write("x"), resources=LM) as made:
        assert made.run("q").answer.text == "tiny q"
        assert made.run("q") is not None
        assert [one.name for one in model.opened] == ["big", "tiny"]
    assert sorted(model.closed) == ["big", "tiny"]


def test_threads_open_a_resource_once(pipeline, model, monkeypatch):
    began = model.__init__

    def slowly(self, *, name="tiny"):
        threading.Event().wait(0.02)
        began(self, name=name)

    monkeypatch.setattr(model, "__init__", slowly)
    made = pipeline(write("a"), nested(Definition(name="i", steps=(write("b"),))), resources=LM)
    threads = [threading.Thread(target=made.run, args=("q",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(model.opened) == 1


def test_a_resource_that_cannot_be_opened_keeps_its_own_words(pipeline, model, monkeypatch):
    def missing(self, *, name="tiny"):
        raise ModelNotFoundError("no model 'tiny'; install it")

    monkeypatch.setattr(model, "__init__", missing)
    with pytest.raises(ModelNotFoundError, match=r"^no model 'tiny'; install it$"):
        pipeline(write("a"), resources=LM).run("q")


def test_another_error_while_opening_names_the_step(pipeline, model, monkeypatch):
    def broken(self, *, name="tiny"):
        raise OSError("disk on fire")

    monkeypatch.setattr(model, "__init__", broken)
    with pytest.raises(StepFailedError, match="step 'a' failed: OSError: disk on fire"):
        pipeline(write("a"), resources=LM).run("q")
