"""Third-party operators: from files and installed distributions, and what can be wrong."""

import re
import sys
from types import SimpleNamespace

import pytest

from pipelines.catalogue.plugins import PluginError, with_plugins
from pipelines.catalogue.table import catalogue
from pipelines.flow.pipeline import Pipeline

GOOD = '''
from dataclasses import dataclass
from rag.records import Answer, Query
from rag.short_names import operator

@operator("query.{name}")
def shorten(query: Query) -> Query:
    """Keeps {length} characters."""
    return Query(query.text[:{length}])

same = shorten

@operator("generate.{name}")
@dataclass(frozen=True)
class Echo:
    """Says it again."""
    times: int = 1
    def __call__(self, query: Query) -> Answer:
        return Answer(query.text * self.times)
'''


@pytest.fixture
def written(tmp_path):
    def write(text, name="ops.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return write


def test_operators_of_a_file_join_the_catalogue_and_run(written):
    file = written(GOOD.format(name="shorten", length=3))
    found = with_plugins([file], installed=False)
    assert set(found.plugins) == {"query.shorten", "generate.shorten"}
    assert found.operators["query.shorten"].summary == "Keeps 3 characters."
    assert found.operators["query.shorten"].submodule == "plugin"
    assert set(found.operators) > set(catalogue().operators)
    made = Pipeline("p", ["query.shorten", "generate.shorten"], catalogue=found)
    assert made.run("abcdef").answer.text == "abc"


def test_files_of_the_same_name_stay_apart(written):
    one = written(GOOD.format(name="one", length=1), "a/ops.py")
    two = written(GOOD.format(name="two", length=2), "b/ops.py")
    both = with_plugins([one, two], installed=False)
    made = Pipeline("p", ["query.two", "query.one", "generate.two"], catalogue=both)
    assert made.run("abc").answer.text == "a"


def test_two_catalogues_may_use_a_name_differently(written):
    one = with_plugins([written(GOOD.format(name="x", length=1), "a/ops.py")], installed=False)
    two = with_plugins([written(GOOD.format(name="x", length=2), "b/ops.py")], installed=False)
    texts = [
        Pipeline("p", ["query.x", "generate.x"], catalogue=found).run("abc").answer.text
        for found in (one, two, one)
    ]
    assert texts == ["a", "ab", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", '{file} names no operator; put @operator("module.name") before one'),
        ("1 / 0", "{file} cannot be loaded: ZeroDivisionError: division by zero"),
        ("def", "{file} cannot be loaded: SyntaxError: "),
        (GOOD.format(name="x", length=1).replace("query.x", "fuse.rrf"), "{file}: the operator name 'fuse.rrf' is taken"),
        (GOOD.format(name="x", length=1).replace("query.x", "generate.x"), "{file}: the operator name 'generate.x' is taken"),
        (GOOD.format(name="x", length=1).replace("query: Query", "query: 'Qery'"), "{file}: the annotations of query.x cannot be read: name 'Qery'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(written, text, message):
    file = written(text)
    before = set(sys.modules)
    with pytest.raises(PluginError, match=f"^{re.escape(message.format(file=file))}"):
        with_plugins([file], installed=False)
    if "cannot be loaded" in message:
        assert not {name for name in set(sys.modules) - before if "plugin" in name}


def test_a_file_that_is_missing_or_no_python_is_named(tmp_path, written):
    with pytest.raises(PluginError, match=r"no plugin file .*gone\.py"):
        with_plugins([tmp_path / "gone.py"])
    with pytest.raises(PluginError, match=r"ops\.txt is no Python file"):
        with_plugins([written("", "ops.txt")])


def test_operators_of_installed_distributions_join(monkeypatch):
    def say(query: "str") -> "str":
        return query

    entry = SimpleNamespace(name="query.say", value="dist:say", load=lambda: say)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: [entry])
    assert with_plugins().plugins == {"query.say": say}
    assert with_plugins(installed=False).plugins == {}

    def broken():
        raise ImportError("no such thing")

    entry.load = broken
    message = "the operator 'query.say' of dist:say cannot be loaded: no such thing"
    with pytest.raises(PluginError, match=f"^{message}$"):
        with_plugins()
