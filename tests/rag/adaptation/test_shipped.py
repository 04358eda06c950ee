"""Which adapter a choice means for a model, and what a person calls it."""

from dataclasses import replace

import pytest
from torch import nn

from rag.adaptation import shipped
from rag.adaptation.adapter import AdapterConfig, save_adapter
from rag.adaptation.shipped import (
    adapter_name,
    passed_over,
    resolve_adapter,
    shipped_adapter,
    shipped_adapters,
)
from rag.errors import AdapterError
from rag.records import ModelIdentity
from rag.training.lora import LoRA

TINY = ModelIdentity("tiny", "a" * 64, "{}", "float32/cpu", "t")


def write(folder, identity):
    model, lora = nn.Sequential(nn.Linear(4, 4)), LoRA(2, 4.0, "0")
    save_adapter(folder, model, AdapterConfig.of(identity, lora, lora.apply(model)))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "weights")
    write(tmp_path / "weights" / "other", replace(TINY, weights="b" * 64))
    (tmp_path / "weights" / "__pycache__").mkdir()
    return tmp_path / "weights"


def test_the_shipped_one_is_that_of_the_very_weights(root):
    assert shipped_adapter(TINY) is None
    made = write(root / "tiny", TINY)
    assert shipped_adapter(TINY) == made
    assert shipped_adapter(replace(TINY, name="/models/copy", dtype="bfloat16/cuda")) == made
    assert shipped_adapter(replace(TINY, weights="c" * 64)) is None
    assert shipped_adapters() == [root / "other", root / "tiny"]


def test_choices(root, tmp_path):
    own = write(tmp_path / "own", TINY)
    assert resolve_adapter("none", TINY) is None
    assert resolve_adapter("auto", TINY) is None
    assert resolve_adapter(str(own), TINY) == own
    made = write(root / "tiny", TINY)
    assert resolve_adapter("auto", TINY) == made
    assert resolve_adapter("none", TINY) is None
    assert resolve_adapter(str(own), TINY) == own


def test_a_folder_called_as_a_choice_can_be_named_by_its_path(root, tmp_path, monkeypatch):
    write(tmp_path / "auto", TINY)
    monkeypatch.chdir(tmp_path)
    assert resolve_adapter("auto", TINY) is None
    assert resolve_adapter("./auto", TINY).resolve() == tmp_path / "auto"


def test_the_home_folder_is_understood(root, tmp_path, monkeypatch):
    write(tmp_path / "own", TINY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_adapter("~/own", TINY) == tmp_path / "own"


@pytest.mark.parametrize("choice", ["missing", "", " ", "weights", "Auto"])
def test_what_is_no_adapter_is_an_error(root, tmp_path, choice, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapterError, match="adapter must be none, auto, or a folder that `doveta"):
        resolve_adapter(choice, TINY)


def test_a_damaged_shipped_one_is_an_error(root):
    (root / "other" / "config.json").write_text("{}")
    with pytest.raises(AdapterError, match="other is no adapter"):
        shipped_adapter(TINY)


def test_names(root, tmp_path):
    assert adapter_name(None) == "none"
    assert adapter_name(root / "tiny") == "tiny (shipped)"
    assert adapter_name(tmp_path / "own") == str(tmp_path / "own")


def test_what_is_shipped_today_is_whole():
    from rag.adaptation.adapter import load_adapter_config

    for folder in shipped_adapters():
        assert load_adapter_config(folder).base == folder.name
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_500_000


def test_a_model_of_the_same_name_with_other_weights_is_told_of(root):
    write(root / "tiny", TINY)
    changed = replace(TINY, weights="c" * 64)
    assert passed_over("auto", changed) == (
        "the adapter that comes with Dovetail for tiny is for other weights than these "
        "(cccccccccccc), so none is used"
    )
    assert passed_over("none", changed) is None
    assert passed_over("auto", TINY) is None
    assert passed_over("auto", replace(changed, name="elsewhere")) is None
