"""Pruners by words and by language models, as operators: options reach the scorer."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from pipelines import flow
from pipelines.catalogue import pruning
from pipelines.catalogue.table import catalogue
from pipelines.flow.pipeline import Pipeline
from pruners import estimated_tokens
from pruners.llm_extract import INSTRUCTIONS, LLMExtract
from pruners.provence.token_values import ProvenceTokens
from pruners.self_information import SelfInformation
from pruners.words import WordScorer
from rag.generation.local_model import LocalModel
from rag.models.language_model import LoadedModel
from rag.records import Completion, Passage, Query, Span

TEXT = ["Red cats sat. ", "Dogs bark."]
ENDS = [0, 14, 24]
PASSAGE = Passage(
    "a", "d", "".join(TEXT), Span(0, 24), tuple(Span(*ab) for ab in pairwise(ENDS)), score=0.5
)
QUERY = Query("red cats")


@pytest.fixture
def lm(tiny_model, tiny_tokenizer, identity):
    return LocalModel(LoadedModel(tiny_model(dtype=torch.float32), tiny_tokenizer, identity()))


def test_words_are_chosen_by_provence_and_all_options_reach_them(monkeypatch):
    asked = {}

    def loaded(name, **options):
        asked.update(options, name=name)
        return SimpleNamespace(name="x", threshold=0.9)

    monkeypatch.setattr(pruning, "load_provence", loaded)
    index = SimpleNamespace(encoder="encoder", sentence_vectors="vectors")
    found = pruning.words(
        index=index, rate=0.25, rate_scope="query", force=["."], force_digits=False,
        force_identifiers=False, drop_consecutive=True, word_value="first", model="folder",
        precision="bfloat16", batch_size=3, download=True, min_keep=0,
    )  # fmt: skip
    assert (found.threshold, found.min_keep) == (0.5, 0)
    assert isinstance(found.scorer.tokens, ProvenceTokens)
    assert found.scorer == WordScorer(
        found.scorer.tokens, 0.25, force=(".",), force_digits=False, force_identifiers=False,
        drop_consecutive=True, word_value="first", scope="query", count=estimated_tokens,
    )  # fmt: skip
    assert asked == {
        "name": "folder", "encoder": "encoder", "sentence_vectors": "vectors", "download": True,
        "precision": "bfloat16", "batch_size": 3,
    }  # fmt: skip
    pruning.words()
    assert (asked["name"], asked["encoder"]) == ("minilm", None)


def test_words_are_chosen_by_the_language_model_and_counted_by_it(lm):
    found = pruning.words(lm=lm, tokens="self_information", contrast=True, rate=0.5)
    assert found.scorer.tokens == SelfInformation(lm, contrast=True)
    assert found.scorer.count("cats") == len(lm.prompt.ids(" cats"))
    (kept,) = found(QUERY, [PASSAGE])
    assert kept.kept.unit == "word"
    assert 0.0 < kept.kept.keep_ratio < 1.0
    with pytest.raises(ValueError, match=r"lm must be a model that runs here.*got NoneType"):
        pruning.words(tokens="self_information")


def test_self_information_is_an_operator_in_a_pipeline(lm):
    def find(query: Query) -> list[Passage]:
        """Find one."""
        return [PASSAGE]

    step = flow.step("prune.self_information", rate=0.5, contrast=True, rate_scope="query")
    with Pipeline("one", [find, step], outputs=["passages"]).bind(lm=lm) as opened:
        (kept,) = opened.run("red cats").outputs["passages"]
    (expected,) = SelfInformation(lm, 0.5, contrast=True, scope="query")(QUERY, [PASSAGE])
    assert [s.score for s in kept.kept.sentences] == list(expected.sentences)
    assert len(kept.kept_rows) == 1
    made = pruning.self_information(lm=lm, rate=None, window=7)
    assert (made.scorer.rate, made.scorer.window, made.threshold) == (None, 7, 0.5)


def test_an_extract_is_what_the_model_cites():
    said = SimpleNamespace(
        name="says", complete=lambda prompts, **_: [Completion("So [2].") for _ in prompts]
    )
    found = pruning.llm_extract(lm=said, extract_tokens=9)
    assert found.scorer == LLMExtract(said, INSTRUCTIONS, 9)
    assert found(QUERY, [PASSAGE])[0].kept_rows == (1,)


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("prune.words", {"index": True, "lm": True}),
        ("prune.self_information", {"lm": False}),
        ("prune.llm_extract", {"lm": False}),
    ],
)
def test_what_they_need_is_in_the_catalogue(name, needs):
    spec = catalogue().operators[name]
    assert {need.name: need.optional for need in spec.needs} == needs
    assert all(need.about for need in spec.needs)
    assert {o.name: o.default for o in spec.options}["threshold"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 2}, "prune.words.rate must be in [0, 1]"),
        ({"tokens": "all"}, "tokens"),
        ({"reorder": True}, "prune.words has no option 'reorder'"),
    ],
)
def test_a_wrong_option_is_found_before_anything_runs(options, message):
    pipeline = Pipeline("one", ["retrieve.hybrid", flow.step("prune.words", **options)])
    assert message in str(pipeline.checked.errors[0])
