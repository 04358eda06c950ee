"""`dovetail train pruner` on a few dozen rows and a tiny trunk: what it writes and refuses."""

import importlib.util
import json
from pathlib import Path

import pytest

from pipelines.cli.main import main

_spec = importlib.util.spec_from_file_location(
    "training_conftest", Path(__file__).parents[2] / "pruners" / "training" / "conftest.py"
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(scope="module")
def trunk_folder(tmp_path_factory):
    return made.write_trunk(tmp_path_factory.mktemp("trunk"))


@pytest.fixture
def data(tmp_path, encoder, monkeypatch):
    """A folder of 60 labelled rows with a licence; the encoder is the cheap one of the tests."""
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda *_, **__: encoder)
    folder = tmp_path / "rows"
    folder.mkdir()
    made.write_labelled(folder / "train.jsonl", made.labelled(60))
    licence = {"licence": "Topics CC BY 4.0; more of them MIT"}
    (folder / "meta.json").write_text(json.dumps(licence))
    return folder


@pytest.fixture
def provence(data, trunk_folder, tmp_path):
    """Return a function (folder name, more arguments) -> exit status of a short training."""

    def train(name, *more, steps=6):
        return main(
            [
                *("train", "pruner", str(data), "-o", str(tmp_path / name), "--kind", "provence"),
                *(f"--base={trunk_folder}", "--prior", "none", f"--steps={steps}"),
                *("--batch-size", "4", *more),
            ]
        )

    return train


def test_trains_measures_and_writes_a_model_with_its_card(provence, tmp_path, trunk_folder, capsys):
    out = tmp_path / "mine"
    assert provence("mine", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "provence"
    assert told["held_out"] == 6
    assert told["trained"] == 54
    assert 0 <= told["figures"]["figures"]["AUC"]["mean"] <= 1
    written = {path.name for path in out.iterdir()}
    assert written == {
        "README.md",
        "config.json",
        "losses.jsonl",
        "losses.svg",
        "model.safetensors",
    }
    card = (out / "README.md").read_text()
    for part in ("dovetail train pruner", "--steps=6", "Topics CC BY 4.0", "seed: 0", "## Limits"):
        assert part in card
    from pruners.provence.load import load_provence
    from rag.records import Query

    scorer = load_provence(str(out), base=str(trunk_folder))
    (found,) = scorer(Query("what is of the apple?"), [made.labelled(1)[0].passage()])
    assert len(found.sentences) == 3


def test_trains_a_head_over_features(data, tmp_path, capsys):
    out = tmp_path / "head"
    assert main(["train", "pruner", str(data), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "held-out questions" in printed
    assert "cosine" in printed
    assert (out / "model.safetensors").exists()
    assert "# Feature pruner" in (out / "README.md").read_text()


def test_a_run_whose_time_is_over_keeps_its_state_and_resumes(provence, tmp_path, capsys):
    out = tmp_path / "mine"
    assert provence("mine", "--minutes=0.000001", "--quiet") == 0
    assert "ended: time" in capsys.readouterr().out
    assert (out / "state.safetensors").exists()
    assert provence("mine", "--quiet") == 2
    assert "add --resume" in capsys.readouterr().err
    assert provence("mine", "--resume", "--quiet") == 0
    assert "6 of 6, ended: done" in capsys.readouterr().out
    assert not (out / "state.safetensors").exists()
    assert provence("mine", "--quiet") == 2
    assert "holds a model already" in capsys.readouterr().err


def test_another_recipe_cannot_resume(provence, tmp_path, capsys):
    assert provence("mine", "--minutes=0.000001", "--quiet") == 0
    assert provence("mine", "--resume", "--quiet", "--lr=0.5") == 2
    assert "other settings" in capsys.readouterr().err


def test_passages_of_evaluation_data_are_left_out(data, provence, tmp_path, capsys):
    held = tmp_path / "held"
    held.mkdir()
    texts = [one.text for one in made.labelled(5)]
    lines = [json.dumps({"id": f"d{n}", "text": text.upper()}) for n, text in enumerate(texts)]
    (held / "corpus.jsonl").write_text("\n".join(lines))
    assert provence("mine", "--json", f"--leave-out={held}") == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == 5
    assert "5 pairs left out" in (tmp_path / "mine" / "README.md").read_text()


def test_a_limit_takes_a_sample(provence, capsys):
    assert provence("mine", "--json", "--limit=30") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trained"] + told["held_out"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=0", "--kind=provence"], "--steps must be at least 1, got 0"),
        (["--lr=0", "--kind=provence"], "--lr must be above 0, got 0"),
        (["--minutes=-1", "--kind=provence"], "--minutes must be above 0, got -1"),
        (["--steps=3", "--epochs=2", "--kind=provence"], "give --steps or --epochs, not both"),
        (["--rank=4", "--steps=3"], "--steps, --rank belong to --kind provence"),
        (["--seed=-1"], "--seed must be at least 0, got -1"),
        (["--resume", "--kind=provence"], "--resume needs the state of a training"),
        (["--kind=words"], "invalid choice: 'words'"),
    ],
)
def test_refuses_what_does_not_fit(data, tmp_path, capsys, arguments, message):
    assert main(["train", "pruner", str(data), "-o", str(tmp_path / "x"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_names_the_line_that_is_wrong(data, tmp_path, capsys):
    file = data / "train.jsonl"
    file.write_text(file.read_text().replace('"gold": [1]', '"gold": [7]', 1))
    assert main(["train", "pruner", str(file), "-o", str(tmp_path / "x")]) == 2
    assert "train.jsonl:2: gold must be rows of the 3 sentences" in capsys.readouterr().err


def test_a_file_is_no_folder(data, tmp_path, capsys):
    (tmp_path / "x").write_text("")
    assert main(["train", "pruner", str(data), "-o", str(tmp_path / "x")]) == 2
    assert "--out must be a folder" in capsys.readouterr().err
