"""The table of operators: what it says is what they are, and reading it imports none of them."""

import json
import subprocess
import sys

import pytest

from pipelines.catalogue.entries import MODULES, OPERATORS, RESOURCES
from pipelines.catalogue.table import TABLE, _operator, _resource, catalogue, entry_row, generated
from pipelines.flow.types import fits, parse, show


@pytest.fixture(scope="module")
def fresh():
    return generated()


def test_the_file_is_what_the_operators_say(fresh):
    assert fresh == TABLE.read_text(encoding="utf-8"), "run python -m pipelines.catalogue"


def test_a_row_reads_back_as_what_it_was_made_of(fresh):
    for row in json.loads(fresh)["operators"]:
        assert entry_row(_operator(row)) == row
    for row in json.loads(fresh)["resources"]:
        assert entry_row(_resource(row)) == row


def test_the_catalogue_holds_every_entry():
    assert set(catalogue().operators) == set(OPERATORS)
    assert set(catalogue().resources) == set(RESOURCES)
    assert {spec.module for spec in catalogue().operators.values()} <= set(MODULES)


@pytest.mark.parametrize("spec", catalogue().operators.values(), ids=lambda spec: spec.name)
def test_an_operator_is_documented_and_fits_into_a_flow(spec):
    assert spec.summary.endswith(".")
    assert spec.inputs
    assert spec.output.name, "its output has a usual name"
    assert all(parse(show(port.kind)) == port.kind for port in spec.inputs)
    assert [option.name for option in spec.options if not option.about] == []
    assert [need.name for need in spec.needs if not need.about] == []


@pytest.mark.parametrize("spec", catalogue().operators.values(), ids=lambda spec: spec.name)
def test_the_default_of_an_option_lies_within_its_bounds(spec):
    for option in spec.options:
        if option.bounds is not None and isinstance(option.default, (int, float)):
            assert option.default in option.bounds
            assert fits(type(option.default), option.kind)


def test_checking_a_recipe_imports_nothing_heavy():
    code = (
        "import sys; from pipelines.loading import checked_definition\n"
        "definition, mistakes = checked_definition('iter-retgen')\n"
        "assert not mistakes, mistakes\n"
        "print(*sorted({'torch', 'transformers', 'numpy', 'faiss', 'langchain_core', 'pydantic', "
        "'rich', 'retrievers.hybrid', 'rag.generation.engine'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
