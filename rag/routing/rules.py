"""Rule routing: labels whose patterns a question matches."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag.records import Query, Route


@dataclass(frozen=True)
class RuleRouter:
    """Routes a question by patterns that a person wrote.

    Every label with a matching pattern is chosen, in declared order, each as probable as the other.
    If none matches, the default is, as a fallback; without a default the route has no label.

    Attributes:
        rules: label to regular expressions, searched anywhere in the question whatever the case.
        default: label for questions that match nothing, or None.

    Raises:
        ValueError: naming label and pattern that are no regular expression.
    """

    rules: Mapping[str, tuple[str, ...]]
    default: str | None = None

    def __post_init__(self) -> None:
        for label, patterns in self.rules.items():
            _check(label, patterns)

    def __call__(self, query: Query) -> Route:
        """Return the labels that match, with the probability of every label."""
        labels = tuple(
            label
            for label, patterns in self.rules.items()
            if any(re.search(pattern, query.text, re.IGNORECASE) for pattern in patterns)
        )
        others = () if self.default is None else (self.default,)
        chosen = labels or others
        known = dict.fromkeys((*self.rules, *others))
        probs = {label: 1.0 / len(chosen) if label in chosen else 0.0 for label in known}
        return Route(chosen, probs, "rules", fallback=not labels and bool(others))


def _check(label: str, patterns: Sequence[str]) -> None:
    if isinstance(patterns, str):
        raise ValueError(f"rules[{label!r}] must be a list of patterns, got {patterns!r}")  # noqa: TRY004
    for pattern in patterns:
        try:
            re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise ValueError(
                f"rules[{label!r}] must hold regular expressions, got {pattern!r}: {error}"
            ) from error
