"""Imports point one way: pipelines, then retrievers, pruners and kvstore, then rag."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "rag": {"rag"},
    "retrievers": {"rag", "retrievers"},
    "pruners": {"rag", "pruners"},
    "kvstore": {"rag", "kvstore"},
    "pipelines": {"rag", "retrievers", "pruners", "kvstore", "pipelines"},
}


def imported(source: str) -> set[str]:
    """Top-level packages that a file imports, wherever in the file the import stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer they cross"
            names.add((node.module or "").split(".")[0])
    return names


def against_the_layers(package: str, source: str) -> set[str]:
    return (imported(source) & set(ALLOWED)) - ALLOWED[package]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): against_the_layers(package, f.read_text()) for f in files}
    assert {f: names for f, names in wrong.items() if names} == {}


def test_the_check_sees_a_sideways_import_inside_a_function():
    assert against_the_layers(
        "pruners", "def f():\n    from retrievers.sparse.bm25 import BM25"
    ) == {"retrievers"}
