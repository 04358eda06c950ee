"""Curves of a journal: named ones are drawn, on the axis and in the legend that they ask for."""

import xml.etree.ElementTree as ET

from rag.training.loss_picture import Curve, loss_svg

RECORDS = [{"step": step, "loss_a": 2.0 / step, "nll": 0.5} for step in range(1, 11)]


def paths(image):
    found = [one for one in ET.fromstring(image) if one.tag.endswith("path")]
    return {one.attrib["class"]: one.attrib["d"] for one in found}


def heights(path):
    return [float(point.split(" ")[1]) for point in path[1:].split("L")]


def test_left_curves_share_a_scale_and_shares_are_percent():
    image = loss_svg(
        RECORDS,
        "x",
        [Curve("loss_a", "a", "#000", "#fff"), Curve("nll", "", "#111", "#eee", share=True)],
        note="in nats",
    )
    drawn = paths(image)
    ground, top = 400 - 46, 64
    assert heights(drawn["loss_a"])[0] == round(ground - (ground - top) * 2.0 / 2.1, 1)
    assert set(heights(drawn["nll"])) == {(ground + top) / 2}
    assert ">a</text>" in image
    assert ">in nats</text>" in image
    assert "100 %" in image


def test_without_shares_there_is_no_right_axis():
    assert " %</text>" not in loss_svg(RECORDS, "x", [Curve("nll", "n", "#111", "#eee")])


def test_a_curve_that_the_journal_lacks_is_left_out():
    drawn = paths(loss_svg(RECORDS, "x", [Curve("other", "o", "#111", "#eee")]))
    assert set(drawn) == {"grid"}


def test_smoothed_curves_have_fewer_points():
    records = [{"step": step, "loss": 1.0} for step in range(1, 1001)]
    plain = paths(loss_svg(records, "x", [Curve("loss", "", "#000", "#fff")]))
    smooth = paths(loss_svg(records, "x", [Curve("loss", "", "#000", "#fff", smooth=True)]))
    assert len(heights(plain["loss"])) == 1000
    assert len(heights(smooth["loss"])) <= 120
