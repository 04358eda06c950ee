"""The committed table and schema are what the operators' annotations and docstrings make of them."""

import json

import pytest

from pipelines.catalogue.__main__ import SCHEMA
from pipelines.catalogue.describe import describe
from pipelines.catalogue.entries import MODULES, OPERATORS
from pipelines.catalogue.plugins import PluginError, with_plugins
from pipelines.catalogue.table import TABLE, catalogue, generated
from pipelines.definition.schema import schema
from rag.records import Query


def test_the_table_is_current():
    assert TABLE.read_text() == generated(), "run `make fix`"


def test_the_schema_is_current():
    assert json.loads(SCHEMA.read_text()) == schema(catalogue()), "run `make fix`"


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_documented_and_typed(name):
    spec = catalogue().operators[name]
    assert spec.module in MODULES
    assert spec.summary.endswith(".")
    assert spec.output.name
    assert all(option.about for option in spec.options)
    assert all(need.about for need in spec.needs)


def test_a_function_is_described_by_its_annotations():
    def shorten(query: Query, by: int = 2) -> Query:
        """Cut the question."""
        return Query(query.text[:-by])

    spec = describe(shorten, "query.shorten")
    assert [(port.name, port.kind, port.optional) for port in spec.inputs] == [
        ("query", Query, False),
        ("by", int, True),
    ]
    assert (spec.output.name, spec.output.kind, spec.options) == ("query", Query, ())


def test_a_plugin_cannot_take_a_name_that_is_taken(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from rag import Query, operator\n\n\n"
        '@operator("query.rewrite")\ndef mine(query: Query) -> Query:\n'
        '    """Do nothing."""\n    return query\n'
    )
    with pytest.raises(PluginError, match=r"the operator name 'query.rewrite' is taken"):
        with_plugins([path])


def test_a_plugin_that_breaks_says_how(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_like_it\n")
    with pytest.raises(PluginError, match="cannot be loaded: ModuleNotFoundError"):
        with_plugins([path])
