"""Adapter files: saved and merged to the last bit, and refused where they do not belong."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from kvstore.keys import segment_key
from rag.adaptation.adapter import (
    AdapterConfig,
    adapted,
    is_adapter,
    load_adapter_config,
    put_updates,
    read_updates,
    save_adapter,
)
from rag.errors import AdapterError
from rag.models.language_model import LoadedModel, load_language_model
from rag.records import ModelIdentity, Segment
from rag.training.lora import DECODER_LINEARS, LoRA, lora_layers, merge_lora

IDS = torch.tensor([[5, 9, 31, 7, 200, 8]])
LORA = LoRA(3, 6.0, DECODER_LINEARS)
STORED = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def base(tiny_model, dtype=torch.float64, weights="a" * 64, **changes):
    model = tiny_model(dtype=dtype, **changes)
    settings = {"hidden_size": 48, "rope_parameters": {"rope_theta": 1e4}, "use_cache": True}
    identity = ModelIdentity("tiny", weights, json.dumps(settings), "float64/cpu", "t")
    return LoadedModel(model, None, identity)


def train(loaded, size=0.3, lora=LORA, seed=1):
    """Put updates with random values of bfloat16 into a model; return their configuration."""
    generator = torch.Generator().manual_seed(seed)
    layers = lora.apply(loaded.model, generator)
    with torch.no_grad():
        for layer in lora_layers(loaded.model).values():
            layer.lora_b.copy_(size * torch.randn(layer.lora_b.shape, generator=generator))
            for part in (layer.lora_a, layer.lora_b):
                part.copy_(part.bfloat16())
    return AdapterConfig.of(loaded.identity, lora, layers, {"seed": seed, "steps": 20})


@pytest.fixture
def trained(tiny_model, tmp_path):
    """A saved adapter: its folder, the model with the updates, and the configuration."""
    loaded = base(tiny_model)
    config = train(loaded)
    save_adapter(tmp_path / "made", loaded.model, config)
    return tmp_path / "made", loaded.model, config


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits[0]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_merged_from_its_file_a_model_computes_what_the_trained_one_did(trained, tiny_model):
    folder, model, _ = trained
    loaded = base(tiny_model)
    before = logits(loaded.model)
    found = adapted(loaded, folder)
    assert found.model is loaded.model
    assert not lora_layers(found.model)
    assert (logits(found.model) - logits(model)).abs().max() < 1e-10
    assert (logits(found.model) - before).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_file_merges_to_the_bit_as_the_updates_do(tiny_model, tmp_path, dtype):
    loaded = base(tiny_model, dtype)
    save_adapter(tmp_path, loaded.model, train(loaded))
    found = adapted(base(tiny_model, dtype), tmp_path)
    want = merge_lora(loaded.model).state_dict()
    got = found.model.state_dict()
    assert got.keys() == want.keys()
    assert all(torch.equal(tensor, want[name]) for name, tensor in got.items())
    assert all(tensor.dtype == dtype for tensor in got.values())


def test_updates_are_put_into_a_model_as_they_were(trained, tiny_model):
    folder, model, config = trained
    fresh = base(tiny_model)
    found, updates = read_updates(fresh, folder)
    assert (found.lora, found.layers) == (config.lora, config.layers)
    LORA.apply(fresh.model)
    put_updates(fresh.model, updates)
    assert torch.equal(logits(fresh.model), logits(model))


def test_updates_of_other_layers_are_not_put_in(trained, tiny_model):
    fresh = base(tiny_model)
    _, updates = read_updates(fresh, trained[0])
    LoRA(3, 6.0, r"q_proj$").apply(fresh.model)
    before = weights(fresh.model)
    with pytest.raises(ValueError, match=r"updates must be of the 3 layers .*, got 21; first"):
        put_updates(fresh.model, updates)
    assert all(torch.equal(one, before[name]) for name, one in weights(fresh.model).items())


def test_layers_are_changed_where_they_lie(trained, tiny_model):
    loaded = base(tiny_model)
    at = {name: p.data_ptr() for name, p in loaded.model.named_parameters()}
    adapted(loaded, trained[0])
    assert {name: p.data_ptr() for name, p in loaded.model.named_parameters()} == at


@pytest.mark.parametrize("stored", STORED)
def test_a_file_holds_the_updates_and_nothing_else(tiny_model, tmp_path, stored):
    loaded = base(tiny_model)
    config = train(loaded)
    save_adapter(tmp_path / "new" / "er", loaded.model, config, stored=stored)
    tensors = load_file(tmp_path / "new" / "er" / "adapter.safetensors")
    layers = lora_layers(loaded.model)
    assert tensors.keys() == {f"{n}.{part}" for n in layers for part in ("lora_a", "lora_b")}
    for name, layer in layers.items():
        for part in ("lora_a", "lora_b"):
            kept = tensors[f"{name}.{part}"]
            assert kept.dtype == STORED[stored]
            assert torch.equal(kept, getattr(layer, part).to(STORED[stored]))


def test_the_configuration_comes_back_as_it_was(trained):
    folder, _, config = trained
    found = load_adapter_config(folder)
    assert replace(found, adapter="") == config
    assert is_adapter(folder)
    assert (found.base, found.base_weights, found.lora) == ("tiny", "a" * 64, LORA)
    assert len(found.layers) == 3 * 7
    told = json.loads((folder / "config.json").read_text())
    assert told["format"] == "dovetail-reading-adapter-1"
    assert len(told["adapter"]) == 64


def test_saving_twice_gives_the_same_bytes(trained, tmp_path):
    folder, model, config = trained
    save_adapter(tmp_path / "again", model, config)
    for name in ("adapter.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_an_adapter_of_zeros_changes_no_weight_and_still_the_identity(tiny_model, tmp_path):
    loaded = base(tiny_model)
    save_adapter(tmp_path, loaded.model, train(loaded, size=0.0))
    fresh = base(tiny_model)
    before = weights(fresh.model)
    found = adapted(fresh, tmp_path)
    assert all(torch.equal(t, before[n]) for n, t in found.model.state_dict().items())
    assert found.identity == replace(fresh.identity, adapter=load_adapter_config(tmp_path).adapter)
    assert len(found.identity.adapter) == 64


def adapter_of(tiny_model, folder, **options):
    loaded = base(tiny_model)
    save_adapter(folder, loaded.model, train(loaded, **options))
    return load_adapter_config(folder).adapter


def test_kv_of_one_adapter_is_not_that_of_another(tiny_model, tmp_path):
    options = [
        {},
        {"seed": 2},
        {"size": 0.0},
        {"lora": replace(LORA, alpha=7.0)},
        {"lora": LoRA(3, 6.0, "q_proj$")},
    ]
    shas = [adapter_of(tiny_model, tmp_path / str(row), **one) for row, one in enumerate(options)]
    assert adapter_of(tiny_model, tmp_path / "again") == shas[0]
    identity = base(tiny_model).identity
    models = [replace(identity, adapter=sha) for sha in ("", *shas)]
    keys = [segment_key(Segment(model, "passage", (5, 6)), "plain") for model in models]
    assert len(set(keys)) == 1 + len(options)


# --- refusals: each leaves the model as it was --------------------------------------------


def refused(loaded, folder, message):
    before = weights(loaded.model)
    with pytest.raises(AdapterError, match=message):
        adapted(loaded, folder)
    assert all(torch.equal(t, before[n]) for n, t in loaded.model.state_dict().items())
    assert loaded.identity.adapter == ""


def test_another_base_or_revision_is_refused(trained, tiny_model):
    refused(
        base(tiny_model, weights="b" * 64),
        trained[0],
        f"was trained on tiny with weights {'a' * 12}, but tiny has weights {'b' * 12}: another "
        "model, or another revision of it; use --adapter none",
    )


def test_another_configuration_of_the_same_weights_is_refused(trained, tiny_model):
    loaded = base(tiny_model)
    changed = json.loads(loaded.identity.config)
    changed["rope_parameters"]["rope_theta"] = 5e5
    other = replace(loaded, identity=replace(loaded.identity, config=json.dumps(changed)))
    message = r"with rope_parameters.rope_theta = 10000\.0, but tiny has 500000\.0"
    refused(other, trained[0], message)


def test_settings_that_only_one_version_of_a_library_knows_do_not_count(trained, tiny_model):
    loaded = base(tiny_model)
    newer = json.loads(loaded.identity.config) | {"brand_new": 3}
    del newer["use_cache"]
    other = replace(loaded, identity=replace(loaded.identity, config=json.dumps(newer)))
    assert adapted(other, trained[0]).identity.adapter


def test_a_second_adapter_is_refused(trained, tiny_model):
    once = adapted(base(tiny_model), trained[0])
    before = weights(once.model)
    with pytest.raises(AdapterError, match=f"tiny has the adapter {once.identity.adapter[:12]} al"):
        adapted(once, trained[0])
    assert all(torch.equal(t, before[n]) for n, t in once.model.state_dict().items())


def edit(folder, **changes):
    told = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in told.items() if v != "-"}))


def rewrite(folder, change):
    tensors = load_file(folder / "adapter.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter.safetensors")


FIRST = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda tensors: tensors.pop(f"{FIRST}.lora_a"),
            rf"1 tensors do not, first {FIRST}\.lora_a: must be \(3, 64\), got absent",
        ),
        (
            lambda tensors: tensors.update(x=torch.zeros(2)),
            r"1 tensors do not, first x: must be absent, got \(2,\)",
        ),
        (
            lambda tensors: tensors.update({f"{FIRST}.lora_b": torch.zeros(48, 4)}),
            r"must be \(48, 3\), got \(48, 4\)",
        ),
        (
            lambda tensors: tensors.update({f"{FIRST}.lora_b": torch.zeros(48, 3).double()}),
            "must be bfloat16, float16, float32, got F64",
        ),
        (
            lambda tensors: tensors[f"{FIRST}.lora_b"].mul_(-1),
            "is damaged, or of another config.json: its hash must be",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(trained, tiny_model, damage, message):
    rewrite(trained[0], damage)
    refused(base(tiny_model), trained[0], message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "dovetail-provence-adapter-1"}, "is no adapter: it must hold a config.json"),
        ({"brand_new": 1}, r"is damaged: config.json .*brand_new"),
        ({"base_weights": "-"}, r"is damaged: config.json .*base_weights"),
        ({"layers": []}, "layers must be one name or more"),
        ({"layers": "model"}, "is damaged: config.json.layers must"),
        ({"lora": {"rank": 0, "alpha": 6.0}}, "is damaged: .*rank must be at least 1, got 0"),
        ({"lora": {"rank": "x"}}, "is damaged: .*rank must be int"),
        ({"layers": ["lm_head"]}, "changes the linear layer 'lm_head', but it shares its weights"),
        ({"layers": ["model.layers.9.mlp"]}, r"'model.layers.9.mlp', but the model has none of"),
        ({"layers": ["model.layers.0.mlp"]}, r"'model.layers.0.mlp', but it is a LlamaMLP"),
        ({"adapter": "-"}, "its hash must be given, got"),
        ({"lora": {"rank": 3, "alpha": 12.0}}, "or of another config.json"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(trained, tiny_model, changes, message):
    edit(trained[0], **changes)
    refused(base(tiny_model, tie_word_embeddings=True), trained[0], message)


def test_files_that_are_missing_or_no_such_files_are_named(trained, tiny_model, tmp_path):
    folder = trained[0]
    refused(base(tiny_model), tmp_path / "none", "none is no adapter")
    whole = (folder / "adapter.safetensors").read_bytes()
    for content in (b"", b"\x80\x04pickle", whole[:200], whole[:-8]):
        (folder / "adapter.safetensors").write_bytes(content)
        refused(base(tiny_model), folder, r"adapter\.safetensors cannot be read: .*; train it")
    (folder / "adapter.safetensors").unlink()
    refused(base(tiny_model), folder, r"adapter\.safetensors cannot be read")
    (folder / "config.json").write_text("[1]")
    refused(base(tiny_model), folder, "is no adapter")


def test_a_model_with_updates_inside_is_no_base(trained, tiny_model):
    loaded = base(tiny_model)
    train(loaded)
    refused(loaded, trained[0], "but it is a LoRALinear")


# --- what cannot be saved -------------------------------------------------------------------


def test_a_configuration_that_does_not_fit_the_updates_is_not_saved(tiny_model, tmp_path):
    loaded = base(tiny_model)
    config = train(loaded)
    for wrong, message in (
        (replace(config, layers=config.layers[1:]), "must be the 21 layers with an update, got 20"),
        (replace(config, lora=replace(LORA, rank=4)), "of rank 3 and scale 2, got LoRA"),
        (replace(config, lora=replace(LORA, alpha=3.0)), "of rank 3 and scale 2, got LoRA"),
    ):
        with pytest.raises(ValueError, match=message):
            save_adapter(tmp_path / "x", loaded.model, wrong)
    with pytest.raises(ValueError, match="must be the 0 layers with an update"):
        save_adapter(tmp_path / "x", merge_lora(loaded.model), config)
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="layers must be one name or more, each once"):
        replace(config, layers=("a", "a"))


@pytest.mark.parametrize(("value", "stored"), [(torch.nan, "float32"), (1e6, "float16")])
def test_numbers_that_are_not_finite_are_not_saved(tiny_model, tmp_path, value, stored):
    loaded = base(tiny_model)
    config = train(loaded)
    with torch.no_grad():
        loaded.model.get_submodule(FIRST).lora_a[0, 0] = value
    with pytest.raises(ValueError, match=rf"{FIRST}\.lora_a must be finite in {stored}"):
        save_adapter(tmp_path / "x", loaded.model, config, stored=stored)
    assert not (tmp_path / "x").exists()


# --- with real files -------------------------------------------------------------------------


def test_a_model_loaded_by_name_has_the_base_that_was_trained(checkpoint, tmp_path):
    loaded = load_language_model(str(checkpoint), dtype="float32")
    save_adapter(tmp_path, loaded.model, train(loaded))
    found = adapted(load_language_model(str(checkpoint), dtype="float32"), tmp_path)
    assert (logits(found.model) - logits(loaded.model)).abs().max() < 1e-4
    low = adapted(load_language_model(str(checkpoint), dtype="bfloat16"), tmp_path)
    assert low.model.dtype == torch.bfloat16
    assert low.identity.adapter == found.identity.adapter


def test_reading_a_configuration_reads_no_tensors_and_no_code(trained):
    (trained[0] / "adapter.safetensors").unlink()
    code = (
        "import sys; from pathlib import Path; from rag.adaptation.adapter import *; "
        "load_adapter_config(Path(sys.argv[1])); print('transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, trained[0]], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
