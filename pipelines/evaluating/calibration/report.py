"""What calibration found: in words, and as a pipeline file that extends the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.evaluating.calibration.choice import NATS, Compared, Rule
from pipelines.evaluating.calibration.settings import EXACT, EXACT_MODES, GENERATOR


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting against the exact mode; see `Compared` for what is not listed.

    Attributes:
        compared: on some questions.
        options: of the generator, those that are not default, and the mode.
        on_front: whether no other one beats it in time and loss.
    """

    compared: Compared
    options: Mapping[str, Any]
    on_front: bool


@dataclass(frozen=True)
class CalibrationReport:
    """What calibration found.

    Attributes:
        step: id of the generator.
        model: name of the language model.
        labelled: whether answers were known: then the loss is their NLL, else KL to the exact mode.
        chosen: name of the chosen setting.
        options: what has to be set in the recipe for it.
        own: name of the recipe's own setting.
        rule: why it was chosen.
        budget_ms: the most that the first token may take.
        choosing: how many questions chose.
        held_out: how many questions `results` are from; no choice was made by them.
        left_out: questions for which nothing was found to read.
        results: the best settings on questions held out, the fastest first.
        tried: all settings on the questions that chose, the fastest first.
    """

    step: str
    model: str
    labelled: bool
    chosen: str
    options: Mapping[str, Any]
    own: str
    rule: Rule
    budget_ms: float | None
    choosing: int
    held_out: int
    left_out: int
    results: tuple[Tried, ...]
    tried: tuple[Tried, ...]

    @property
    def says(self) -> list[str]:
        """The outcome in sentences: the choice, what it is worth, and what it is not."""
        return list(_sentences(self))


def as_json(report: CalibrationReport) -> dict[str, Any]:
    """Return the report as plain values, with its sentences."""
    plain = asdict(report) | {"says": report.says}
    for part in ("results", "tried"):
        plain[part] = [{**one.pop("compared"), **one} for one in plain[part]]
    return plain


def named(tried: Sequence[Tried], name: str) -> Compared:
    """Return the setting of a name."""
    return next(one.compared for one in tried if one.compared.name == name)


def _sentences(report: CalibrationReport) -> Iterator[str]:
    chosen, exact = (named(report.results, name) for name in (report.chosen, EXACT.name))
    before = named(report.tried, report.chosen)
    yield f"Chosen: {report.chosen}, {_why(report, before)}."
    cached = [one.compared for one in report.tried if one.compared.mode not in EXACT_MODES]
    if cached and not any(one.close for one in cached):
        best = _best(report, cached)
        yield (
            f"No cached mode is within {_limit(report)} of sequential on the {report.choosing} "
            f"questions that chose: best is {best.name}, "
            f"{_against(report, best, named(report.tried, EXACT.name))}."
        )
    held = f"On {report.held_out} questions held out, {report.chosen} takes {chosen.ttft_ms:.0f} ms"
    if report.chosen == EXACT.name:
        yield f"{held} to the first token."
    else:
        yield (
            f"{held} to the first token, sequential {exact.ttft_ms:.0f} ms; "
            f"{_against(report, chosen, exact)}."
        )
    if not chosen.close:
        yield f"{report.chosen} is not within {_limit(report)} of sequential there."
    if report.left_out:
        yield f"Nothing was found to read for {report.left_out} more questions; they do not count."


def _best(report: CalibrationReport, cached: Sequence[Compared]) -> Compared:
    """Return the cached setting of the highest F1, or of the least loss where none has one."""
    if report.labelled:
        return max(cached, key=lambda one: (one.f1 if one.f1 is not None else -1.0, -one.loss))
    return min(cached, key=lambda one: one.loss)


def _why(report: CalibrationReport, before: Compared) -> str:
    budget = "" if report.budget_ms is None else f" {report.budget_ms:g} ms"
    if report.rule == "fastest that is close enough":
        within = f" and within{budget}" if budget else ""
        if report.chosen == EXACT.name:
            return f"as nothing faster is within {_limit(report)} of it{within}"
        return f"the fastest within {_limit(report)} of sequential{within}"
    if report.rule == "best within the budget":
        return f"the best within{budget}; none so fast is within {_limit(report)} of sequential"
    return (
        f"the fastest of all at {before.ttft_ms:.0f} ms, as nothing answers within{budget}: the "
        "budget is too small"
    )


def _limit(report: CalibrationReport) -> str:
    return "2 %" if report.labelled else f"{NATS:g} nats a token"


def _against(report: CalibrationReport, one: Compared, exact: Compared) -> str:
    gap = f"{one.gap.mean:+.3f} [{one.gap.low:+.3f}, {one.gap.high:+.3f}]"
    if not report.labelled:
        return f"KL {one.kl.mean:.3f} [{one.kl.low:.3f}, {one.kl.high:.3f}] nats a token"
    nll = f"NLL {one.loss:.3f} against {exact.loss:.3f} ({gap}) nats a token"
    if one.f1 is None or exact.f1 is None:
        return nll
    return f"F1 {one.f1:.3f} against {exact.f1:.3f}, {nll}"


def calibrated_text(
    report: CalibrationReport, extends: str, command: str, added: Sequence[str] | None = None
) -> str:
    """Return a pipeline file that extends a recipe with the chosen options.

    Args:
        report: what calibration found.
        extends: name of the recipe, or path of its file as the new one is to name it.
        command: what was run, for the comment.
        added: operators before the generator that a recipe lacks which ends with passages; the new
            file ends with an answer. None for a recipe that answers.
    """
    import yaml

    step = {"id": report.step, "use": GENERATOR, "with": dict(report.options)}
    body: dict[str, Any] = {"version": 1, "extends": extends, "steps": [*(added or ()), step]}
    if added is not None:
        body["outputs"] = ["answer"]
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    lines = [f"Made by: {command}", f"With {report.model}.", *report.says]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines) + text
