"""Reliability as an SVG image: how often routes are right, against how probable they said it is."""

from collections.abc import Mapping, Sequence

from pipelines.drawing.line_chart import Panel, line_chart
from rag.evaluation.routing import ReliabilityBin, calibration_error

PERFECT = "as probable as said"


def reliability_svg(routers: Mapping[str, Sequence[ReliabilityBin]], *, columns: int = 3) -> str:
    """Return the image, a panel a router, with its expected calibration error in the title.

    A bin stands at its mean probability; a router that is as often right as it says follows the
    diagonal, and one below it is too sure.

    Args:
        routers: bins of each, by name; at least one router.
        columns: panels in a row.
    """
    return line_chart(
        [
            Panel(
                f"{name}: ECE {calibration_error(bins):.3f}",
                {
                    PERFECT: [(0.0, 0.0), (1.0, 1.0)],
                    "measured": [(one.confidence, one.accuracy) for one in bins],
                },
            )
            for name, bins in routers.items()
        ],
        title="Share of right routes against the probability of the top label",
        across="probability of the top label",
        up="right routes",
        columns=columns,
    )
