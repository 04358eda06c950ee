"""Language models from local folders: identity, precision, refusals, and remembered hashes."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rag.errors import ModelNotFoundError
from rag.models.fingerprint import fingerprint
from rag.models.language_model import best_dtype, load_language_model
from rag.models.user_cache import user_cache


@pytest.fixture(scope="module")
def saved(tiny_model, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy of a tiny checkpoint that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DOVETAIL_CACHE", str(folder))
    return folder


def identity_of(folder, **options):
    return load_language_model(str(folder), dtype="float32", device="cpu", **options).identity


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_loads_what_was_saved(checkpoint, tiny_model, tiny_tokenizer):
    loaded = load_language_model(str(checkpoint), dtype="float32", device="cpu")
    assert not loaded.model.training
    ids = torch.tensor([[5, 70, 80]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(ids).logits, tiny_model()(ids).logits)
    text = "Lazily returns é</s>"
    assert loaded.tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]
    assert loaded.identity.name == str(checkpoint)
    assert loaded.identity.dtype == "float32/cpu"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_a_precision_is_loaded_and_part_of_the_identity(checkpoint, dtype):
    loaded = load_language_model(str(checkpoint), dtype=dtype, device="cpu")
    assert {p.dtype for p in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert loaded.identity.dtype == f"{dtype}/cpu"


def test_by_default_the_precision_is_the_fastest_of_the_device(checkpoint):
    loaded = load_language_model(str(checkpoint), device="cpu")
    assert loaded.model.dtype == best_dtype(torch.device("cpu"))
    assert best_dtype(torch.device("cuda")) is torch.bfloat16


def test_the_identity_does_not_depend_on_where_the_folder_lies(checkpoint, tmp_path):
    first = identity_of(checkpoint)
    moved = checkpoint.rename(tmp_path / "elsewhere")
    assert replace(identity_of(moved), name=first.name) == first


def test_other_weights_are_another_model(checkpoint, tiny_model):
    first = identity_of(checkpoint)
    tiny_model(seed=1).save_pretrained(checkpoint)
    other = identity_of(checkpoint)
    assert other.weights != first.weights
    assert replace(other, weights=first.weights) == first


def test_another_tokenizer_is_another_model(checkpoint):
    first = identity_of(checkpoint)
    path = checkpoint / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["model"]["merges"].pop()
    path.write_text(json.dumps(definition))
    other = identity_of(checkpoint)
    assert other.tokenizer != first.tokenizer
    assert replace(other, tokenizer=first.tokenizer) == first


def test_other_rotary_parameters_are_another_model(checkpoint):
    first = identity_of(checkpoint)
    change_json(
        checkpoint / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 77.0}
    )
    assert identity_of(checkpoint).config != first.config


def test_another_activation_is_another_model(checkpoint):
    first = load_language_model(str(checkpoint), dtype="float32", device="cpu")
    change_json(checkpoint / "config.json", hidden_act="relu")
    other = load_language_model(str(checkpoint), dtype="float32", device="cpu")
    ids = torch.tensor([[5, 70, 80]])
    with torch.inference_mode():
        assert not torch.allclose(first.model(ids).logits, other.model(ids).logits, atol=1e-2)
    assert other.identity != first.identity


def test_an_unknown_name_says_what_was_tried():
    with pytest.raises(ModelNotFoundError, match="no model 'nonesuch'; tried") as refused:
        load_language_model("nonesuch")
    assert "smollm2-135m" in str(refused.value)


def test_a_folder_without_a_model_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelNotFoundError, match="empty, which holds no config"):
        load_language_model(str(empty))


@pytest.fixture
def pickled(checkpoint, tmp_path):
    """A checkpoint whose weights are a pickle that would leave a file behind."""

    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    return checkpoint


def test_pickled_weights_are_refused_and_never_opened(pickled, tmp_path):
    with pytest.raises((ModelNotFoundError, OSError)):
        load_language_model(str(pickled))
    assert not (tmp_path / "executed").exists()


def test_a_folder_without_safetensors_is_a_model_that_was_not_found(pickled):
    with pytest.raises(ModelNotFoundError, match="safetensors"):
        load_language_model(str(pickled))


@pytest.fixture
def remembering(monkeypatch):
    """Remember the hashes of small files too."""
    monkeypatch.setattr("rag.models.fingerprint.WORTH_REMEMBERING", 0)


def test_hashes_are_remembered_where_the_environment_says(checkpoint, cache, remembering):
    first = identity_of(checkpoint)
    remembered = json.loads((cache / "fingerprints.json").read_text())
    assert any(label.startswith(str(checkpoint / "model.safetensors")) for label in remembered)
    assert identity_of(checkpoint) == first


def test_a_remembered_hash_is_not_computed_again(tmp_path, cache, remembering):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    first = fingerprint([file])
    about = (cache / "fingerprints.json").stat()
    assert fingerprint([file]) == first
    assert (cache / "fingerprints.json").stat().st_mtime_ns == about.st_mtime_ns


def test_a_file_that_changed_is_hashed_again(tmp_path, remembering):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    first = fingerprint([file])
    file.write_bytes(b"weighty")
    assert fingerprint([file]) != first


def test_a_fingerprint_is_of_content_and_names_in_any_order(tmp_path):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    first = fingerprint([a, b])
    assert fingerprint([b, a]) == first
    assert fingerprint([a]) != first
    a.write_bytes(b"two")
    b.write_bytes(b"one")
    assert fingerprint([a, b]) != first


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'{"elsewhere:1:2": "ab"}',
        b"[]",
        b'{"elsewhere:1:2": 3}',
    ],
)
def test_a_damaged_memory_of_hashes_is_made_again(tmp_path, cache, remembering, content):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    first = fingerprint([file])
    memory = cache / "fingerprints.json"
    memory.write_bytes(content)
    assert fingerprint([file]) == first
    assert first not in memory.read_text()
    assert any(label.startswith(str(file)) for label in json.loads(memory.read_text()))


def test_the_cache_is_the_owners_alone(cache):
    assert user_cache() == cache
    assert cache.stat().st_mode & 0o777 == 0o700


def test_without_a_name_of_its_own_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv("DOVETAIL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache() == tmp_path / "xdg" / "dovetail"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "dovetail"
