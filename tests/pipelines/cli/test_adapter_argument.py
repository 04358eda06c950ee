"""`--adapter` of every command that takes a model: what is used, what is told, and mistakes."""

import json

import pytest
import torch

from pipelines.cli.main import main
from rag.adaptation import shipped
from rag.adaptation.adapter import AdapterConfig, load_adapter_config, save_adapter
from rag.errors import AdapterError
from rag.models.language_model import load_language_model
from rag.training.lora import DECODER_LINEARS, LoRA, lora_layers

QUESTION = "What is sentence 3 about?"


@pytest.fixture
def taught(checkpoint, tmp_path, monkeypatch):
    """Return a function folder -> an adapter of the tiny checkpoint."""
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "weights")

    def build(folder):
        loaded = load_language_model(str(checkpoint), dtype="float32")
        lora = LoRA(2, 4.0, DECODER_LINEARS)
        layers = lora.apply(loaded.model, torch.Generator().manual_seed(0))
        with torch.no_grad():
            for layer in lora_layers(loaded.model).values():
                layer.lora_b.fill_(0.2)
        config = AdapterConfig.of(loaded.identity, lora, layers)
        save_adapter(tmp_path / folder, loaded.model, config)
        return tmp_path / folder

    return build


@pytest.fixture
def call(index, checkpoint, capsys):
    """Return a function: command, arguments -> (exit status, standard output, standard error)."""

    def run(command, *more, model=checkpoint):
        given = [QUESTION, "-i", str(index)]
        given = {"ask": given, "run": ["ask", *given], "precompute": [str(index)]}[command]
        named = [] if model is None else ["--model", str(model), "--dtype", "float32"]
        status = main([command, *given, *named, *map(str, more)])
        return status, *capsys.readouterr()

    return run


def asked(call, *more, command="ask"):
    status, out, err = call(command, "--json", *more)
    assert status == 0, err
    found = json.loads(out)
    return found["outputs"]["answer"] if command == "run" else found


@pytest.mark.parametrize("command", ["ask", "run"])
def test_answers_tell_with_which_adapter_they_were_made(call, taught, command):
    own, sent = taught("own"), asked(call, command=command)
    assert "adapter" not in sent
    made = taught("weights/tiny")
    sha = load_adapter_config(made).adapter
    assert asked(call, command=command)["adapter"] == sha
    assert asked(call, "--adapter", "auto", command=command)["adapter"] == sha
    assert asked(call, "--adapter", own, command=command)["adapter"] == sha
    assert "adapter" not in asked(call, "--adapter", "none", command=command)


def test_kv_that_was_made_ready_is_found_by_the_same_choice_only(call, taught):
    taught("weights/tiny")
    report = asked(call, command="precompute")
    assert (report["adapter"], report["stored"]) == ("tiny (shipped)", 4)
    assert asked(call)["kv"]["misses"] == 0
    assert asked(call, "--adapter", "none")["kv"]["hits"] == 0
    again = asked(call, "--adapter", "none", command="precompute")
    assert again["adapter"] == "none"
    assert asked(call, "--adapter", "none")["kv"]["misses"] == 0


def test_the_trace_and_the_page_say_which_adapter(call, taught, tmp_path):
    sha = load_adapter_config(taught("weights/tiny")).adapter
    trace, page = tmp_path / "run.jsonl", tmp_path / "run.html"
    asked(call, "--trace", trace, "--html", page)
    records = [json.loads(line) for line in trace.read_text().splitlines()]
    (said,) = [record for record in records if record["name"] == "generated"]
    assert said["adapter"] == sha[:12]
    assert f"adapter {sha[:12]}" in page.read_text()
    asked(call, "--trace", trace, "--trace-content", "none")
    assert f'"adapter": "{sha[:12]}"' in trace.read_text()


@pytest.mark.parametrize("command", ["ask", "run", "precompute"])
def test_what_is_no_adapter_is_2(call, command, tmp_path):
    status, out, err = call(command, "--adapter", tmp_path)
    assert (status, out) == (2, "")
    assert "adapter must be none, auto, or a folder that `dovetail adapt` wrote" in err


def test_an_adapter_of_another_model_is_2(call, taught):
    folder = taught("own")
    told = json.loads((folder / "config.json").read_text()) | {"base_weights": "b" * 64}
    (folder / "config.json").write_text(json.dumps(told))
    status, _, err = call("ask", "--adapter", folder)
    assert status == 2
    assert f"with weights {'b' * 12}, but" in err


def test_a_services_model_takes_none(call, service, tmp_path):
    url = f"{service.url}#tiny"
    status, _, err = call("ask", "--adapter", tmp_path, model=url)
    assert status == 2
    assert "for a service it must be none or auto, got" in err
    assert service.requests == []
    service.says("Sentence 3 is about apples.")
    for choice in ("none", "auto"):
        assert call("ask", "--adapter", choice, model=url)[0] == 0


def test_without_a_model_to_bind_it_is_2(call, tmp_path):
    status, _, err = call("run", "--adapter", "none", model=None)
    assert status == 2
    assert "--adapter belongs to --model, got only --adapter none" in err


@pytest.fixture
def data(tmp_path, encoder, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, download: encoder)
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: encoder)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"id": "a", "text": "Apples are red."}\n')
    question = {"id": "q", "question": "Which colour?", "answers": ["red"]}
    (folder / "queries.jsonl").write_text(json.dumps(question) + "\n")
    (folder / "qrels.tsv").write_text("q\t0\ta\t1\n")
    return folder


def test_eval_asks_with_it_and_never_goes_on_with_rows_of_another(
    data, checkpoint, taught, tmp_path, capsys
):
    folder = taught("own")
    command = ["eval", "naive", str(data), "--model", str(checkpoint), "--dtype", "float32"]
    out = ["--out", str(tmp_path / "rows.jsonl")]
    assert main([*command, "--adapter", str(folder), *out]) == 0
    assert main([*command, *out]) == 2
    assert "rows.jsonl" in capsys.readouterr().err
    assert main([*command, "--adapter", str(tmp_path), "--json"]) in (1, 2)


def test_eval_of_a_pipeline_with_a_model_of_its_own_takes_none(data, checkpoint, tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text(
        "version: 1\nextends: naive\nresources:\n  lm:\n    use: lm.transformers\n"
        f"    with: {{model: {checkpoint}, dtype: float32, adapter: none}}\n"
    )
    assert main(["eval", str(own), str(data), "--json"]) == 0
    assert main(["eval", str(own), str(data), "--adapter", "none"]) == 2
    assert "declares its own lm, so the adapter 'none' needs --model" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ask", "run", "eval", "precompute", "calibrate"])
def test_help_says_what_can_be_chosen(command, capsys):
    assert main([command, "--help"]) == 0
    assert "--adapter none|auto|DIR" in capsys.readouterr().out


def test_doctor_lists_what_is_shipped(taught, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    main(["doctor"])
    assert "adapter:" not in capsys.readouterr().out
    folder = taught("weights/tiny")
    main(["doctor"])
    assert "adapter: tiny (shipped)" in capsys.readouterr().out
    main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)["adapters"] == {"tiny (shipped)": str(folder)}


def test_calibrate_opens_it_and_writes_it_down(index, tmp_path, monkeypatch, capsys):
    import argparse

    from pipelines.cli import calibrate
    from rag.generation.local_model import LocalModel

    def opened(*given):
        raise AdapterError(f"asked for {given[-1]}")

    monkeypatch.setattr(LocalModel, "open", opened)
    command = ["-i", str(index), "-o", str(tmp_path / "c.yaml")]
    assert main(["calibrate", *command, "--adapter", "mine"]) == 2
    assert "asked for mine" in capsys.readouterr().err
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    assert "--adapter=mine" in calibrate._given(parser.parse_args([*command, "--adapter", "mine"]))
    assert "adapter" not in " ".join(calibrate._given(parser.parse_args(command)))


def test_a_pipeline_file_chooses_one(call, taught, tmp_path, checkpoint, index, capsys):
    folder = taught("own")
    own = tmp_path / "own.yaml"
    own.write_text(
        "version: 1\nextends: ask\nresources:\n  lm:\n    use: lm.transformers\n"
        f"    with: {{model: {checkpoint}, dtype: float32, adapter: {folder}}}\n"
    )
    assert main(["run", str(own), QUESTION, "-i", str(index), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["outputs"]["answer"]
    assert answer["adapter"] == load_adapter_config(folder).adapter
