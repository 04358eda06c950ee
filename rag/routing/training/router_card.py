"""Model card of a router: what it is, how it was made, how often it is right, where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag.evaluation.routing import Reach, RoutingFigures
from rag.evaluation.statistics import Interval
from rag.training.card_parts import bullets, table

if TYPE_CHECKING:
    from rag.routing.labelled_queries import LabelledQuery

_WHAT = (
    "Sends a question to the corpora that can answer it, with a probability for each. Use: "
    "`route.classifier` with `model:` this folder."
)
_POLICIES = (
    "What policies take: the share of queries with every label that they need, and how many "
    "labels a query is sent to."
)
_SOURCES = (
    "Accuracy by source, and where the router learned from the other sources only. A dash: no "
    "other source has its labels."
)
_LIMITS = (
    (
        "It knows the labels above and no other, and the encoder whose hash stands above: another "
        "encoder needs its own router."
    ),
    (
        "It learns from wording. Where each label comes from sources of its own, it learns to tell "
        "the sources: the figures of sources left out say what then remains on other questions."
    ),
    (
        "Probabilities are calibrated on queries like those that it learned from. On queries of "
        "another kind they are too sure; the farthest are marked as fallbacks, most are not."
    ),
)


@dataclass(frozen=True, slots=True)
class RouterMaking:
    """How a router was made.

    Attributes:
        command: that made it.
        seed: of everything drawn.
        data_sha: SHA-256 of the queries.
        licences: what the data says of its licence.
        encoder: its name.
        encoder_fingerprint: its hash.
        queries: what the router learned from.
        course: facts of the training, by name.
    """

    command: str
    seed: int
    data_sha: str
    licences: Sequence[str]
    encoder: str
    encoder_fingerprint: str
    queries: Sequence[LabelledQuery]
    course: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouterFigures:
    """What was measured on queries that a router had not learned from.

    Attributes:
        folds: how many parts, each routed by what learned from the others.
        figures: over all queries.
        policies: what policies hit and cost, by name.
        of_sources: accuracy by source, from the same routes.
        left_out: accuracy by source, from routers that learned from the other sources.
    """

    folds: int
    figures: RoutingFigures
    policies: Mapping[str, Reach]
    of_sources: Mapping[str, Interval]
    left_out: Mapping[str, Interval]


def router_card(made: RouterMaking, found: RouterFigures | None) -> str:
    """Return the card as Markdown.

    Args:
        made: how the router was made.
        found: its figures; None where nothing was measured.
    """
    parts = [
        "# Router",
        _WHAT,
        "## How it was made",
        f"    {made.command}",
        bullets(_making(made)),
        "## Training data",
        bullets(_data(made)),
        "## Figures",
        *(["Nothing was measured."] if found is None else _figures(found)),
        "## Limits",
        bullets(_LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def shown(one: Interval) -> str:
    """Return a share with its interval."""
    return f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _making(made: RouterMaking) -> list[str]:
    return [
        f"seed: {made.seed}",
        *(f"{name}: {value}" for name, value in made.course.items()),
        f"made for encoder {made.encoder}: `{made.encoder_fingerprint[:16]}`",
    ]


def _data(made: RouterMaking) -> list[str]:
    labels = Counter(label for one in made.queries for label in one.labels)
    sources = Counter(one.source for one in made.queries if one.source)
    told = [
        f"SHA-256 of it: `{made.data_sha}`",
        f"{len(made.queries):,} queries; labels: {_listed(labels)}",
    ]
    told += [f"sources: {_listed(sources)}"] if sources else []
    return told + [f"licence: {one}" for one in made.licences]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _figures(found: RouterFigures) -> list[str]:
    whole = found.figures
    rows = [
        ("accuracy", shown(whole.accuracy)),
        ("macro-F1", shown(whole.macro_f1)),
        ("expected calibration error", f"{whole.ece:.3f}"),
        ("routes marked as fallback", f"{whole.fallbacks:.3f}"),
    ]
    if whole.modality_accuracy is not None:
        rows.insert(1, ("modality accuracy", f"{whole.modality_accuracy:.3f}"))
    labels = [
        (name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", f"{one.support:,}")
        for name, one in whole.labels.items()
    ]
    parts = [
        (
            f"Each of {found.folds} parts of the {whole.questions:,} queries, routed by a router "
            "that learned from the others, with 95 % bootstrap intervals over queries."
        ),
        table(("", "all"), rows),
        table(("label", "precision", "recall", "F1", "queries"), labels),
        _POLICIES,
        table(
            ("policy", "hit", "labels a query"),
            [(name, shown(of.hit), f"{of.corpora:.2f}") for name, of in found.policies.items()],
        ),
    ]
    if len(found.of_sources) > 1:
        sources = [
            (name or "(none)", f"{one.n:,}", shown(one), _left_out(name, found.left_out))
            for name, one in found.of_sources.items()
        ]
        parts += [
            _SOURCES,
            table(("source", "queries", "accuracy", "accuracy, source left out"), sources),
        ]
    return parts


def _left_out(source: str, found: Mapping[str, Interval]) -> str:
    return shown(found[source]) if source in found else "-"
