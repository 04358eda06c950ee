"""`dovetail check`: all mistakes at once, three formats, exit status, and nothing heavy loaded."""

import json
import subprocess
import sys

import pytest

from pipelines.cli.main import main
from pipelines.definition.compose import recipes

FIVE = """\
version: 1
name: five
steps:
  - use: retrieve.hybird
  - use: retrieve.hybrid
    with: {top_kk: 5}
  - use: prune.sentences
    with: {threshold: many}
  - use: generate.cached
    in: {passages: query}
outputs: [anwser]
"""
FOUND = [
    (4, 5, "unknown-operator", "did you mean 'retrieve.hybrid'?"),
    (6, 12, "unknown-option", "did you mean 'top_k'?"),
    (8, 23, "wrong-type", ""),
    (10, 10, "wrong-type", "bind one that fits: in: {passages: passages}"),
    (11, 11, "unknown-variable", "did you mean 'answer'?"),
]


@pytest.fixture
def five(tmp_path):
    path = tmp_path / "five.yaml"
    path.write_text(FIVE)
    return path


def test_all_mistakes_with_place_code_and_hint(five, capsys):
    assert main(["check", str(five), "--format", "json"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [(r["line"], r["column"], r["code"], r["hint"]) for r in rows] == FOUND
    assert {row["file"] for row in rows} == {str(five)}
    assert all(row["message"] for row in rows)


def test_a_person_sees_the_line_and_a_caret(five, capsys):
    assert main(["check", str(five)]) == 2
    out, err = capsys.readouterr()
    assert (
        f"{five}:6:12: retrieve.hybrid has no option 'top_kk'; did you mean 'top_k'? "
        "[unknown-option]\n  6 |     with: {top_kk: 5}\n    |            ^\n"
    ) in out
    assert "5 mistakes" in err


def test_a_code_host_gets_workflow_commands(five, capsys):
    assert main(["check", str(five), "--format", "github"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[1] == (
        f"::error file={five},line=6,col=12,title=unknown-option::"
        "retrieve.hybrid has no option 'top_kk'; did you mean 'top_k'?"
    )


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_without_mistakes(name, capsys):
    assert main(["check", name, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_overrides_are_checked_with_the_same_words(capsys):
    assert main(["check", "ask", "--set", "retrieve.top_k=many"]) == 2
    assert "retrieve.hybrid.top_k wants int, got 'many'" in capsys.readouterr().out


def test_a_missing_file_is_a_mistake(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml" in capsys.readouterr().out


def test_checking_imports_nothing_heavy(five):
    heavy = "torch", "transformers", "numpy", "langchain_core", "pydantic", "rich", "faiss"
    code = (
        "import sys; from pipelines.cli.main import main; "
        f"main(['check', {str(five)!r}, 'adaptive']); "
        f"print(*sorted(set(sys.modules) & set({heavy})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == ""


def test_a_misspelt_operator_is_one_mistake_not_one_at_every_step_after_it(tmp_path, capsys):
    path = tmp_path / "one.yaml"
    path.write_text(
        "version: 1\nname: one\nsteps:\n  - retrieve.hybird\n  - prune.sentences\n"
        "  - generate.cached\n"
    )
    assert main(["check", str(path), "--format", "json"]) == 2
    assert [row["code"] for row in json.loads(capsys.readouterr().out)] == ["unknown-operator"]
