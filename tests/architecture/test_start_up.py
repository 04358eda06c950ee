"""Start-up: help and `import rag` load nothing heavy."""

import subprocess
import sys

import pytest

from pipelines.cli.main import COMMANDS

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "numpy",
    "faiss",
    "langchain_core",
    "pydantic",
    "rich",
)


def loaded_by(code):
    """Heavy modules that a fresh process has loaded after running `code`."""
    report = f"import sys\nprint(*sorted(sys.modules.keys() & {HEAVY}), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return done.stderr.split()


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_loads_nothing_heavy(name):
    arguments = [*([name] if name else []), "--help"]
    assert loaded_by(f"from pipelines.cli.main import main\nassert main({arguments}) == 0") == []


@pytest.mark.parametrize("package", ["rag", "retrievers", "pruners", "kvstore", "pipelines"])
def test_importing_a_package_loads_nothing_heavy(package):
    assert loaded_by(f"import {package}") == []


def test_the_check_sees_a_heavy_module():
    assert loaded_by("import numpy") == ["numpy"]


def test_every_public_name_of_rag_exists():
    import rag

    for name in rag.__all__:
        assert getattr(rag, name).__name__ == name


def test_an_unknown_name_of_rag_is_an_attribute_error():
    import rag

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rag.nothing
