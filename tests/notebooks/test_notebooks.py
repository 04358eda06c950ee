"""Every notebook runs from top to bottom: cell by cell on tiny models, and in a kernel on real ones."""

import ast
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pruners.features.head import FeatureHead
from rag.routing.labelled_queries import LabelledQuery
from rag.routing.labels import MODALITIES
from rag.routing.training.train_router import train_router

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def read(path):
    nbformat = pytest.importorskip("nbformat", reason="needs the extra 'test'")
    return nbformat.read(path, as_version=4)


def run_cell(source, namespace):
    """Run a cell as a kernel does: the value of a last expression is shown."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    if last is None:
        return
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    if not source.rstrip().endswith(";"):
        show = getattr(value, "_repr_html_", None)
        assert isinstance(show() if show else repr(value), str)


@pytest.fixture
def shipped_router(encoder, tmp_path):
    """Stands in for the router that comes with Dovetail, which only knows its own encoder."""
    taught = [
        LabelledQuery(f"{label}-{n}", f"a {label} {n}", (label,))
        for label in MODALITIES
        for n in range(2)
    ]
    train_router(taught, encoder, folds=2).save(tmp_path / "shipped-router")
    return tmp_path / "shipped-router"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_on_tiny_models(path, encoder, checkpoint, shipped_router, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda *_, **__: encoder)
    monkeypatch.setattr(
        "rag.models.language_model.resolve_model", lambda *_, **__: Path(checkpoint)
    )
    monkeypatch.setattr(
        "pipelines.catalogue.routing.resolve_router",
        lambda choice, _: shipped_router if choice == "auto" else Path(choice),
    )
    head = replace(FeatureHead.load(), encoder_fingerprint=encoder.fingerprint)
    monkeypatch.setattr(FeatureHead, "load", lambda *_: head)
    namespace = {"__name__": "notebook"}
    for cell in read(path).cells:
        if cell.cell_type == "code":
            run_cell(cell.source, namespace)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_runs_in_a_kernel(path, tmp_path):
    client = pytest.importorskip("nbclient", reason="needs the extra 'notebooks'")
    pytest.importorskip("ipykernel", reason="needs the extra 'notebooks'")
    folder = {"metadata": {"path": tmp_path}}
    client.NotebookClient(read(path), timeout=300, resources=folder).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_was_saved_with_its_output_and_without_this_machines_paths(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in cells)
    assert not re.search(r"/(?:home|root|work|Users)/\w", path.read_text())


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 10
    assert os.environ.get("HF_HUB_OFFLINE") == "1"
