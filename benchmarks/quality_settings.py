"""What is compared: the settings of every part of the quality page, and the order passages take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from rag.generation.graph_edges import GraphEdges
from rag.generation.plan import ContextWeights, Recompute

if TYPE_CHECKING:
    from rag.generation.plan import Deviation
    from rag.generation.templates import PromptName
    from rag.records import Passage

Place = Literal["first", "middle", "last"]
PLACES: tuple[Place, ...] = get_args(Place)
Layout = Literal["modes", "question", "sentences"]
TEMPERATURES = (0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0)
SCALES = (0.8, 0.9, 1.0, 1.1)
BIASES = (-0.5, -0.25, 0.25, 0.5, 1.0)
BIASED = ((0.8, 1.0), (1.0, 1.0))
"""Temperature and scale of the cells that a bias is tried on."""
SERIAL_REPAIRS: tuple[tuple[float, Deviation], ...] = (
    (0.05, "value"),
    (0.15, "value"),
    (0.3, "value"),
    (0.15, "key"),
)
"""Shares of rows that are computed anew at serial positions, and what chooses them."""
EXACT = "sequential"
AGAIN = "again"
"""Ends the name under which a device reports the exact mode where another one did so before."""
APE = ContextWeights(0.8, 1.0)
PAPER = ContextWeights(0.9, 0.9)
TOP_1 = GraphEdges("into_top_k", 1)


@dataclass(frozen=True)
class Setting:
    """One way to read the passages of a question.

    Attributes:
        name: unique within its part.
        options: of `GenerateCached`.
        pruned: whether only the sentences that the pruner keeps are read.
        place: where the gold passages stand among the others; None for the retrieved order.
        answers: whether an answer is decoded; else only likelihoods are measured.
        watched: whether attention mass is kept.
        pruner: whose kept sentences are read, if not those of the one that questions come with.
        layout: `modes` is the plan of `GenerateCached`; `question` reads no passage; `sentences`
            reads each kept sentence as it is when it was encoded alone, in the places of `block`.
        prompt: name of the prompt template.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    pruned: bool = False
    place: Place | None = None
    answers: bool = True
    watched: bool = False
    pruner: str = ""
    layout: Layout = "modes"
    prompt: PromptName = "examples"

    @property
    def exact(self) -> bool:
        """Whether it is the exact mode, which others are compared with."""
        return self.options.get("mode") == EXACT

    @property
    def read_alike(self) -> tuple[bool, Place | None, str]:
        """Settings with the same value read the same tokens in the same order."""
        return self.pruned, self.place, self.pruner


@dataclass(frozen=True)
class Part:
    """A family of settings over the same questions; each begins with its exact mode.

    Attributes:
        name: of the part.
        passages: how many are read.
        questions: of each data set, the first ones.
        settings: what is compared.
        calibrating: whether it takes the questions kept for choosing weights.
    """

    name: str
    passages: int
    questions: int
    settings: tuple[Setting, ...]
    calibrating: bool = False


def grid() -> list[tuple[str, ContextWeights]]:
    """Return APE's weights that are tried, with their names."""
    plain = [ContextWeights(t, s) for t in TEMPERATURES for s in SCALES]
    biased = [ContextWeights(t, s, b) for t, s in BIASED for b in BIASES]
    return [(told(weights), weights) for weights in (*plain, *biased)]


def told(weights: ContextWeights) -> str:
    """Return weights as a table tells them."""
    bias = f" b={weights.bias:g}" if weights.bias else ""
    return f"T={weights.temperature:g} S={weights.scale:g}{bias}"


def first_part() -> Part:
    """Return the part that chooses APE's weights, on questions that are reported nowhere else."""
    cells = [
        Setting(name, {"mode": "ape", "weights": weights}, answers=False)
        for name, weights in grid()
    ]
    return Part("grid", 5, 60, (Setting(EXACT, {"mode": EXACT}), *cells), calibrating=True)


def parts(calibrated: Mapping[str, ContextWeights]) -> list[Part]:
    """Return the other parts, the most important first.

    Args:
        calibrated: weights that were chosen, by what they were chosen for.
    """
    main = _main(calibrated)
    pruned = tuple(
        replace(setting, name=f"{setting.name}, pruned", pruned=True, watched=False)
        for setting in main
        if setting.name in {EXACT, "parallel", "ape", "ape, serial", "block", "into_top_1"}
    )
    in_place = tuple(
        replace(setting, name=f"{setting.name}, in place", options={**setting.options, **kept})
        for setting in pruned
        for kept in ({"repack": False},)
        if setting.name in {"ape, pruned", "parallel, pruned"}
    )
    ten = tuple(
        replace(setting, watched=False)
        for setting in main
        if not setting.name.startswith(("ape, paper", "ape, serial"))
    )
    return [
        Part("five", 5, 200, (*main, *pruned, *in_place)),
        Part("ten", 10, 100, ten),
        Part("repairs", 5, 60, (Setting(EXACT, {"mode": EXACT}), *_repairs(), *_edges())),
        Part("places", 5, 60, _places()),
    ]


def _main(calibrated: Mapping[str, ContextWeights]) -> tuple[Setting, ...]:
    chosen = dict.fromkeys(calibrated.values())
    named = {
        weights: ", ".join(how for how, one in calibrated.items() if one == weights)
        for weights in chosen
    }
    return (
        Setting(EXACT, {"mode": EXACT}, watched=True),
        Setting("parallel", {"mode": "parallel"}),
        Setting("ape", {"mode": "ape", "weights": APE}, watched=True),
        Setting("ape, paper's weights", {"mode": "ape", "weights": PAPER}),
        *(
            Setting(f"ape, least {how}", {"mode": "ape", "weights": weights})
            for weights, how in named.items()
        ),
        Setting("ape, serial", _ape(positions="serial")),
        Setting("block", {"mode": "block"}),
        Setting("into_top_1", {"mode": "graph", "graph": TOP_1}, watched=True),
        *(
            Setting(f"into_top_{k}", {"mode": "graph", "graph": GraphEdges("into_top_k", k)})
            for k in (2, 3)
        ),
    )


def _repairs() -> list[Setting]:
    serial = _ape(positions="serial")
    found: dict[str, dict[str, Any]] = {"ape, serial": serial}
    for name, options in (("ape", _ape()), ("block", {"mode": "block"})):
        found[f"{name}, prefix not seen"] = {**options, "see_prefix": False}
        for first in (4, 16, 32):
            found[f"{name}, first {first} anew"] = {**options, "recompute": Recompute(first)}
        for by in ("value", "key"):
            for share in (0.05, 0.15, 0.3):
                found[f"{name}, {share:.0%} anew by {by}"] = {
                    **options,
                    "recompute": _differing(share, by),
                }
        found[f"{name}, passages twice"] = {**options, "repeat_passages": True}
    found["ape, serial, first 16 anew"] = {**serial, "recompute": Recompute(16)}
    for share, by in SERIAL_REPAIRS:
        repair = _differing(share, by)
        found[f"ape, serial, {share:.0%} anew by {by}"] = {**serial, "recompute": repair}
    return [Setting(name, options, answers=False) for name, options in found.items()]


def _differing(share: float, by: Deviation) -> Recompute:
    return Recompute(share=share, by=by)


def _ape(**others: object) -> dict[str, Any]:
    return {"mode": "ape", "weights": APE, **others}


def _edges() -> list[Setting]:
    found: dict[str, dict[str, Any]] = {
        "into_top_1, cached one too": {"graph": replace(TOP_1, keep_round0=True)},
        "into_top_1, sees itself": {"graph": replace(TOP_1, self_edge=True)},
        "into_top_1, serial": {"graph": TOP_1, "positions": "serial"},
        "from_top_1": {"graph": GraphEdges("from_top_m", 1)},
        "from_top_3": {"graph": GraphEdges("from_top_m", 3)},
        "full": {"graph": GraphEdges("full")},
        "full, 2 rounds": {"graph": GraphEdges("full", rounds=2)},
        "chain": {"graph": GraphEdges("chain")},
        "corpus": {"graph": GraphEdges("corpus")},
    }
    return [
        Setting(name, {"mode": "graph", **options}, answers=False)
        for name, options in found.items()
    ]


def _places() -> tuple[Setting, ...]:
    modes: dict[str, dict[str, Any]] = {
        EXACT: {"mode": EXACT},
        "block": {"mode": "block"},
        "parallel": {"mode": "parallel"},
        "ape": _ape(),
        "into_top_1": {"mode": "graph", "graph": TOP_1},
    }
    return tuple(
        Setting(f"{name}, gold {place}", options, place=place)
        for place in PLACES
        for name, options in modes.items()
    )


def ordered(
    passages: Sequence[Passage], gold: frozenset[str], place: Place | None
) -> list[Passage]:
    """Return passages with the gold ones side by side at a place of the prompt, best first.

    A prompt reads the list from its end, so the place `last` is the front of the list. Gold and
    other passages keep their order among themselves; with an odd one out the middle is the place
    closer to the question.

    Args:
        passages: best first.
        gold: ids of documents.
        place: as the model reads; None leaves the order.
    """
    if place is None:
        return list(passages)
    those = [passage for passage in passages if passage.document in gold]
    others = [passage for passage in passages if passage.document not in gold]
    before = {"last": 0, "middle": len(others) // 2, "first": len(others)}[place]
    return [*others[:before], *those, *others[before:]]


def edges_to(best: str, passages: Sequence[Passage]) -> GraphEdges:
    """Return the edges of `into_top_1` for passages whose best one need not stand in front.

    Args:
        best: id of the target.
        passages: in the order that a generator is given; at least two.
    """
    target = [passage.id for passage in passages].index(best) + 1
    ranks = range(1, len(passages) + 1)
    pairs = tuple((rank, target) for rank in ranks if rank != target)
    return GraphEdges("explicit", pairs=pairs)
