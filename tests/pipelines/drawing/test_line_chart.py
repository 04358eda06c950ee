"""Charts of lines: where points stand, one colour a name, names and panels in their places."""

from xml.etree import ElementTree as ET

import pytest

from pipelines.drawing.line_chart import COLOURS, HEIGHT, WIDTH, Panel, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(panels, **options):
    return ET.fromstring(line_chart(panels, title="All", across="x", up="y", **options))


def polylines(root):
    return [
        (one.get("stroke"), [tuple(map(float, p.split(","))) for p in one.get("points").split()])
        for one in root.iter(f"{SVG}polyline")
    ]


def test_the_corners_are_the_ends_of_the_axes():
    root = drawn([Panel("one", {"a": [(0, 0), (1, 1), (1, 0)]}, {"a": (0.5, 0.5)})])
    ((_, (low, high, right)),) = polylines(root)
    assert low[0] < high[0] == right[0]
    assert high[1] < low[1] == right[1]
    (mark,) = root.iter(f"{SVG}circle")
    assert float(mark.get("cx")) == pytest.approx((low[0] + high[0]) / 2, abs=0.1)
    assert float(mark.get("cy")) == pytest.approx((low[1] + high[1]) / 2, abs=0.1)
    assert mark.get("fill") == COLOURS[0]


def test_a_name_has_one_colour_and_one_place_in_the_legend():
    panels = [Panel("one", {"a": [(0, 0)], "b": [(0, 0)]}), Panel("two", {"b": [(0, 0)]})]
    root = drawn(panels)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts.count("a") == texts.count("b") == 1
    assert [colour for colour, _ in polylines(root)] == [COLOURS[at] for at in (0, 1, 1, 0, 1)]


def test_one_line_needs_no_legend():
    root = drawn([Panel("one", {"a": [(0, 0), (1, 1)]})])
    assert "a" not in [text.text for text in root.iter(f"{SVG}text")]
    assert (float(root.get("width")), float(root.get("height"))) == (WIDTH, HEIGHT)


def test_panels_stand_in_rows():
    root = drawn([Panel(f"p{n}", {"a": [(0, 0)]}) for n in range(5)], columns=2)
    places = [group.get("transform") for group in root.iter(f"{SVG}g")]
    assert places[:3] == [
        "translate(0 0)",
        f"translate({WIDTH:.0f} 0)",
        f"translate(0 {HEIGHT:.0f})",
    ]
    assert float(root.get("height")) == 3 * HEIGHT


def test_text_is_escaped():
    assert "a &lt; b" in line_chart([Panel("a < b", {})], title="<", across="x", up="y")


@pytest.mark.parametrize(
    ("panels", "columns", "message"),
    [
        ([], 1, "panels must be at least one, got none"),
        ([Panel("one", {})], 0, "columns must be at least 1, got 0"),
    ],
)
def test_refuses(panels, columns, message):
    with pytest.raises(ValueError, match=message):
        drawn(panels, columns=columns)
