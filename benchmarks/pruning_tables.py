"""The tables of the pruning page, each from the statistics of one part."""

from __future__ import annotations

from collections.abc import Sequence

from pruning_rows import PLACES
from pruning_scorers import COSINE, TIER_1
from pruning_values import BASE_RANKINGS, COMPRESSIONS, RANKED, THRESHOLDS, Value, Values
from retrieval_grid import table

KINDS = ("with gold", "without gold", "no answer")


def number(found: Value | None) -> str:
    """Return a statistic as a table shows it; nothing if there is none."""
    return "" if found is None else f"{found.value:.3f}"


def whole(found: Value | None) -> str:
    """Return a statistic with its interval."""
    return "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def gain(found: Value | None) -> str:
    """Return a difference with its interval; one whose interval holds 0 is written as none."""
    if found is None:
        return ""
    told = f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    return f"none ({told})" if found.low <= 0.0 <= found.high else told


def main_table(values: Values, data: str) -> str:
    """Return areas, and what the threshold of 90 and 95 % recall prunes."""
    rows = [
        [
            f"`{name}`",
            *(number(values.get("sentences", data, name, stat)) for stat in ("AUC", "AP")),
            number(values.get("sentences", data, name, "comp@R90")),
            whole(values.get("sentences", data, name, "comp@R95")),
            *(
                gain(values.get("sentences", data, name, "comp@R95", other))
                for other in (COSINE, TIER_1)
            ),
            number(values.get("sentences", data, name, "Kept@SentR95")),
        ]
        for name in values.scorers("sentences", data)
    ]
    versus = [f"comp@R95 - `{other}`" for other in (COSINE, TIER_1)]
    return table(["", "AUC", "AP", "comp@R90", "comp@R95", *versus, "Kept@SentR95"], rows)


def equal_table(values: Values, data: str) -> str:
    """Return what is kept at 95 % recall, and where equal shares of the text are pruned."""
    shares = [f"C{100 * share:.0f}" for share in COMPRESSIONS]
    columns = [
        *((f"{kind}, 95 % recall", f"{kind}@R95") for kind in ("AnswerKept", "AllGold")),
        *(
            (f"{kind}, {share[1:]} % pruned", f"{kind}@{share}")
            for share in shares
            for kind in ("SentR", "AnswerKept", "AllGold")
        ),
    ]
    rows = []
    for name in values.scorers("sentences", data):
        cells = [number(values.get("sentences", data, name, stat)) for _, stat in columns]
        cells += [
            gain(values.get("sentences", data, name, f"SentR@{shares[-1]}", other))
            for other in (COSINE, TIER_1)
        ]
        rows.append([f"`{name}`", *cells])
    versus = [f"SentR, {shares[-1][1:]} % pruned - `{other}`" for other in (COSINE, TIER_1)]
    return table(["", *(title for title, _ in columns), *versus], rows)


def thresholds_table(values: Values, data: str) -> str:
    """Return recall and compression at fixed thresholds, and how many passages become empty."""
    rows = []
    for name in values.scorers("sentences", data):
        cells = [f"`{name}`"]
        for threshold in THRESHOLDS:
            recall, pruned = (
                number(values.get("sentences", data, name, f"{stat}@T{threshold}"))
                for stat in ("SentR", "Compression")
            )
            cells.append(f"{recall} / {pruned}")
        found = values.get("sentences", data, name, "T@R95")
        cells.append("" if found is None else f"{found.value:.4g}")
        cells += [number(values.get("empty", data, name, kind)) for kind in KINDS]
        rows.append(cells)
    header = [
        "",
        *(f"T = {threshold}: SentR / pruned" for threshold in THRESHOLDS),
        "T of 95 % recall",
        *(f"emptied: {kind}" for kind in KINDS),
    ]
    return table(header, rows)


def places_table(values: Values) -> str:
    """Return how many gold sentences stay by their place in the passage, and the spread."""
    rows = []
    for data in values.data("places"):
        for name in values.scorers("places", data):
            first = values.get("places", data, name, PLACES[0])
            rows.append(
                [
                    data,
                    f"`{name}`",
                    "" if first is None else f"{first.n}",
                    *(whole(values.get("places", data, name, place)) for place in PLACES),
                    number(values.get("places", data, name, "spread")),
                ]
            )
    return table(["", "scorer", "n", *PLACES, "spread"], rows)


def rankings_table(values: Values) -> str:
    """Return rankings of the same candidates, and what scorers that rerank gain over the index."""
    rows = []
    for data in values.data("ranking"):
        for name in values.scorers("ranking", data):
            first = values.get("ranking", data, name, RANKED[0])
            rows.append(
                [
                    data,
                    f"`{name}`",
                    "" if first is None else f"{first.n}",
                    *(whole(values.get("ranking", data, name, metric)) for metric in RANKED),
                    *(
                        gain(values.get("ranking", data, name, RANKED[0], other))
                        for other in BASE_RANKINGS
                    ),
                ]
            )
    versus = [f"{RANKED[0]} - `{other}`" for other in BASE_RANKINGS]
    return table(["", "ranking", "n", *RANKED, *versus], rows)


def times_table(values: Values) -> str:
    """Return the time a passage takes: median, and 5th to 95th percentile of questions."""
    sets = values.data("times")
    rows = []
    for name in values.scorers("times"):
        cells = [f"`{name}`"]
        for data in sets:
            found = values.get("times", data, name, "ms")
            cells.append(
                "" if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
            )
        rows.append(cells)
    return table(["", *(f"{data}, ms" for data in sets)], rows)


def present(values: Values, names: Sequence[str], data: str) -> list[str]:
    """Return those of some scorers that a data set has statistics of."""
    known = values.scorers("sentences", data)
    return [name for name in names if name in known]
