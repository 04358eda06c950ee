"""The tables of the page on adaptation, each from the values of one data set."""

from __future__ import annotations

from collections.abc import Sequence

from adaptation_goals import counts, exact_pair
from adaptation_settings import BEST_PROMPTS
from adaptation_values import ADAPTED, BASE, SIDES, of_side, settings_of, told_where
from quality_tables import change, number
from quality_values import Measured
from retrieval_grid import shown, table

ANSWERS = {"em": "EM", "f1": "F1", "nll": "NLL"}
EVIDENCE = {"cite_sentence": "sentences", "cite_document": "documents"}


def sides_of(one: Measured) -> list[str]:
    """Return the sides that there are rows of."""
    return [
        side for side in SIDES if settings_of(one, side) or settings_of(one, side, metric=GIVEN)
    ]


GIVEN = "refused"
"""A metric of all unanswerable questions; of the others it is F1."""


def answers_table(one: Measured) -> str:
    """Return EM, F1 and NLL of every setting, base and adapted, with intervals."""
    sides = sides_of(one)
    rows = []
    for name in settings_of(one, *sides):
        cells = [_mean(one.of(of_side(side, name), metric)) for metric in ANSWERS for side in sides]
        rows.append([f"`{name}`", _n(one, sides, name), *cells])
    header = [f"{title}, {side}" for title in ANSWERS.values() for side in sides]
    return table(["", "n", *header], rows) if rows else ""


def differences_table(one: Measured) -> str:
    """Return what adaptation changes in each setting, and what reading cached rows changes."""
    sides = sides_of(one)
    rows = []
    for name in settings_of(one, *sides):
        base, adapted = (of_side(side, name) for side in (BASE, ADAPTED))
        gained = [one.paired(base, adapted, "f1")] if len(sides) > 1 else []
        # Another prompt is no other way to read.
        cached = name in BEST_PROMPTS
        lost = [None if cached else exact_pair(one, side, name, "f1") for side in sides]
        nll = [None if cached else exact_pair(one, side, name, "nll") for side in sides]
        pairs = [*gained, *lost, *nll]
        known = [pair.n for pair in pairs if pair is not None]
        computed = [value for side in sides for value in one.of(of_side(side, name), "computed")]
        rows.append(
            [
                f"`{name}`",
                counts(known),
                *map(change, pairs),
                number(sum(computed) / len(computed), 0),
            ]
        )
    header = [
        *(["F1, adapted - base"] if len(sides) > 1 else []),
        *(f"{title}, {side}: - sequential" for title in ("F1", "NLL") for side in sides),
    ]
    return table(["", "n", *header, "computed"], rows) if rows else ""


def evidence_table(one: Measured) -> str:
    """Return how many citations are gold, and how many answers have none."""
    sides = sides_of(one)
    rows = []
    for name in settings_of(one, *sides):
        cited = [one.of(of_side(side, name), metric) for metric in EVIDENCE for side in sides]
        none = [told_where(one, of_side(side, name), "unsupported", "f1") for side in sides]
        tokens = [told_where(one, of_side(side, name), "answer_tokens", "f1") for side in sides]
        rows.append(
            [
                f"`{name}`",
                counts([len(values) for values in cited if values]),
                *map(_mean, cited),
                *map(_share, none),
                *(number(sum(of) / len(of), 1) if of else "" for of in tokens),
            ]
        )
    header = [
        *(f"gold {title}, {side}" for title in EVIDENCE.values() for side in sides),
        *(f"unsupported, {side}" for side in sides),
        *(f"tokens, {side}" for side in sides),
    ]
    return table(["", "n", *header], rows) if rows else ""


def refusals_table(one: Measured) -> str:
    """Return how many unanswerable questions are refused, and how many answerable ones."""
    sides = sides_of(one)
    rows = []
    unanswerable = bool(settings_of(one, *sides, metric=GIVEN))
    for name in settings_of(one, *sides, metric=GIVEN if unanswerable else "lost"):
        named = [of_side(side, name) for side in sides]
        refused = [one.of(full, GIVEN) for full in named]
        none = [told_where(one, full, "unsupported", GIVEN) for full in named]
        lost = [one.of(full, "lost") for full in named]
        cells = [
            counts([len(values) for values in refused if values]),
            *map(_mean, refused),
            *map(_share, none),
        ]
        rows.append(
            [
                f"`{name}`",
                *(cells if unanswerable else []),
                counts([len(values) for values in lost if values]),
                *map(_mean, lost),
            ]
        )
    told = [f"{what}, {side}" for what in ("refused", "unsupported") for side in sides]
    header = [
        *(["n unanswerable", *told] if unanswerable else []),
        "n answerable",
        *(f"lost, {side}" for side in sides),
    ]
    return table(["", *header], rows) if rows else ""


def _n(one: Measured, sides: Sequence[str], name: str) -> str:
    return counts([n for side in sides if (n := len(one.of(of_side(side, name), "f1")))])


def _mean(values: Sequence[float]) -> str:
    return shown(values) if values else ""


def _share(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.0%}" if values else ""
