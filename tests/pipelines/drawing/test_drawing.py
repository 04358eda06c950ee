"""Drawings: every block and step is there, in order, joined by arrows; no text can act."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import pytest

from pipelines.catalogue.spec import OperatorSpec, Port
from pipelines.definition.nodes import Fields, Items, Scalar
from pipelines.drawing import draw
from pipelines.drawing.shapes import condition_text, value_text
from pipelines.flow import blocks
from pipelines.flow.blocks import Definition, Nested, Step, branch, flow, loop, route, step
from pipelines.flow.conditions import condition
from pipelines.flow.diagnostics import Place
from rag.records import Passage, Query

HOSTILE = "</text><script>alert(1)</script>]]>\"'&amp;\x00\x1b\ud800"
SVG = "{http://www.w3.org/2000/svg}"


def definition(*steps, **changes):
    return Definition(name="flow", steps=flow(steps), **changes)


@pytest.fixture
def nested():
    """Every block inside another."""
    rounds = loop(
        3,
        [step("retrieve.sparse", id="retrieve", inputs={"query": "search"}, top_k=5), "query.next"],
        carry={"search": "query"},
        until=Step(use="judge.stable"),
    )
    return definition(
        step("query.rewrite", id="rewrite"),
        route(Step(use="route.examples", id="router"), {"one": ["a.one"], "more": [rounds]}),
        branch({"left": ["b.left"], "right": ["b.right"]}, merge={"passages": "fuse.rrf"}),
        blocks.map("passages", "passage", ["generate.each"], collect={"answer": "answers"}),
        blocks.recurse(
            "query",
            "node",
            ["tree.ask"],
            children="queries",
            max_depth=2,
            max_nodes=9,
            collect={"answer": "leaves"},
        ),
        Nested(definition=Definition(name="inner", steps=(Step(use="inner.step"),))),
        step("fuse.vote", id="vote", out="answer", when={"var": "answers", "empty": False}),
    )


USES = ("query.rewrite", "a.one", "retrieve.sparse", "query.next", "b.left", "b.right", "fuse.rrf")
USES += ("generate.each", "tree.ask", "inner.step", "fuse.vote", "route.examples")


def test_a_line_is_drawn_as_a_line():
    drawn = draw(
        definition(
            step("retrieve.hybrid", id="retrieve", top_k=3, out="passages"),
            step("generate.cached", id="generate", inputs={"passages": "found"}, cache=True),
            description="Naive RAG.",
        )
    )
    assert drawn.splitlines() == [
        "flow: Naive RAG.",
        "│  given query",
        "├─ retrieve  retrieve.hybrid  top_k = 3  writes passages",
        "├─ generate  generate.cached  reads passages ← found  cached",
        "└─ returns answer",
    ]


def test_blocks_are_nested_in_text(nested):
    lines = draw(nested).splitlines()
    assert "│  ├─ router  route.examples" in lines
    assert "│     └─ loop: at most 3 rounds" in lines
    assert "│        │    search begins as query" in lines
    assert "│        │    until judge.stable passes" in lines
    assert "│        ├─ retrieve  retrieve.sparse  top_k = 5  reads query ← search" in lines
    assert "├─ map: each passage of passages  → answers" in lines
    assert "├─ pipeline inner  → answer" in lines
    assert "├─ vote  fuse.vote  writes answer  when answers is not empty" in lines


@pytest.mark.parametrize("form", ["text", "svg", "mermaid"])
def test_every_step_is_drawn_once_in_every_form(nested, form):
    drawn = draw(nested, form)
    for use in USES:
        assert len(re.findall(rf"(?<![\w.]){re.escape(use)}(?![\w.])", drawn)) == 1, use


def test_svg_is_xml_that_refers_to_nothing_outside(nested):
    drawn = draw(nested, "svg")
    root = ET.fromstring(drawn)
    assert root.tag == f"{SVG}svg"
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        *("svg", "style", "rect", "text", "path")
    }
    assert drawn.count("//") == 1, "the name of the SVG namespace only"
    assert not re.search(r"href|url\(|@import|<script|<image", drawn)


def test_svg_boxes_lie_inside_the_image_and_inside_each_other_or_apart(nested):
    root = ET.fromstring(draw(nested, "svg"))
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [
        tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
        for box in root.iter(f"{SVG}rect")
        if box.get("class") != "ground"
    ]
    assert len(boxes) > 15
    edges = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    for left, top, right, bottom in edges:
        assert 0 <= left < right <= width + 0.5
        assert 0 <= top < bottom <= height + 0.5
    for number, a in enumerate(edges):
        for b in edges[number + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            inside = a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3]
            assert apart or inside, (a, b)


def test_svg_arrows_carry_the_variables():
    drawn = draw(definition(step("a.b", out="passages"), "c.d"), "svg")
    variables = [
        element.text
        for element in ET.fromstring(drawn).iter(f"{SVG}text")
        if element.get("class") == "variable"
    ]
    assert variables == ["passages"]


def test_mermaid_joins_steps_arms_and_rounds():
    rounds = loop(2, [step("x.ask", id="ask", out="answer"), step("x.judge", id="judge")])
    routed = route("kind", {"one": ["x.one"], "two": [rounds]}, otherwise=[])
    assert draw(definition(routed, "x.end"), "mermaid").splitlines() == [
        "flowchart TD",
        "  %% flow",
        '  given(["query"])',
        '  subgraph g1["route by kind"]',
        '    s2{"route"}',
        "    given --> s2",
        '    s3["x.one"]',
        '    s2 -->|"one"| s3',
        '    subgraph g4["loop: at most 2 rounds"]',
        '      s5["ask<br/>x.ask<br/>writes answer"]',
        '      s2 -->|"two"| s5',
        '      s6["judge<br/>x.judge"]',
        '      s5 -->|"answer"| s6',
        '      s6 -.->|"again"| s5',
        "    end",
        "  end",
        '  s7["x.end"]',
        "  s3 --> s7",
        "  s6 --> s7",
        '  s2 -->|"else"| s7',
        '  returned(["answer"])',
        "  s7 --> returned",
    ]


def test_mermaid_balances_subgraphs_and_names_only_nodes_that_exist(nested):
    lines = [line.strip() for line in draw(nested, "mermaid").splitlines()]
    assert sum(line.startswith("subgraph") for line in lines) == lines.count("end") == 6
    known = {m[1] for line in lines if (m := re.match(r"(?:subgraph )?(\w+)[\[({]", line))}
    used = {
        name
        for line in lines
        if (m := re.match(r"(\w+) (?:-->|-\.->)(?:\|.*\|)? (\w+)$", line))
        for name in m.groups()
    }
    assert used <= known
    assert {"given", "returned"} <= used


@pytest.mark.parametrize("form", ["text", "svg", "mermaid"])
def test_hostile_texts_stay_texts(form):
    drawn = draw(
        Definition(
            name=HOSTILE,
            description=HOSTILE,
            steps=(
                step(HOSTILE, id=HOSTILE, option=HOSTILE, out=HOSTILE),
                route(HOSTILE.replace(".", ""), {HOSTILE: [HOSTILE]}),
            ),
            inputs={HOSTILE: "Query"},
            outputs=(HOSTILE,),
        ),
        form,
    )
    assert "\x1b" not in drawn
    if form == "svg":
        root = ET.fromstring(drawn)
        assert not list(root.iter(f"{SVG}script"))
        assert sum("<script>" in (e.text or "") for e in root.iter(f"{SVG}text")) > 5
    if form == "mermaid":
        labels = re.sub(r'"[^"]*"', "", drawn.partition("\n")[2].partition("\n")[2])
        assert not re.search(r"script|alert", labels)
        assert "<script" not in drawn.partition("\n")[2].partition("\n")[2]


def test_an_empty_pipeline_and_empty_blocks_are_drawn():
    empty = definition(loop(1, []), route("r", {"a": []}), inputs={}, outputs=())
    for form in ("text", "svg", "mermaid"):
        assert "nothing" in draw(empty, form)
    ET.fromstring(draw(empty, "svg"))
    assert draw(definition(), "mermaid").endswith("given --> returned")


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match=r"form must be one of text, svg, mermaid, got 'png'"):
        draw(definition(), "png")


def test_variables_that_a_step_does_not_name_come_from_the_catalogue_or_annotations():
    @dataclass(frozen=True)
    class Search:
        top_k: int = 3
        style: str = "plain"

        def __call__(self, query: Query) -> list[Passage]:
            return []

    spec = OperatorSpec("q.x", "", "", "", "", (), (), (), Port("queries", object))
    searching = definition("q.x", Step(use=Search(top_k=5), id="search"))
    lines = draw(searching, "text", {"q.x": spec}).splitlines()
    assert lines[2:4] == ["├─ q.x  → queries", "├─ search  Search  top_k = 5  → passages"]


PLACE = Place("f", 1, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (None, "None"),
        ("two\nlines", "two lines"),
        ([1, "a"], "[1, a]"),
        ({"a": {"b": 1}}, "{a: {b: 1}}"),
        ("x" * 99, "x" * 59 + "…"),
        (Scalar("0.40", quoted=False, place=PLACE), "0.40"),
        (Items((Scalar("a", quoted=True, place=PLACE),), PLACE), "[a]"),
        (Fields({"k": Scalar("v", quoted=False, place=PLACE)}, {}, PLACE), "{k: v}"),
        (
            Scalar("hunter2", quoted=False, place=PLACE, secrets=("hunter2",), written="${env:P}"),
            "${env:P}",
        ),
    ],
)
def test_options_are_plain_values_or_nodes_of_a_file_and_secrets_stay_references(value, text):
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"var": "judgement.score", "below": 0.6}, "judgement.score below 0.6"),
        ({"var": "kind", "equals": "a"}, "kind is a"),
        ({"var": "kind", "in": ["a", "b"]}, "kind is one of [a, b]"),
        ({"var": "flag"}, "flag"),
        ({"var": "x", "empty": True}, "x is empty"),
        (
            {"all": [{"var": "a"}, {"any": [{"var": "b"}, {"not": {"var": "c"}}]}]},
            "a and (b or not (c))",
        ),
        ({"judge": "judge.rule"}, "judge.rule passes"),
    ],
)
def test_conditions_in_words(data, text):
    assert condition_text(condition(data)) == text


def test_svg_leaves_room_for_the_arrows_from_arms_to_their_merge():
    arms = branch({"a": ["x.a"], "b": ["x.b"]}, merge={"passages": "fuse.rrf"})
    root = ET.fromstring(draw(definition(arms), "svg"))
    boxes = list(root.iter(f"{SVG}rect"))
    lanes = [box for box in boxes if box.get("class") == "lane"]
    merge = [box for box in boxes if box.get("class") == "step"][-1]
    for lane in lanes:
        assert float(merge.get("y")) == float(lane.get("y")) + float(lane.get("height")) + 30
