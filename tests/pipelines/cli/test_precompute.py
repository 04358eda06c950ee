"""`dovetail precompute` in process: what it stores, resumes, refuses and saves `ask`."""

import json
import os
from contextlib import suppress

import pytest

from kvstore.store import KVStore
from pipelines.cli.main import main
from pipelines.cli.model_arguments import size
from rag.generation.engine import Engine
from rag.generation.packed_encoding import PackedEncoder


@pytest.fixture
def precompute(index, checkpoint, capsys):
    """Return a function: arguments -> (exit status, standard output, standard error)."""

    def run(*more, folder=index, model=checkpoint):
        arguments = ["precompute", str(folder), "--model", str(model), "--dtype", "float32"]
        status = main([*arguments, *more])
        return status, *capsys.readouterr()

    return run


def stored(index):
    return sorted((index / "kv").glob("*/*.safetensors"))


def test_every_passage_and_the_prefix_are_stored_once(precompute, index):
    status, out, err = precompute()
    assert status == 0
    assert out.startswith("4 stored (")
    assert "3 passages, " in err
    assert len(stored(index)) == 4
    status, out, _ = precompute()
    assert status == 0
    assert out.startswith("0 stored (0 B), 4 were there")


def test_json_reports_what_was_done_and_nothing_else_is_said(precompute, index, checkpoint):
    status, out, err = precompute("--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["stored"], report["skipped"], report["failed"], report["remaining"]) == (
        4, 0, 0, 0,
    )  # fmt: skip
    assert (report["index"], report["model"]) == (str(index), str(checkpoint))
    # 3 layers, 2 key-value heads of 8, keys and values, 4 bytes each
    assert report["bytes_per_token"] == 3 * 2 * 8 * 2 * 4
    assert report["projected_bytes"] % report["bytes_per_token"] == 0
    assert report["projected_bytes"] == report["bytes"]
    assert json.loads(precompute("--json")[1])["stored"] == 0


def test_passages_share_a_forward_pass(precompute, index, monkeypatch):
    packs, call = [], PackedEncoder.__call__

    def counting(self, pack, prefix):
        packs.append(len(pack))
        return call(self, pack, prefix)

    monkeypatch.setattr(PackedEncoder, "__call__", counting)
    precompute("--quiet")
    # More than one of the three; the rest does not fit into the same pass.
    assert packs[-3:] == [1, 2, 1]
    assert len(stored(index)) == 4


def test_what_was_encoded_stays_though_a_later_passage_fails(precompute, index, monkeypatch):
    encode_all = Engine.encode_all

    def failing(self, segments):
        yield from encode_all(self, segments[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "encode_all", failing)
        with suppress(OSError):
            precompute("--quiet")
    assert len(stored(index)) == 2
    report = json.loads(precompute("--json")[1])
    assert (report["stored"], report["skipped"]) == (2, 2)


def test_a_run_goes_on_where_another_stopped(precompute, index):
    precompute("--quiet")
    for file in stored(index)[:2]:
        file.unlink()
    report = json.loads(precompute("--json")[1])
    assert (report["stored"], report["skipped"]) == (2, 2)


def test_the_first_question_after_it_misses_nothing(precompute, index, checkpoint, capsys):
    precompute()
    arguments = ["ask", "What is about apples?", "-i", str(index), "--model", str(checkpoint)]
    assert main([*arguments, "--dtype", "float32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kv"]["misses"] == 0
    assert found["kv"]["hits"] >= 2


def test_another_precision_misses(precompute, index, checkpoint, capsys):
    precompute()
    arguments = ["ask", "What is about apples?", "-i", str(index), "--model", str(checkpoint)]
    assert main([*arguments, "--dtype", "bfloat16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kv"]["hits"] == 0


def test_more_than_the_disk_budget_is_refused_before_any_work(precompute, index):
    status, out, err = precompute("--kv-disk", "10kB")
    assert (status, out) == (2, "")
    assert "--kv-disk allows 10.0 kB" in err
    assert stored(index) == []


def test_a_refusal_leaves_what_was_stored(precompute, index):
    precompute()
    before = stored(index)
    assert precompute("--kv-disk", "10kB")[0] == 2
    assert stored(index) == before


def test_a_store_that_is_in_use_is_2(precompute, index):
    with KVStore(index / "kv"):
        status, out, err = precompute()
    assert (status, out) == (2, "")
    assert f"is being written by process {os.getpid()}" in err


def test_what_cannot_be_opened_is_2(precompute, index, tmp_path):
    status, _, err = precompute(folder=tmp_path / "nowhere.idx")
    assert status == 2
    assert "nowhere.idx" in err
    status, _, err = precompute(model="nonesuch")
    assert status == 2
    assert "no model 'nonesuch'; tried" in err
    assert stored(index) == []


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("0", 0), ("1000", 1000), ("500MB", 5 * 10**8), ("4G", 4 * 10**9), (" 1.5 kb ", 1500)],
)
def test_sizes_are_powers_of_a_thousand(text, bytes_):
    assert size(text) == bytes_


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "4 gibibytes", "1.GB", "GB"])
def test_other_sizes_are_2(precompute, text):
    status, _, err = precompute(f"--kv-ram={text}")
    assert status == 2
    assert "must be a size such as 500MB or 4GB" in err


def test_all_corpora_are_stored_in_the_store_that_they_share(
    precompute, notes, encoder, tmp_path, monkeypatch
):
    from pipelines.corpora.build import build_corpora

    (notes / "heights.csv").write_text("Hill,Height\nBenbow,321\nTarn,87\n")
    folder = tmp_path / "mixed.idx"
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: encoder)
    report = build_corpora(
        [str(notes)], folder, encoder=encoder, labels=["paragraph", "document", "table"]
    )
    assert len(report.corpora) == 3
    status, out, _ = precompute("--json", folder=folder)
    # The prefix is a segment of its own; equal texts of two corpora are one segment.
    known = json.loads(out)
    assert status == 0
    assert known["stored"] + known["skipped"] == report.passages + 1
    assert len(stored(folder)) == known["stored"] > report.corpora["paragraph"].passages
    assert not (folder / "paragraph" / "kv").exists()
