"""`dovetail compare` in process."""

import json

import pytest

from pipelines.cli.main import main
from rag.evaluation import Row


@pytest.fixture
def compare(monkeypatch, capsys):
    monkeypatch.setattr(
        "pipelines.cli.main.COMMANDS", {"compare": ("pipelines.cli.compare", "compare two runs")}
    )

    def run(*arguments):
        status = main(["compare", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def files(tmp_path):
    for name, value in (("a", 0.0), ("b", 1.0)):
        rows = [
            Row(f"q{n}", "?", "x", ("x",), (), {"EM": value, "TTFT_ms": 120.0 + n})
            for n in range(10)
        ]
        failed = Row("z", "?", None, ("x",), (), {"EM": 0.0}, error="broken")
        (tmp_path / name).write_text("".join(row.line() for row in [*rows, failed]))
    return tmp_path / "a", tmp_path / "b"


def test_json_holds_every_number(compare, files):
    status, out, err = compare(*files, "--json")
    assert (status, err) == (0, "")
    shown = json.loads(out)
    assert (shown["n"], shown["seed"], shown["errors"]) == (11, 0, {"a": 1, "b": 1})
    em, ttft = shown["metrics"]["EM"], shown["metrics"]["TTFT_ms"]
    assert set(em) == {
        "a", "b", "difference", "low", "high", "p", "p_holm", "n", "p_t", "robustness",
    }  # fmt: skip
    assert em["difference"] == pytest.approx(10 / 11)
    assert em["low"] < em["difference"] <= em["high"] == 1.0
    assert em["p"] == 2 / 2**10
    assert em["p_holm"] == 2 * em["p"]
    assert em["p_t"] == pytest.approx(1.58955e-6, rel=1e-4), "t is 10 with 10 degrees of freedom"
    assert em["robustness"] == pytest.approx(10 / 11)
    assert (ttft["n"], ttft["difference"], ttft["p_holm"]) == (10, 0.0, 1.0)
    assert (ttft["p_t"], ttft["robustness"]) == (1.0, 0.0)


def test_the_table_is_plain_where_there_is_no_terminal(compare, files):
    status, out, err = compare(*files)
    assert status == 0
    lines = out.splitlines()
    assert " ".join(lines[1].split()) == "metric A B B - A low high p p (Holm) n"
    assert lines[2].split()[:4] == ["EM", "0.000", "0.909", "+0.909"]
    assert lines[3].split()[:4] == ["TTFT_ms", "124.5", "124.5", "+0.000"]
    assert [line.split() for line in lines[-3:]] == [
        ["metric", "p", "(t)", "robustness"],
        ["EM", "<0.0001", "+0.909"],
        ["TTFT_ms", "1.0000", "+0.000"],
    ]
    assert "1 question of A failed and count as 0" in err


def test_a_terminal_gets_a_drawn_table(compare, files, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, _ = compare(*files)
    assert "TTFT_ms" in out
    assert "┃" in out or "|" in out


def test_mistakes_are_one_line(compare, files, tmp_path):
    assert "--seed must be at least 0, got -1" in compare(*files, "--seed", "-1")[2]
    status, _, err = compare(files[0], tmp_path / "nowhere")
    assert status == 2
    assert "nowhere cannot be read" in err
    lines = files[1].read_text().splitlines(keepends=True)
    files[1].write_text("".join(lines[1:]))
    status, _, err = compare(*files)
    assert status == 2
    assert "must hold the same questions, got 1 only in A (q0)" in err
