"""Remembered self-tests: a pass counts for the same weights and code, and for nothing else."""

from dataclasses import fields, replace

import pytest

from rag.generation import passed_tests
from rag.generation.local_model import LocalModel
from rag.generation.passed_tests import MEMORY, PassedTests
from rag.records import ModelIdentity

IDENTITY = ModelIdentity("tiny", "w", "c", "float32/cpu", "t")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    return tmp_path


def test_a_pass_is_remembered_by_another_process():
    assert not PassedTests().has(IDENTITY)
    PassedTests().add(IDENTITY)
    assert PassedTests().has(IDENTITY)
    assert PassedTests().has(replace(IDENTITY, name="called otherwise"))


@pytest.mark.parametrize(
    "field", [field.name for field in fields(ModelIdentity) if field.name != "name"]
)
def test_it_counts_for_no_other_model(field):
    PassedTests().add(IDENTITY)
    assert not PassedTests().has(replace(IDENTITY, **{field: "other"}))


def test_it_counts_for_no_other_library_or_code(monkeypatch):
    PassedTests().add(IDENTITY)
    with monkeypatch.context() as patch:
        patch.setattr(passed_tests, "version", lambda _name: "0")
        assert not PassedTests().has(IDENTITY)
    monkeypatch.setattr(passed_tests, "TESTED", ("engine.py",))
    assert not PassedTests().has(IDENTITY)


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1, null]"])
def test_a_damaged_memory_is_no_memory_and_is_mended(cache, content):
    (cache / MEMORY).write_text(content)
    assert not PassedTests().has(IDENTITY)
    PassedTests().add(IDENTITY)
    assert PassedTests().has(IDENTITY)


def test_an_opened_model_is_tested_once(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    from rag.generation import engine

    tested = []
    monkeypatch.setattr(engine, "self_test", lambda made: tested.append(made.identity.name))
    tiny_model().save_pretrained(tmp_path / "m")
    tiny_tokenizer.save_pretrained(tmp_path / "m")
    for _ in range(2):
        LocalModel.open(str(tmp_path / "m"), dtype="float32").engine()
    assert len(tested) == 1


def test_a_model_that_fails_is_tested_again(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    from rag.errors import UnsupportedModelError
    from rag.generation import engine

    def fails(_made):
        raise UnsupportedModelError("differs")

    monkeypatch.setattr(engine, "self_test", fails)
    tiny_model().save_pretrained(tmp_path / "m")
    tiny_tokenizer.save_pretrained(tmp_path / "m")
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match="differs"):
            LocalModel.open(str(tmp_path / "m"), dtype="float32").engine()
