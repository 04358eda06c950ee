"""Pruners as operators: one shell for all, options with bounds, tokens by the model that reads."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import flow
from pipelines.catalogue import pruning
from pipelines.catalogue.table import catalogue, load
from pipelines.flow.pipeline import Pipeline
from pruners import SentencePruner, ThresholdPruner, estimated_tokens, sentence_texts
from rag.records import Budget, Passage, Query, Span

NAMES = [name for name in catalogue().operators if name.startswith("prune.")]
SHELL = {
    "threshold", "always_select_title", "protect", "min_keep", "skip_below_chars", "timeout_s",
    "on_error", "max_tokens", "budget_scope", "per_passage_min",
}  # fmt: skip
RERANKING = {"prune.provence"}
QUERY = Query("red cats")
PASSAGE = Passage(
    "a", "d", "Red cats. Dogs bark. ", Span(0, 21), (Span(0, 10), Span(10, 21)), score=0.5
)


class Letters:
    name = fingerprint = "letters"
    dim = 4

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        vectors = np.array([[1, *(t.count(c) for c in "rca")] for t in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


INDEX = SimpleNamespace(
    encoder=Letters(), sentence_vectors=lambda p: Letters().encode(sentence_texts(p))
)


class Prompt:
    """Two tokens a word."""

    def ids(self, text):
        return (0,) * (2 * len(text.split()))


@pytest.mark.parametrize("name", NAMES)
def test_every_pruner_has_the_options_of_the_shell_with_docs(name):
    spec = catalogue().operators[name]
    options = {option.name: option for option in spec.options}
    assert options.keys() >= SHELL
    assert (options.keys() >= {"reorder", "top_k"}) == (name in RERANKING)
    assert all(options[option].about for option in SHELL)
    assert str(options["threshold"].bounds) == str(options["min_keep"].bounds) == "at least 0"
    assert str(options["timeout_s"].bounds) == "above 0"
    assert spec.batched
    assert [need.optional for need in spec.needs if need.name == "lm"] in ([True], [False])
    assert load(spec.target) is not None


def test_options_of_the_scorer_come_first():
    names = catalogue().operators["prune.sentences"].option_names
    assert names[:2] == ("similarity_weight", "threshold")


def test_each_option_reaches_the_pruner():
    found = pruning.sentences(
        index=INDEX, similarity_weight=0.25, threshold=0.1, always_select_title=True,
        protect=["x"], min_keep=0, skip_below_chars=3, timeout_s=9.0, on_error="raise",
        max_tokens=7, budget_scope="passage", per_passage_min=2,
    )  # fmt: skip
    assert found == ThresholdPruner(
        found.scorer, 0.1, always_select_title=True, protect=("x",), min_keep=0,
        skip_below_chars=3, timeout_s=9.0, on_error="raise", budget=Budget(7, 2, "passage"),
    )  # fmt: skip
    assert found.scorer.similarity_weight == 0.25


def test_the_mix_is_today_s_sentence_pruner():
    old = SentencePruner(INDEX.encoder, threshold=0.4, sentence_vectors=INDEX.sentence_vectors)
    assert pruning.sentences(index=INDEX)(QUERY, [PASSAGE]) == old(QUERY, [PASSAGE])


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (pruning.keep_all, (0, 1)),
        (lambda: pruning.lead(k=1), (0,)),
        (lambda: pruning.random(rate=1.0), (0, 1)),
        (lambda: pruning.random(rate=0.0, min_keep=0), ()),
        (pruning.bm25, (0,)),
        (lambda: pruning.cosine(index=INDEX, threshold=0.9), (0,)),
    ],
)
def test_each_scorer_is_what_its_name_says(made, kept):
    assert made()(QUERY, [PASSAGE])[0].kept_rows == kept


def test_a_scorer_that_knows_its_threshold_is_asked(monkeypatch):
    scorer = SimpleNamespace(name="tuned", threshold=0.77)
    monkeypatch.setattr(pruning, "load_provence", lambda *_, **__: scorer)
    assert pruning.provence().threshold == 0.77
    assert pruning.provence(threshold=0.0).threshold == 0.0
    scorer.threshold = None
    assert pruning.provence().threshold == 0.1


def test_provence_is_given_the_index_and_its_options(monkeypatch):
    asked = {}

    def loaded(name, **options):
        asked.update(options, name=name)
        return SimpleNamespace(name="x", threshold=None)

    monkeypatch.setattr(pruning, "load_provence", loaded)
    made = pruning.provence(index=INDEX, model="folder", batch_size=3, reorder=True, top_k=5)
    assert (made.reorder, made.top_k) == (True, 5)
    assert (asked["name"], asked["batch_size"], asked["encoder"]) == ("folder", 3, INDEX.encoder)
    assert asked["sentence_vectors"] is INDEX.sentence_vectors
    pruning.provence(model="folder")
    assert asked["encoder"] is asked["sentence_vectors"] is None


def test_tokens_are_counted_as_the_prompt_of_a_model_that_runs_here_holds_them():
    remote = SimpleNamespace(name="far away")
    assert pruning.keep_all(lm=remote).count is estimated_tokens
    here = pruning.keep_all(lm=SimpleNamespace(prompt=Prompt()), max_tokens=7)
    assert here.count("one two  three") == 6
    assert here(QUERY, [PASSAGE])[0].kept_rows == (0,)


def test_a_budget_in_a_pipeline_counts_the_tokens_of_its_model_if_there_is_one():
    def find(query: Query) -> list[Passage]:
        """Find one."""
        return [PASSAGE]

    def kept(max_tokens, **bound):
        steps = [find, flow.step("prune.all", max_tokens=max_tokens)]
        pipeline = Pipeline("one", steps, outputs=["passages"])
        with pipeline.bind(**bound) as opened:
            return opened.run("red cats").outputs["passages"][0].kept_rows

    lm = SimpleNamespace(prompt=Prompt(), fingerprint="words")
    assert kept(4, lm=lm) == (0,)
    assert kept(7, lm=lm) == (0,)
    assert kept(4) == kept(7) == (0,)
    assert kept(8, lm=lm) == kept(8) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1}, "prune.all.threshold must be at least 0"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
        ({"budget_scope": "all"}, "budget_scope"),
        ({"reorder": True}, "prune.all has no option 'reorder'"),
    ],
)
def test_a_wrong_option_is_found_before_anything_runs(options, message):
    pipeline = Pipeline("one", ["retrieve.hybrid", flow.step("prune.all", **options)])
    assert message in str(pipeline.checked.errors[0])


def test_an_invalid_pattern_is_the_option_s_error():
    with pytest.raises(ValueError, match=r"protect must hold regular expressions, got '\('"):
        pruning.keep_all(protect=["("])
