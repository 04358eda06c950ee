"""What is compared where a pruner decides which cached rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from quality_settings import APE, EXACT, TOP_1, Part, Setting

from rag.generation.context_planner import ContextPlanner
from rag.generation.cost_model import CostModel

FEATURES, PROVENCE, MIX, ORACLE = "features", "provence", "sentences", "oracle"
CAREFUL = f"{FEATURES} 98 %"
"""The same at a threshold that keeps more, which its model card advises for several hops."""
PRUNERS = (FEATURES, CAREFUL, PROVENCE, MIX, ORACLE)
PART, PASSAGES, QUESTIONS = "rows", 5, 200
SIZES = (2, 3, 5, 10, 20)
"""Passages of a context that the first token is timed on."""
NOTHING, PREFIX = "no context", "prefix"
PRUNING = f"pruner {FEATURES}"
"""The name under which the pruner's own time stands."""
BLOCK, SERIAL, GRAPH = "block", "ape, serial", "into_top_1"
COST = CostModel(
    prefill_tokens_per_s=2000.0,
    load_bytes_per_s=2e9,
    kv_bytes_per_token=23_040.0,
    rotation_s_per_token=1e-5,
    decode_s_per_row=1e-6,
)
"""Of the default model on two cores of a server, in round numbers, so that every machine plans
alike."""
SLACKS_MS = (50, 150)
ROWS: dict[str, dict[str, Any]] = {
    BLOCK: {"mode": "block"},
    SERIAL: {"mode": "ape", "weights": APE, "positions": "serial"},
    GRAPH: {"mode": "graph", "graph": TOP_1},
}
"""Ways to read cached passages."""
GAPS: dict[str, dict[str, Any]] = {
    f"{BLOCK}, gaps": {"mode": "parallel", "positions": "serial", "repack": False},
    f"{SERIAL}, gaps": {**ROWS[SERIAL], "repack": False},
}
"""`block` with its rows left where they were is `parallel` at serial positions."""
ALONE = f"{BLOCK}, sentences alone"


def planned(slack_ms: float) -> str:
    """Return the name of the planner's setting with some slack."""
    return f"auto, {slack_ms:g} ms"


def of_pruner(pruner: str, name: str) -> str:
    """Return the name of a setting that reads what a pruner keeps."""
    return f"{pruner}: {name}"


def pruned_settings(pruner: str) -> Iterable[Setting]:
    """Yield the ways to read what a pruner keeps, the text first."""

    def made(name: str, **others: Any) -> Setting:
        return Setting(of_pruner(pruner, name), pruner=pruner, **others)

    yield made(EXACT, options={"mode": EXACT})
    for name, options in (*ROWS.items(), *GAPS.items()):
        yield made(name, options=options)
    yield made(ALONE, options={"mode": "block"}, layout="sentences")
    for slack in SLACKS_MS:
        planner = ContextPlanner("auto", COST, slack / 1e3)
        yield made(planned(slack), options={"mode": "block", "context": planner})


def part_of(pruners: Iterable[str]) -> Part:
    """Return the part that is asked, with every way to read what some pruners keep."""
    whole = [
        Setting(EXACT, {"mode": EXACT}),
        Setting(NOTHING, layout="question"),
        *(Setting(name, options) for name, options in ROWS.items()),
    ]
    pruned = [setting for pruner in pruners for setting in pruned_settings(pruner)]
    return Part(PART, PASSAGES, QUESTIONS, (*whole, *pruned))


def timed_part(pruners: Sequence[str], size: int) -> Part:
    """Return what the first token is timed on with a context of so many passages."""
    settings: list[Setting] = []
    for setting in part_of(pruners).settings:
        settings.append(setting)
        if setting.exact:
            name = of_pruner(setting.pruner, PREFIX) if setting.pruner else PREFIX
            settings.append(replace(setting, name=name, options={"mode": PREFIX}))
    return Part(sized(size), size, QUESTIONS, tuple(settings))


def sized(size: int) -> str:
    """Return the name of the part with a context of so many passages."""
    return f"{size} passages"
