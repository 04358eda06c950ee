"""`dovetail adapt` on a tiny checkpoint and a few prepared examples: what it writes and refuses."""

import importlib.util
import json
from pathlib import Path

import pytest

from pipelines.cli.main import main
from rag.adaptation.examples import read_examples, write_examples

_spec = importlib.util.spec_from_file_location(
    "made_examples", Path(__file__).parents[2] / "rag" / "adaptation" / "made_examples.py"
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "train.jsonl.gz"
    write_examples(path, [made.example(row) for row in range(8)])
    return path


@pytest.fixture
def dev(tmp_path):
    path = tmp_path / "dev.jsonl.gz"
    write_examples(path, [made.example(row, name="Zed") for row in range(90, 92)])
    return path


@pytest.fixture
def adapt(data, dev, checkpoint, tmp_path):
    """Return a function (folder name, more arguments) -> exit status of a short training."""

    def run(name, *more, steps=2):
        return main(
            [
                *("adapt", str(data), "-o", str(tmp_path / name), f"--model={checkpoint}"),
                *(f"--dev={dev}", f"--steps={steps}", "--batch-size=2", "--rank=2", "--readings=1"),
                *("--dtype=float32", *more),
            ]
        )

    return run


def test_trains_and_writes_an_adapter_with_its_card(adapt, tmp_path, capsys, checkpoint):
    assert adapt("mine", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["learned"], told["held_out"], told["left_out"]) == (8, 2, {})
    assert told["course"]["steps"] == 2
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "README.md", "adapter.safetensors", "config.json", "data.json", "examples.jsonl.gz",
        "losses.jsonl", "losses.svg",
    }  # fmt: skip
    card = (tmp_path / "mine" / "README.md").read_text()
    for part in ("dovetail adapt train.jsonl.gz -o mine", "--rank=2", "made 8", "## Limits"):
        assert part in card
    assert str(tmp_path) not in card
    from rag.generation.local_model import LocalModel

    read = LocalModel.open(str(checkpoint), dtype="float32", adapter=str(tmp_path / "mine"))
    assert read.identity.adapter


def test_trains_an_adapter_further(adapt, tmp_path, capsys):
    assert adapt("first", "--quiet") == 0
    more = f"--start={tmp_path / 'first'}"
    assert adapt("other", more, "--rank=3", "--quiet") == 2
    assert "tuning must be that of" in capsys.readouterr().err
    assert adapt("next", more, "--sequential-first=0", "--cached-every=2", "--quiet") == 0
    card = (tmp_path / "next" / "README.md").read_text()
    for part in ("--start=first", "--cached-every=2", "trained further from adapter `"):
        assert part in card


def test_goes_on_where_the_time_was_over(adapt, tmp_path, capsys, data):
    assert adapt("mine", "--minutes=0.000001", "--quiet") == 0
    assert "ended: time" in capsys.readouterr().out
    assert (tmp_path / "mine" / "state.safetensors").exists()
    assert adapt("mine", "--quiet") == 2
    assert "add --resume" in capsys.readouterr().err
    data.unlink()  # the examples are in the folder
    assert adapt("mine", "--resume", "--quiet") == 0
    assert "2 of 2, ended: done" in capsys.readouterr().out
    assert not (tmp_path / "mine" / "state.safetensors").exists()
    assert adapt("mine", "--quiet") == 2
    assert "holds a model already" in capsys.readouterr().err


def test_a_twentieth_is_held_out_without_dev(data, checkpoint, tmp_path, capsys):
    write_examples(data, [made.example(row, name=f"N{row}") for row in range(40)])
    status = main(
        [
            *("adapt", str(data), "-o", str(tmp_path / "x"), f"--model={checkpoint}", "--json"),
            *("--steps=1", "--batch-size=1", "--rank=1", "--readings=1", "--dtype=float32"),
        ]
    )
    assert status == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["learned"], told["held_out"]) == (38, 2)


def test_questions_held_out_are_not_learned(adapt, data, dev, capsys):
    write_examples(dev, [read_examples(data)[0]])
    assert adapt("mine", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["learned"] < 8
    assert sum(told["left_out"].values()) == 8 - told["learned"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=0"], "--steps must be at least 1, got 0"),
        (["--passages=0"], "--passages must be at least 1, got 0"),
        (["--lr=0"], "--lr must be above 0, got 0"),
        (["--minutes=-1"], "--minutes must be above 0, got -1"),
        (["--epochs=2"], "not allowed with argument"),
        (["--seed=-1"], "--seed must be at least 0, got -1"),
        (["--resume"], "--resume needs the state of a training"),
        (["--patience=0"], "--patience must be at least 1, got 0"),
        (["--cached-every=0"], "--cached-every must be at least 1, got 0"),
        (["--sequential-first=2"], "sequential_first must be in [0, 1], got 2.0"),
        (["--start=auto"], "--start auto needs an adapter that comes along for --model, got"),
        (["--start=none.d"], "adapter must be none, auto, or a folder that `dovetail adapt` wrote"),
        (["--teacher=me"], "invalid choice: 'me'"),
        (["--dev=none.jsonl"], "none.jsonl must be a .jsonl or .jsonl.gz file"),
    ],
)
def test_refuses_what_does_not_fit(adapt, tmp_path, capsys, arguments, message):
    assert adapt("x", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x" / "config.json").exists()


def test_what_does_not_fit_the_model_is_refused_before_anything_is_prepared(adapt, tmp_path):
    assert adapt("x", "--start=none.d") == 2
    assert adapt("x", "--sequential-first=2") == 2
    assert not (tmp_path / "x").exists()


def test_says_that_nothing_is_left(adapt, data, dev, capsys):
    write_examples(dev, read_examples(data))
    assert adapt("x") == 2
    assert "DATA must hold questions to learn from, got none: 8" in capsys.readouterr().err
