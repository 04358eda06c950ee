"""What differs between two runs: settings, times, passages, kept sentences, prompts, answers."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rag.tracing.nesting import Node, events, nested, passages, sentences_of
from rag.tracing.wording import milliseconds, score, short

if TYPE_CHECKING:
    from rag.tracing.trace import Trace

Change = tuple[Literal["same", "old", "new"], str]
_OWN = frozenset({"kind", "name", "at_ms", "id", "started"})
_WORDS_COMPARED = 2000


@dataclass(frozen=True)
class Timing:
    """One step in both runs.

    Attributes:
        path: of the step.
        old_ms: time in the first run; None if it did not run there.
        new_ms: likewise in the second.
    """

    path: str
    old_ms: float | None
    new_ms: float | None

    @property
    def ratio(self) -> float | None:
        """Second time over first; None if one is missing or the first is 0."""
        if self.old_ms is None or self.new_ms is None or self.old_ms <= 0:
            return None
        return self.new_ms / self.old_ms


@dataclass(frozen=True)
class Sentence:
    """A sentence that one run kept and the other pruned.

    Attributes:
        path: step that decided.
        passage: the passage.
        text: the sentence, or its span where the traces keep no content.
        old_kept: whether the first run kept it.
        old_score: its score there.
        new_score: its score in the second run.
    """

    path: str
    passage: str
    text: str
    old_kept: bool
    old_score: float | None
    new_score: float | None


@dataclass(frozen=True)
class Difference:
    """Two runs side by side.

    Attributes:
        settings: what the runs were given: name, first value, second value, as text.
        timings: every step of either run.
        only_old: passages that only the first run retrieved or pruned.
        only_new: passages that only the second did.
        sentences: sentences kept in one of the runs only, of decisions that both made.
        prompts: step and changes of each prompt that differs.
        answers: step and changes of each generated text that differs.
    """

    settings: tuple[tuple[str, str, str], ...]
    timings: tuple[Timing, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    prompts: tuple[tuple[str, tuple[Change, ...]], ...]
    answers: tuple[tuple[str, tuple[Change, ...]], ...]


def compare(old: Trace, new: Trace) -> Difference:
    """Return what differs; steps, decisions and texts are matched by path, then by order."""
    before, after = nested(old), nested(new)
    ids = [one.id for one in passages(before)], [one.id for one in passages(after)]
    return Difference(
        settings=tuple(_settings(old.run, new.run)),
        timings=tuple(_timings(before, after)),
        only_old=tuple(id_ for id_ in ids[0] if id_ not in set(ids[1])),
        only_new=tuple(id_ for id_ in ids[1] if id_ not in set(ids[0])),
        sentences=tuple(_sentences(before, after)),
        prompts=tuple(_texts(before, after, "prompt")),
        answers=tuple(_texts(before, after, "generated")),
    )


def changes(old: str, new: str) -> tuple[Change, ...]:
    """Return pieces of both texts, line by line and inside a changed place word by word.

    The pieces that are not `new` make up `old` exactly, those that are not `old` make up `new`.
    """
    pieces: list[Change] = []
    old_lines, new_lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
    for before, after in _runs(old_lines, new_lines):
        if before == after:
            pieces.append(("same", "".join(before)))
            continue
        words = _words("".join(before)), _words("".join(after))
        if max(map(len, words)) > _WORDS_COMPARED:
            pieces += [("old", "".join(before)), ("new", "".join(after))]
            continue
        for left, right in _runs(*words):
            if left == right:
                pieces.append(("same", "".join(left)))
            else:
                pieces += [("old", "".join(left)), ("new", "".join(right))]
    return tuple(piece for piece in pieces if piece[1])


def as_text(difference: Difference, width: int = 100) -> str:
    """Return the difference for a terminal."""
    lines = [f"{name}: {old} → {new}" for name, old, new in difference.settings]
    column = max((len(timing.path) for timing in difference.timings), default=0)
    for timing in difference.timings:
        times = " ".join(f"{ms_of(ms):>11}" for ms in (timing.old_ms, timing.new_ms))
        ratio = "" if timing.ratio is None else f"{timing.ratio:7.2f}×"
        lines.append(f"{timing.path:<{column}} {times} {ratio}".rstrip())
    lines += [f"- passage {id_}" for id_ in difference.only_old]
    lines += [f"+ passage {id_}" for id_ in difference.only_new]
    for one in difference.sentences:
        sign = "-" if one.old_kept else "+"
        scores = f"{score(one.old_score)} → {score(one.new_score)}"
        lines.append(short(f"{sign} {one.path}, {one.passage} ({scores}): {one.text}", width))
    for name, texts in (("prompt", difference.prompts), ("answer", difference.answers)):
        for path, pieces in texts:
            lines.append(f"{name} of {path}:")
            lines.append("".join(_bracketed(kind, text) for kind, text in pieces))
    return "\n".join(lines)


def ms_of(ms: float | None) -> str:
    """Return a time, or `–` where a step did not run."""
    return "–" if ms is None else milliseconds(ms)


def _bracketed(kind: str, text: str) -> str:
    return text if kind == "same" else f"[-{text}-]" if kind == "old" else f"{{+{text}+}}"


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    left, right = dict(_flat(old)), dict(_flat(new))
    for name in dict.fromkeys([*left, *right]):
        if name not in _OWN and left.get(name) != right.get(name):
            yield name, left.get(name, "–"), right.get(name, "–")


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            shown = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            yield f"{prefix}{key}", shown


def _timings(before: Node, after: Node) -> Iterator[Timing]:
    left, right = _by_path(before), _by_path(after)
    yield Timing("(all)", before.ended_ms, after.ended_ms)
    for path in dict.fromkeys([*left, *right]):
        olds, news = left.get(path, []), right.get(path, [])
        for place in range(max(len(olds), len(news))):
            yield Timing(
                path,
                olds[place] if place < len(olds) else None,
                news[place] if place < len(news) else None,
            )


def _by_path(root: Node) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _, node in root.walk():
        found.setdefault(node.path, []).append(node.wall_ms)
    return found


def _decisions(root: Node) -> dict[tuple[str, str], tuple[str, Mapping[str, Any]]]:
    """Return the last decision of each step on each passage, with the passage's text."""
    return {
        (node.path, seen.id): (seen.text, event)
        for seen in passages(root)
        for node, event in seen.decisions
    }


def _sentences(before: Node, after: Node) -> Iterator[Sentence]:
    left, right = _decisions(before), _decisions(after)
    for key, (text, event) in left.items():
        if key not in right or right[key][0] != text:
            continue
        there = {tuple(s["span"]): s for s in sentences_of(right[key][1])}
        for one in sentences_of(event):
            start, end = one["span"]
            other = there.get((start, end))
            if other is None or bool(one.get("kept")) == bool(other.get("kept")):
                continue
            shown = text[start:end].strip() or f"[{start}:{end}]"
            scores = one.get("score"), other.get("score")
            yield Sentence(*key, shown, bool(one.get("kept")), *scores)


def _texts(before: Node, after: Node, name: str) -> Iterator[tuple[str, tuple[Change, ...]]]:
    left, right = _texts_by_path(before, name), _texts_by_path(after, name)
    for path in dict.fromkeys([*left, *right]):
        olds, news = left.get(path, []), right.get(path, [])
        for place in range(max(len(olds), len(news))):
            old = olds[place] if place < len(olds) else ""
            new = news[place] if place < len(news) else ""
            if old != new:
                yield path, changes(old, new)


def _texts_by_path(root: Node, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node, event in events(root, name):
        if isinstance(event.get("text"), str):
            found.setdefault(node.path or "run", []).append(event["text"])
    return found


def _runs(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    for _, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield old[a:b], new[c:d]


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)
