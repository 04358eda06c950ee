"""YAML as nodes: text stays text, places are right, and nothing dangerous is read."""

import pytest

from pipelines.definition.document import read_file, read_text
from pipelines.definition.nodes import DEEPEST, MOST_NODES, Fields, Items, Scalar
from pipelines.flow.diagnostics import Place


def read(text):
    node, mistakes = read_text(text, "f.yaml")
    return node, [str(mistake) for mistake in mistakes]


def test_scalars_stay_text_and_know_where_they_stand():
    node, mistakes = read("a: no\nb: [010, '1e-5']\n")
    assert mistakes == []
    assert node.values["a"] == Scalar("no", quoted=False, place=None)
    assert node.values["b"].items == (
        Scalar("010", quoted=False, place=None),
        Scalar("1e-5", quoted=True, place=None),
    )
    assert node.values["b"].items[1].place == Place("f.yaml", 2, 10)
    assert node.key_places["b"] == Place("f.yaml", 2, 1)


def test_columns_count_characters_not_bytes():
    node, _ = read("k: {é😀: 1, b: 2}")
    assert node.values["k"].key_places["b"] == Place("f.yaml", 1, 12)


def test_an_alias_is_the_same_value():
    node, mistakes = read("a: &x [1]\nb: *x\n")
    assert mistakes == []
    assert node.values["a"] == node.values["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: 'a' is written twice; first in line 1"),
        ("a: !!python/name:os.system x\n", "f.yaml:1:4: tags such as !!python/name:os.system are"),
        ("a: !x 1\n", "f.yaml:1:4: tags such as !x are not allowed"),
        ("? [a]\n: 1\n", "f.yaml:1:3: a key is text, got a list"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "f.yaml:3:3: << is not supported; use extends or vars"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2:1: a file holds one document, but another begins here"),
        ("", "f.yaml:1:1: there is nothing in it"),
        ("# only a comment\n", "f.yaml:1:1: there is nothing in it"),
        ("a:\n\t- b\n", "f.yaml:2:1: not YAML: "),
        ("a: [1\n", "f.yaml:2:1: not YAML: "),
        ("a: 1\nb: \x07\n", "f.yaml:2:4: not YAML: "),
        ("a: &x [*x]\n", "f.yaml:1:8: *x stands inside &x"),
        ("a: &x 1\nb: *y\n", "f.yaml:2:4: there is no &y before *y; known: x"),
    ],
)
def test_says_what_is_wrong_and_where(text, message):
    _, mistakes = read(text)
    assert len(mistakes) == 1
    assert mistakes[0].startswith(message)


def test_keeps_the_first_of_two_equal_keys_and_goes_on():
    node, mistakes = read("a: 1\na: 2\nb: !t 3\n")
    assert node.values["a"].text == "1"
    assert len(mistakes) == 2


def test_refuses_aliases_that_grow_without_bound():
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    node, mistakes = read("\n".join(lines))
    assert node is None
    assert mistakes == [f"f.yaml:6:10: more than {MOST_NODES} values, aliases written out"]


def test_refuses_deep_nesting():
    node, mistakes = read("[" * 5000)
    assert node is None
    assert mistakes == [f"f.yaml:1:{DEEPEST + 2}: nested more than {DEEPEST} deep"]


def test_files_that_cannot_be_read_are_mistakes(tmp_path):
    path = tmp_path / "x.yaml"
    assert str(read_file(path, "x.yaml")[1][0]).startswith(
        "x.yaml:1:1: cannot read x.yaml: No such"
    )
    path.write_bytes("a: é\nb: ".encode() + b"\xff\n")
    assert str(read_file(path, "x.yaml")[1][0]) == (
        "x.yaml:2:4: the file is not UTF-8; save it as UTF-8"
    )
    path.write_bytes(b"a" * (2**20 + 1))
    assert str(read_file(path, "x.yaml")[1][0]) == "x.yaml:1:1: x.yaml has more than 1048576 bytes"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert list(read_file(path, "x.yaml")[0].values) == ["a"]


def test_fields_with_and_without_a_key():
    node, _ = read("a: 1\n")
    more = node.having("b", Items((), Place("g", 1, 1)))
    assert list(more.values) == ["a", "b"]
    assert more.without("a") == Fields({"b": Items((), None)}, {}, None)
    assert more.key_places["b"] == Place("g", 1, 1)


def test_a_secret_is_not_shown():
    assert repr(Scalar("key-123", False, Place("f", 1, 1), secrets=("key-123",))) == "Scalar('***')"
