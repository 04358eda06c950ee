"""Routes to corpora: a policy chooses the labels, and those without a passage give way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Route
from rag.routing.decision import NONE
from rag.routing.labels import MODALITIES, modality_of
from rag.routing.policies import Policy, taken


@dataclass(frozen=True)
class CorpusRouter:
    """Turns a router's decision into the corpora that are asked, all of which have passages.

    A label whose corpus is empty or missing gives way to the most probable one of its modality that
    has passages. Where that modality has none it is left out, as long as others stay; where none
    stays, the most probable corpus of any modality is asked. Whatever changes is a fallback, and
    the route's reason says so. `none` goes alone, where it is more probable
    than all corpora together, or not at all.
    Source: Yeo et al. 2025 (UniversalRAG), arXiv:2504.20734, which routes to one corpus; the
    policies and the fallback are ours.

    Attributes:
        corpora: labels of the corpora with passages, in order; ties go to the first.
        empty: labels of corpora without any.
        modalities: of labels; one that is not there is a modality of its own.
        policy: see `rag.routing.policies`.
        threshold: of the policy, in [0, 1].
        most: of the policy `unsure`: labels where the router is not sure, at least 1.
        place: what errors call the corpora, such as their folder.

    Raises:
        ValueError: if no corpus has passages, or a setting is not allowed.
    """

    corpora: tuple[str, ...]
    empty: tuple[str, ...] = ()
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))
    policy: Policy = "top_p"
    threshold: Annotated[float, Bounds(0, 1)] = 0.9
    most: Annotated[int, Bounds(low=1)] = 2
    place: str = "the corpora"

    def __post_init__(self) -> None:
        if not self.corpora:
            listed = ", ".join(self.empty) or "no label"
            raise ValueError(
                f"corpora must hold at least one with passages, got none in {self.place} "
                f"(empty: {listed}); index documents of one of these kinds"
            )
        taken(Route(()), self.policy, self.threshold, most=self.most)

    def __call__(self, route: Route) -> Route:
        """Return the route with the labels that are asked, best first, `none` if it is alone.

        Args:
            route: of any router over labels of corpora; it may have no label.

        Raises:
            ValueError: if the route knows no label of a corpus: the router learned other labels.
        """
        self._refuse_other_labels(route)
        asked, reasons = self._asked(route)
        labels: list[str] = []
        homeless: list[str] = []
        for label in asked:
            found = self._same_modality(label, route)
            if found is None:
                homeless.append(label)
                continue
            if found != label:
                reasons.append(f"{self._lack(label)}: {found} instead")
            labels.append(found)
        if not labels:
            labels = [self._best(route, self.corpora)]
            reasons += self._lacking(homeless, f"{labels[0]} instead")
        else:
            reasons += self._lacking(homeless, "left out")
        if not reasons:
            return replace(route, labels=tuple(labels))
        reason = "; ".join([*([route.reason] if route.reason else []), *reasons])
        return replace(route, labels=tuple(dict.fromkeys(labels)), fallback=True, reason=reason)

    def batch(self, route: Sequence[Route]) -> list[Route]:
        """Return what a call returns for each route."""
        return [self(one) for one in route]

    def _refuse_other_labels(self, route: Route) -> None:
        known = {*self.corpora, *self.empty, *self.modalities, *MODALITIES}
        labels = [label for label in dict.fromkeys((*route.labels, *route.probs)) if label != NONE]
        if labels and known.isdisjoint(labels):
            raise ValueError(
                f"route must be over labels of {self.place} "
                f"({', '.join((*self.corpora, *self.empty))}), got a router of "
                f"{', '.join(labels)}; train one for these labels, or name the corpora like its own"
            )

    def _asked(self, route: Route) -> tuple[list[str], list[str]]:
        """Return the labels of the policy, at least one if there is any, and why it is another."""
        found = taken(route, self.policy, self.threshold, most=self.most, alone=NONE)
        if found:
            return list(found), []
        first = route.labels[:1] or taken(route, "unsure", 1.0, most=1)
        if first and not route.labels and self.policy in ("single", "all"):
            return list(first), [f"the router named no label: {first[0]} is the most probable"]
        if first:
            return list(first), [f"no label reaches {self.threshold:g}: {first[0]} all the same"]
        best = self._best(route, self.corpora)
        return [best], [f"the router named no label: {best} instead"]

    def _same_modality(self, label: str, route: Route) -> str | None:
        """Return the label, or the best of its modality that has passages, if there is one."""
        if label == NONE or label in self.corpora:
            return label
        kind = self._modality(label)
        others = [one for one in self.corpora if self._modality(one) == kind]
        return self._best(route, others) if others else None

    def _best(self, route: Route, corpora: Sequence[str]) -> str:
        return max(corpora, key=lambda label: route.probs.get(label, 0.0))

    def _modality(self, label: str) -> str:
        return modality_of(label, {**MODALITIES, **self.modalities})

    def _lack(self, label: str) -> str:
        return f"{label} {'has no passages' if self._usual(label) else 'is no corpus'}"

    def _lacking(self, labels: Sequence[str], done: str) -> list[str]:
        """Return why labels gave way and to what, those of one reason in one piece."""
        empty = [label for label in labels if self._usual(label)]
        said = [f"{self._lack(label)}: {done}" for label in labels if label not in empty]
        if len(empty) > 1:
            return [f"{', '.join(empty[:-1])} and {empty[-1]} have no passages: {done}", *said]
        return [*(f"{self._lack(label)}: {done}" for label in empty), *said]

    def _usual(self, label: str) -> bool:
        return label in self.empty or label in self.modalities or label in MODALITIES
