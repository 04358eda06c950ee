"""References: variables of any shape, the environment, literals, and what is wrong with them."""

import pytest

from pipelines.definition.document import read_text
from pipelines.definition.interpolate import Interpolation, escaped
from pipelines.definition.nodes import MOST_NODES, Scalar

ENVIRON = {"KEY": "s3cret", "EMPTY": ""}


def resolve(text, **given):
    root, mistakes = read_text(text, "f.yaml")
    assert mistakes == []
    values = Interpolation(root.values.get("vars"), environ=ENVIRON, **given)
    values.all_variables()
    found = values.resolved(root.without("vars")).values["x"]
    return found, [str(mistake) for mistake in values.mistakes]


def test_a_whole_value_becomes_the_variable_of_any_shape_at_its_place():
    found, mistakes = resolve("vars: {k: [1, {a: b}]}\nx: ${vars.k}\n")
    assert mistakes == []
    assert [found.items[0].text, found.items[1].values["a"].text] == ["1", "b"]
    assert found.items[0].place.line == 1


def test_text_takes_the_text_of_variables():
    found, mistakes = resolve("vars: {a: 1, b: '${vars.a}2'}\nx: p ${vars.a}-${vars.b} $${c} $x\n")
    assert (found.text, mistakes) == ("p 1-12 ${c} $x", [])


@pytest.mark.parametrize(
    ("text", "expected", "quoted"),
    [
        ("'5'", "5", True),
        ("'many'", "many", False),
        ("'${vars.k}'", "5", False),
        ("'${vars.k}0'", "50", True),
        ("${vars.k}0", "50", False),
        ("'${env:N:-7}'", "7", False),
        ("'${env:EMPTY}7'", "7", True),
        ("'$${'", "${", False),
    ],
)
def test_quotes_matter_only_where_text_looks_like_something_else(text, expected, quoted):
    found, _ = resolve(f"vars: {{k: 5}}\nx: {text}\n")
    assert (found.text, found.quoted) == (expected, quoted)


def test_values_of_the_environment_are_marked_but_not_defaults():
    found, _ = resolve(
        "vars: {k: '${env:KEY}'}\nx: ['${vars.k}', 'a${vars.k}$${', '${env:NO:-d}', b]\n"
    )
    secrets = [item.secrets for item in found.items]
    assert secrets == [("s3cret",), ("s3cret",), (), ()]
    assert [item.secret for item in found.items] == [True, True, False, False]
    assert [item.written for item in found.items] == [
        "${env:KEY}",
        "a${env:KEY}$${",
        "${env:NO:-d}",
        "",
    ]


def test_a_default_may_hold_anything_but_a_brace():
    assert resolve("x: '${env:NO:-http://a:1/b-c}'\n")[0].text == "http://a:1/b-c"
    assert resolve("x: 'a${env:NO:-}b'\n")[0].text == "ab"


HOW = "write ${vars.NAME}, ${env:NAME} or ${env:NAME:-default}; $${ is a plain ${"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "vars: {kind: 1}\nx: ${vars.kin}\n",
            "f.yaml:2:4: there is no vars.kin; did you mean 'kind'?",
        ),
        ("x: ${vars.k}\n", "f.yaml:1:4: there is no vars.k"),
        (
            "x: ${env:NO}\n",
            (
                "f.yaml:1:4: the environment variable NO is not set; "
                "set it, or write ${env:NO:-default}"
            ),
        ),
        (
            "vars: {a: '${vars.b}', b: '${vars.a}'}\nx: 1\n",
            "f.yaml:1:27: variables go round in a circle: vars.a -> vars.b -> vars.a",
        ),
        (
            "vars: {a: [1]}\nx: a ${vars.a}\n",
            (
                "f.yaml:2:4: ${vars.a} is a list, which does not fit into a text; "
                "let it be the whole value"
            ),
        ),
        ("x: ${a}\n", f"f.yaml:1:4: '${{a}}' is no reference; {HOW}"),
        ("x: a ${vars.b\n", f"f.yaml:1:4: a reference has no closing }}; {HOW}"),
    ],
)
def test_says_what_is_wrong_once(text, message):
    _, mistakes = resolve(text)
    assert mistakes == [message]


def test_what_cannot_be_resolved_is_marked():
    found, _ = resolve("vars: {a: '${env:NO}'}\nx: [a, '${vars.a}', 'b${vars.a}', '${vars.no}']\n")
    assert [item.unresolved for item in found.items] == [False, True, True, True]


def test_given_variables_are_final():
    given = {"k": Scalar("${vars.k}", False, None)}
    found, mistakes = resolve("vars: {k: 1}\nx: ${vars.k}\n", given=given)
    assert (found.text, mistakes) == ("${vars.k}", [])


def test_variables_cannot_grow_without_bound():
    names = ["a: [x, x]"] + [
        f"{chr(98 + n)}: ['${{vars.{chr(97 + n)}}}', '${{vars.{chr(97 + n)}}}']" for n in range(20)
    ]
    root, _ = read_text("vars: {" + ", ".join(names) + "}\nx: ${vars.u}\n", "f.yaml")
    values = Interpolation(root.values["vars"], environ={})
    assert not values.bounded(values.resolved(root.without("vars")))
    assert values.mistakes[0].message == f"more than {MOST_NODES} values, variables written out"


def test_texts_cannot_grow_without_bound():
    lines = ["a: " + "x" * 1000] + [
        f"{chr(98 + n)}: '{('${vars.' + chr(97 + n) + '}') * 9}.'" for n in range(3)
    ]
    _, mistakes = resolve("vars: {" + ", ".join(lines) + "}\nx: 1\n")
    assert len(mistakes) == 1
    assert mistakes[0].endswith("a text of more than 100000 characters")


@pytest.mark.parametrize("text", ["${", "$${", "$$${vars.a}", "a${env:KEY}b", "$", "{}"])
def test_escaped_text_is_left_alone(text):
    values = Interpolation(None, environ=ENVIRON)
    assert values.resolved(Scalar(escaped(text), True, None)).text == text
    assert values.mistakes == []
