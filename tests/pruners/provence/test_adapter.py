"""Adapters: saved and loaded to the last bit, and refused where they do not belong."""

import json
from dataclasses import replace

import pytest
import torch

from pruners.provence import (
    AdapterConfig,
    LoRA,
    ProvenceScorer,
    TopLayers,
    load_adapter,
    load_trunk,
    merge_lora,
    new_model,
    save_adapter,
)
from pruners.provence.adapter import is_adapter, read_config
from rag.errors import ModelNotFoundError
from rag.records import Query
from rag.training.lora import ALL_LINEARS

TUNINGS = [LoRA(rank=2, alpha=4.0), LoRA(rank=3, pattern=ALL_LINEARS), TopLayers(2), TopLayers(0)]
CAPS = {"window": 64, "query_tokens": 24, "title_tokens": 8}


@pytest.fixture
def trained(saved_trunk):
    """Return a function (tuning, residual) -> model with random values, its config and trunk."""

    def build(tuning, residual=False, family="bert"):
        trunk = load_trunk(str(saved_trunk(family)))
        model = new_model(trunk.model, tuning, residual=residual)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.3 * noise)
        config = AdapterConfig(
            trunk.name,
            trunk.fingerprint,
            tuning,
            **({"prior": "fixed", "prior_fingerprint": "a" * 64} if residual else {}),
            **CAPS,
            recipe={"seed": 3, "steps": 20},
        )
        return model.eval(), config, trunk

    return build


def scores(model, trunk, passage, prior=None):
    made = ProvenceScorer(model, trunk.tokenizer, prior=prior, **CAPS)
    read = passage("yield returns values. ", "the program. ", "a " * 90, title="a")
    return made(Query("what does yield return?"), [read, passage("a")])


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("residual", [False, True])
def test_loaded_scores_are_bit_equal(trained, passage, fixed_prior, tmp_path, tuning, residual):
    model, config, trunk = trained(tuning, residual)
    prior = fixed_prior(0.2, 0.7) if residual else None
    save_adapter(tmp_path / "adapter", model, config)
    prints = {
        "base_fingerprint": trunk.fingerprint,
        "prior_fingerprint": prior.fingerprint if prior else "",
    }
    loaded = load_adapter(tmp_path / "adapter", load_trunk(trunk.name).model, **prints, merge=False)
    assert not loaded.training
    assert scores(loaded, trunk, passage, prior) == scores(model, trunk, passage, prior)
    merged = load_adapter(tmp_path / "adapter", load_trunk(trunk.name).model, **prints)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert scores(merged, trunk, passage, prior) == scores(merge_lora(model), trunk, passage, prior)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
def test_every_family_is_saved_and_loaded(trained, passage, tmp_path, family):
    model, config, trunk = trained(LoRA(rank=2), family=family)
    save_adapter(tmp_path, model, config)
    loaded = load_adapter(
        tmp_path,
        load_trunk(trunk.name).model,
        base_fingerprint=trunk.fingerprint,
        merge=False,
    )
    assert scores(loaded, trunk, passage) == scores(model, trunk, passage)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_configuration_comes_back(trained, tmp_path, tuning):
    model, config, _ = trained(tuning, residual=True)
    config = replace(config, rounding="majority", threshold=0.3)
    save_adapter(tmp_path, model, config)
    assert read_config(tmp_path) == config
    assert is_adapter(tmp_path)


def test_saving_twice_writes_the_same_bytes(trained, tmp_path):
    model, config, _ = trained(LoRA(rank=2))
    for name in ("a", "b"):
        save_adapter(tmp_path / name, model, config)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_only_what_was_trained_is_stored_and_half_precision_halves_it(trained, tmp_path):
    model, config, _ = trained(LoRA(rank=2))
    save_adapter(tmp_path / "full", model, config)
    save_adapter(tmp_path / "half", model, config, dtype=torch.float16)
    count = sum(parameter.numel() for parameter in model.trainable_parameters())
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[0] - sizes[1] == pytest.approx(2 * count, abs=64)  # headers differ a little
    assert count < 0.2 * sum(p.numel() for p in model.parameters())


def test_half_precision_loads_as_float32_and_saves_as_itself(trained, passage, tmp_path):
    model, config, trunk = trained(LoRA(rank=2))
    save_adapter(tmp_path / "half", model, config, dtype=torch.float16)
    loaded = load_adapter(
        tmp_path / "half",
        load_trunk(trunk.name).model,
        base_fingerprint=trunk.fingerprint,
        merge=False,
    )
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    save_adapter(tmp_path / "again", loaded, config, dtype=torch.float16)
    content = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("half", "again")]
    assert content[0] == content[1]


def test_another_base_is_refused(trained, saved_trunk, tmp_path):
    model, config, _ = trained(TopLayers(1))
    save_adapter(tmp_path, model, config)
    other = load_trunk(str(saved_trunk("bert", seed=9)))
    message = (
        rf"was trained on base '{config.base}' \({config.base_fingerprint[:12]}\), got one with "
        rf"fingerprint {other.fingerprint[:12]}"
    )
    with pytest.raises(ValueError, match=message):
        load_adapter(tmp_path, other.model, base_fingerprint=other.fingerprint)


@pytest.mark.parametrize("given", ["b" * 64, ""])
def test_another_prior_is_refused(trained, tmp_path, given):
    model, config, trunk = trained(TopLayers(1), residual=True)
    save_adapter(tmp_path, model, config)
    message = rf"on prior 'fixed' \(a{{12}}\), got one with fingerprint {given[:12] or 'none'}"
    with pytest.raises(ValueError, match=message):
        load_adapter(
            tmp_path,
            load_trunk(trunk.name).model,
            base_fingerprint=trunk.fingerprint,
            prior_fingerprint=given,
        )


def test_a_prior_where_none_was_trained_is_refused(trained, tmp_path):
    model, config, trunk = trained(TopLayers(1))
    save_adapter(tmp_path, model, config)
    with pytest.raises(ValueError, match=r"on prior 'none' \(none\), got one with fingerprint c"):
        load_adapter(
            tmp_path,
            load_trunk(trunk.name).model,
            base_fingerprint=trunk.fingerprint,
            prior_fingerprint="c" * 64,
        )


def test_the_fingerprint_is_of_the_weights_wherever_they_lie(saved_trunk, tmp_path):
    folder = saved_trunk("bert")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    from pruners.provence.trunk import trunk_fingerprint

    assert trunk_fingerprint(tmp_path) == trunk_fingerprint(folder)
    assert trunk_fingerprint(saved_trunk("bert", seed=9)) != trunk_fingerprint(folder)


def test_tensors_that_do_not_fit_are_named(trained, tmp_path):
    model, config, trunk = trained(LoRA(rank=2))
    trunk = load_trunk(trunk.name)
    save_adapter(tmp_path, model, replace(config, tuning=LoRA(rank=5)))
    with pytest.raises(
        ValueError, match=r"24 tensors do not, first .*lora_a: must be \(5, 16\), got \(2, 16\)"
    ):
        load_adapter(tmp_path, trunk.model, base_fingerprint=trunk.fingerprint)


def test_models_that_do_not_fit_their_configuration_are_not_saved(trained, tmp_path):
    model, config, _ = trained(LoRA(rank=2))
    with pytest.raises(ValueError, match=r"config.prior must fit the model, which adds no prior"):
        save_adapter(tmp_path, model, replace(config, prior="x", prior_fingerprint="y"))
    with pytest.raises(ValueError, match=r"config.tuning must fit the model, which has no LoRA"):
        save_adapter(tmp_path, merge_lora(model), config)
    with pytest.raises(ValueError, match=r"config.tuning must fit the model, which has LoRA"):
        save_adapter(tmp_path, trained(LoRA(rank=2))[0], replace(config, tuning=TopLayers(1)))
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_no_adapter_are_refused(trained, saved_trunk, tmp_path):
    for folder in (tmp_path, saved_trunk("bert")):
        assert not is_adapter(folder)
        with pytest.raises(ModelNotFoundError, match="is no adapter"):
            read_config(folder)
    model, config, _ = trained(TopLayers(1))
    save_adapter(tmp_path, model, config)
    stated = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stated | {"extra": 1}))
    with pytest.raises(ValueError, match=r"has a field that does not belong: .*extra"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(stated | {"tuning": {"kind": "prompt"}}))
    with pytest.raises(ValueError, match=r"tuning.kind must be one of .*, got 'prompt'"):
        read_config(tmp_path)


def test_configurations_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="prior and prior_fingerprint go together, got 'x' and ''"):
        AdapterConfig("b", "f", TopLayers(), prior="x")
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1.5"):
        AdapterConfig("b", "f", TopLayers(), threshold=1.5)
