"""A router's model card: what was measured, what it was made of, and what it does not say."""

from types import SimpleNamespace

import pytest

from rag.evaluation.routing import Reach, RoutedQuery, routing_figures
from rag.evaluation.statistics import Interval
from rag.records import Route
from rag.routing.training.router_card import RouterFigures, RouterMaking, router_card


def made(**changes):
    queries = [
        SimpleNamespace(labels=("table",), source="ottqa"),
        SimpleNamespace(labels=("paragraph", "table"), source="nq"),
    ]
    told = {
        "command": "dovetail router train q -o mine --seed=0",
        "seed": 0,
        "data_sha": "abcd" * 16,
        "licences": ("ottqa: MIT", "nq: CC BY-SA 3.0"),
        "encoder": "minilm",
        "encoder_fingerprint": "12" * 32,
        "queries": queries,
        "course": {"time": "3.0 s"},
    }
    return RouterMaking(**(told | changes))


def figures(**changes):
    routed = [
        RoutedQuery("a", ("table",), Route(("table",), {"table": 0.9, "paragraph": 0.1}), "ottqa"),
        RoutedQuery("b", ("paragraph",), Route(("table",), {"table": 0.6, "paragraph": 0.4}), "nq"),
    ]
    told = {
        "folds": 5,
        "figures": routing_figures(routed, modalities={"table": "table", "paragraph": "text"}),
        "policies": {"single": Reach(Interval(0.5, 0.0, 1.0, 2), 1.0)},
        "of_sources": {"nq": Interval(0.0, 0.0, 0.0, 1), "ottqa": Interval(1.0, 1.0, 1.0, 1)},
        "left_out": {"nq": Interval(0.25, 0.0, 0.5, 1)},
    }
    return RouterFigures(**(told | changes))


def test_the_card_tells_data_and_figures():
    card = router_card(made(), figures())
    for part in (
        "    dovetail router train q -o mine --seed=0",
        "- time: 3.0 s",
        "- made for encoder minilm: `1212121212121212`",
        f"- SHA-256 of it: `{'abcd' * 16}`",
        "- 2 queries; labels: paragraph 1, table 2",
        "- sources: nq 1, ottqa 1",
        "- licence: ottqa: MIT\n- licence: nq: CC BY-SA 3.0",
        "| accuracy | 0.500 [0.000, 1.000] |\n| modality accuracy | 0.500 |",
        "| expected calibration error | 0.350 |",
        "| table | 0.500 | 1.000 | 0.667 | 1 |",
        "| single | 0.500 [0.000, 1.000] | 1.00 |",
        "| nq | 1 | 0.000 [0.000, 0.000] | 0.250 [0.000, 0.500] |",
        "| ottqa | 1 | 1.000 [1.000, 1.000] | - |",
        "## Limits",
    ):
        assert part in card
    assert card.endswith("most are not.\n")


def test_one_source_has_no_table():
    card = router_card(made(), figures(of_sources={"": Interval(0.5, 0.0, 1.0, 2)}))
    assert "source left out" not in card


def test_what_was_not_measured_is_said():
    queries = [SimpleNamespace(labels=("table",), source="")]
    card = router_card(made(licences=(), queries=queries), None)
    assert "## Figures\n\nNothing was measured.\n" in card
    assert "- sources" not in card
    assert "licence" not in card


@pytest.mark.parametrize("part", ["modality accuracy"])
def test_no_modality_no_line(part):
    routed = [RoutedQuery("a", ("table",), Route(("table",), {"table": 1.0}))]
    assert part not in router_card(made(), figures(figures=routing_figures(routed)))
