"""Citations against gold evidence: by support, by attention, by both.

    python benchmarks/quality.py prepare ../shared/data/squad ../shared/data/hotpotqa -o DIR
    python benchmarks/citations.py watch DIR -o ROWS --limit 200
    python benchmarks/citations.py report DIR ROWS

`watch` answers the questions that are reported and keeps the attention mass of each sentence read,
summed over the answer's tokens; the same command goes on where it was stopped. `report` reads that,
or what `quality.py generate --masses` wrote, which knows passages only. Heads, threshold and weight
are chosen on every other question; tables and intervals are of the rest.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from measuring import machine
from quality_data import SUFFIX, Asked, read_asked
from quality_rows import LONGEST, Bench, Log, Row, read_rows
from quality_settings import parts
from retrieval_grid import table

from rag.evaluation.answers import contains_answer
from rag.evaluation.citations import citation_precision
from rag.evaluation.comparison import difference_of
from rag.evaluation.statistics import bootstrap_interval
from rag.generation.attention_citations import AnswerAttention, AttentionMatcher, Heads
from rag.generation.attention_mass import Unit
from rag.generation.citations import Attribution, SupportMatcher
from rag.generation.copying_heads import CopyingHeads
from rag.generation.decoding import Sampling, TextStream
from rag.models.encoder import load_encoder

if TYPE_CHECKING:
    from quality_rows import Read

    from rag.protocols import Encoder
    from rag.records import Passage

MODES = ("sequential", "ape", "into_top_1")
PART, PASSAGES = "five", 5
COUNTS = (1, 3, 5, 10, 20)
NORMS = ("mass", "share of each head", "by length", "share of each head, by length")
THRESHOLDS = (0.0, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
Array = np.ndarray
Target = Literal["copied", "gold"]


@dataclass(frozen=True)
class Watched:
    """An answer with the attention that it paid.

    Attributes:
        asked: the question.
        mode: how passages were read.
        text: the answer.
        supporting: gold sentences by document, as rows from 0.
        mass: (layers, heads, columns), summed over the answer's tokens. A column stands for a
            passage, or for its header and each of its sentences; the last one is the rest.
    """

    asked: Asked
    mode: str
    text: str
    supporting: dict[str, list[int]]
    mass: Array

    @cached_property
    def passages(self) -> list[Passage]:
        """What was read, best first."""
        return self.asked.read(PASSAGES, pruned=False)

    @property
    def by_sentence(self) -> bool:
        """Whether the mass of sentences is known."""
        return bool(self.mass.shape[-1] != len(self.passages) + 1)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """What the columns stand for, without the last."""
        found = []
        for passage in self.passages:
            found.append(Unit(passage.id, None))
            if self.by_sentence:
                found += [Unit(passage.id, row) for row in range(len(passage.sentences))]
        return tuple(found)

    @cached_property
    def of_passages(self) -> Array:
        """The mass of each passage: (layers, heads, passages)."""
        places = {passage.id: place for place, passage in enumerate(self.passages)}
        found = np.zeros((*self.mass.shape[:2], len(places)), np.float32)
        for column, unit in enumerate(self.units):
            found[..., places[unit.passage]] += self.mass[..., column]
        return found

    @cached_property
    def gold(self) -> Array | None:
        """Which passages are of gold documents: bool (passages,); None if all or none are."""
        found = np.array([passage.document in self.asked.gold for passage in self.passages])
        return found if found.any() and not found.all() else None

    @cached_property
    def copied(self) -> Array | None:
        """Which passage has the answer's words: bool (passages,); None unless it is just one."""
        has = np.array([bool(contains_answer(p.text, [self.text])) for p in self.passages])
        return has if has.sum() == 1 and len(has) > 1 else None

    @cached_property
    def quoted(self) -> tuple[str, int] | None:
        """The sentence that has the answer's words, as its passage and where it begins.

        It is None unless it is just one.
        """
        has = [
            (passage.id, passage.span.start + span.stripped(passage.text).start)
            for passage in self.passages
            for span in passage.sentences
            if contains_answer(span.of(passage.text), [self.text])
        ]
        return has[0] if len(has) == 1 else None

    @cached_property
    def lengths(self) -> Array:
        """Characters of each passage."""
        return np.array([len(passage.text) for passage in self.passages])

    def attention(self, heads: Heads | None) -> AnswerAttention:
        """Return the attention of the answer, all its tokens at once."""
        seen = AnswerAttention(self.units, heads)
        seen.add(torch.from_numpy(self.mass.astype(np.float32)), len(self.text))
        return seen


def read_watched(questions: Path, folders: Sequence[Path]) -> list[Watched]:
    """Return the answers of all modes that have text and attention, in the questions' order.

    Raises:
        ValueError: if there is none.
    """
    masses: dict[str, Array] = {}
    for path in sorted(path for folder in folders for path in folder.glob("*.npz")):
        if ".partial" not in path.name:
            with np.load(path) as file:
                masses |= dict(file)
    texts = {
        f"{row['data']}/{row['setting']}/{row['id']}": row["text"]
        for folder in folders
        for row in read_rows(folder)
        if row["part"] == PART and row.get("text")
    }
    gold = _supporting(questions)
    found = [
        Watched(asked, mode, texts[key], gold[asked.data, asked.id], masses[key])
        for mode in MODES
        for asked in read_asked(questions)
        if (key := f"{asked.data}/{mode}/{asked.id}") in masses and key in texts
    ]
    if not found:
        told = ", ".join(map(str, folders))
        raise ValueError(f"{told} holds no attention masses of answers; make them with `watch`")
    return found


def _supporting(questions: Path) -> dict[tuple[str, str], dict[str, list[int]]]:
    found = {}
    for path in sorted(questions.glob(f"*{SUFFIX}")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in map(json.loads, file):
                found[path.name.removesuffix(SUFFIX), line["id"]] = line["gold"]
    return found


def halves(watched: Sequence[Watched]) -> tuple[list[Watched], list[Watched]]:
    """Return the answers to choose on and those to report, a question always in the same half."""
    order: dict[str, list[str]] = {}
    for one in watched:
        ids = order.setdefault(one.asked.data, [])
        if one.asked.id not in ids:
            ids.append(one.asked.id)
    first = {(data, id_) for data, ids in order.items() for id_ in ids[::2]}
    sides: tuple[list[Watched], list[Watched]] = ([], [])
    for one in watched:
        sides[(one.asked.data, one.asked.id) not in first].append(one)
    return sides


def normed(mass: Array, norm: str, lengths: Array) -> Array:
    """Return what each head gives to each passage: (heads, passages).

    Args:
        mass: (heads, passages).
        norm: one of `NORMS`.
        lengths: of the passages.
    """
    if norm.endswith("by length"):
        mass = mass / lengths
    if norm.startswith("share of each head"):
        mass = mass / np.maximum(mass.sum(-1, keepdims=True), 1e-9)
    return mass


def top_of(one: Watched, heads: Heads | None, norm: str = "mass") -> int:
    """Return the place of the passage that some heads attend to most; None means all heads."""
    mass = one.of_passages.reshape(-1, len(one.passages))
    if heads is not None:
        mass = np.stack([one.of_passages[pair] for pair in heads])
    return int(normed(mass, norm, one.lengths).mean(0).argmax())


def head_hits(watched: Sequence[Watched], target: Target, norm: str = "mass") -> Array:
    """Return how many answers each head's top passage is a target of: (layers, heads)."""
    hits = np.zeros(watched[0].mass.shape[:2])
    for one in watched:
        if (wanted := getattr(one, target)) is not None:
            mass = one.of_passages.reshape(-1, len(one.passages))
            hits += wanted[normed(mass, norm, one.lengths).argmax(-1)].reshape(hits.shape)
    return hits


def best_heads(
    watched: Sequence[Watched], count: int, target: Target = "copied", norm: str = "mass"
) -> Heads:
    """Return the pairs (layer, head) whose top passage is a target most often, best first.

    Ties go to the lower layer, then to the lower head.
    """
    hits = head_hits(watched, target, norm)
    order = np.argsort(-hits, axis=None, kind="stable")[:count]
    return tuple(divmod(int(row), hits.shape[1]) for row in order)


def rate(
    watched: Sequence[Watched], target: Target, heads: Heads | None, norm: str = "mass"
) -> list[float]:
    """Return for each answer that has a target whether the passage with most attention is one."""
    return [
        float(wanted[top_of(one, heads, norm)])
        for one in watched
        if (wanted := getattr(one, target)) is not None
    ]


def copying_heads(watched: Sequence[Watched], count: int) -> Heads:
    """Return what the framework's own calibration chooses."""
    found = CopyingHeads()
    for one in watched:
        found.add(torch.from_numpy(one.mass.astype(np.float32)), one.units, one.passages, one.text)
    return found.best(count)


@dataclass(frozen=True)
class Cited:
    """How the citations of one answer stand against gold; shares are None without citations.

    Attributes:
        document: share that is of a gold document.
        sentence: `CiteP`: where sentences of its document are labelled, one of them must be quoted.
        copied: share that is of the passage that alone has the answer's words; None too if several
            passages have them, or none.
        quoted: the same of sentences.
    """

    document: float | None
    sentence: float | None
    copied: float | None
    quoted: float | None

    @property
    def gain(self) -> float:
        """What the citations are worth if a wrong one costs what a right one gains, in [-1, 1]."""
        return 0.0 if self.document is None else 2 * self.document - 1


def judged(one: Watched, found: Attribution) -> Cited:
    """Compare citations with gold."""
    cited = [citation.passage_id for citation in found.citations]
    if not cited:
        return Cited(None, None, None, None)
    place = {passage.id: row for row, passage in enumerate(one.passages)}
    copied, quoted = one.copied, one.quoted
    return Cited(
        fmean(citation.document in one.asked.gold for citation in found.citations),
        citation_precision(found.citations, one.passages, one.supporting, one.asked.gold),
        None if copied is None else fmean(copied[place[name]] for name in cited),
        None
        if quoted is None
        else fmean(quoted == (c.passage_id, c.start) for c in found.citations),
    )


def by_support(one: Watched, match: SupportMatcher, heads: Heads | None = None) -> Cited:
    """Cite by support and, with heads, by their attention among what supports."""
    seen = None if heads is None else one.attention(heads)
    looked = None if seen is None else lambda _: seen.of(one.passages)
    return judged(one, match(one.asked.query, one.text, one.passages, looked))


def by_attention(one: Watched, match: AttentionMatcher, heads: Heads | None) -> Cited:
    """Cite by attention alone; None means all heads."""
    seen = one.attention(heads)
    return judged(one, match(one.text, one.passages, lambda _: seen.of(one.passages)))


Method = Callable[[Watched], Cited]


@dataclass(frozen=True)
class Chosen:
    """What the first half chose.

    Attributes:
        heads: by what they copy.
        threshold: of `AttentionMatcher`.
        weight: `attention_weight` of `SupportMatcher`.
        gains: mean gain of each threshold, over answers.
        precisions: mean `CiteP` of each weight, over answers that are cited.
    """

    heads: Heads
    threshold: float
    weight: float
    gains: dict[float, float]
    precisions: dict[float, float]


def choose(watched: Sequence[Watched], match: SupportMatcher, count: int) -> Chosen:
    """Choose on the first half; of equals the smaller number."""
    heads = copying_heads(watched, count)
    gains = {
        one: fmean(by_attention(w, AttentionMatcher(one), heads).gain for w in watched)
        for one in THRESHOLDS
    }
    precisions = {}
    for weight in WEIGHTS:
        weighed = replace(match, attention_weight=weight)
        found = [by_support(one, weighed, heads).sentence for one in watched]
        precisions[weight] = fmean(value for value in found if value is not None)
    threshold, weight = (max(of, key=lambda one: (of[one], -one)) for of in (gains, precisions))
    return Chosen(heads, threshold, weight, gains, precisions)


def methods(chosen: Chosen, words: SupportMatcher, vectors: SupportMatcher) -> dict[str, Method]:
    """Return the ways to cite that are compared; the first one is the baseline."""
    attend = AttentionMatcher(chosen.threshold)
    return {
        "support": lambda one: by_support(one, vectors),
        "support, words only": lambda one: by_support(one, words),
        "attention": lambda one: by_attention(one, attend, chosen.heads),
        "attention, all heads": lambda one: by_attention(one, AttentionMatcher(0.0), None),
        "both": lambda one: by_support(
            one, replace(vectors, attention_weight=chosen.weight), chosen.heads
        ),
        "both, words only": lambda one: by_support(
            one, replace(words, attention_weight=chosen.weight), chosen.heads
        ),
    }


def report(watched: Sequence[Watched], encoder: str, count: int) -> tuple[str, list[Row]]:
    """Return the page, and its values as records."""
    words = SupportMatcher()
    vectors = SupportMatcher(Known(load_encoder(encoder)))
    first, second = halves(watched)
    chosen = choose(first, vectors, count)
    cited, records = citations_table(second, methods(chosen, words, vectors))
    sections = [
        f"{_asked(first)} questions to choose on, {_asked(second)} to report.",
        "## Heads\n\n"
        "Answers whose top passage is the only one that has the answer's words, and, second, is of "
        "a gold document.\n\n" + heads_table(first, second),
        f"The best {count} by copying, on the first half: {_told(chosen.heads)}.",
        "## Normalisation\n\n" + norms_table(first, second, count),
        "## Heads of one data set on the other\n\n" + transfer_table(watched, count),
        "## Threshold and weight\n\n" + _choice_table(chosen),
        "## Citations\n\n" + cited,
    ]
    about = {"record": "chosen", **asdict(chosen), **machine()}
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n", [about, *records]


def heads_table(first: Sequence[Watched], second: Sequence[Watched]) -> str:
    """Tell how many heads to take, and by what."""
    rows = []
    for mode, here, there in _by_mode(first, second):
        for target in get_args(Target):
            cells = [_rates(there, best_heads(here, count, target)) for count in COUNTS]
            rows.append([f"`{mode}`, by {target}", *cells, _rates(there, None)])
    pooled = [_rates(second, best_heads(first, count)) for count in COUNTS]
    rows.append(["all modes, by copied", *pooled, _rates(second, None)])
    return table(["chosen on", *(f"best {count}" for count in COUNTS), "all"], rows)


def norms_table(first: Sequence[Watched], second: Sequence[Watched], count: int) -> str:
    """Tell what a head's mass is best divided by, heads being chosen for each."""
    pairs = list(_by_mode(first, second))
    rows = [
        [
            norm,
            *(_rates(there, best_heads(first, count, "copied", norm), norm) for *_, there in pairs),
        ]
        for norm in NORMS
    ]
    return table(["", *(f"`{mode}`" for mode, *_ in pairs)], rows)


def transfer_table(watched: Sequence[Watched], count: int) -> str:
    """Tell whether heads of one data set serve another one."""
    sets = sorted({one.asked.data for one in watched})
    first, second = halves(watched)
    rows = []
    for data in sets:
        heads = best_heads([one for one in first if one.asked.data == data], count)
        cells = [
            _rates([one for one in second if one.asked.data == other], heads) for other in sets
        ]
        rows.append([f"{data}: {_told(heads)}", *cells])
    return table(["chosen on", *(f"on {data}" for data in sets)], rows)


def citations_table(watched: Sequence[Watched], ways: dict[str, Method]) -> tuple[str, list[Row]]:
    """Compare ways to cite, mode by mode and data set by data set, with the first way."""
    rows, records = [], []
    for mode in MODES:
        for data in sorted({one.asked.data for one in watched}):
            asked = [one for one in watched if (one.mode, one.asked.data) == (mode, data)]
            base: list[Cited] = []
            for name, way in ways.items():
                if not asked:
                    continue
                found = [way(one) for one in asked]
                base = base or found
                record: Row = {
                    "record": "citations",
                    "mode": mode,
                    "data": data,
                    "way": name,
                    "n": len(asked),
                    "cited": fmean(one.document is not None for one in found),
                }
                metrics = ["document", "copied"]
                if asked[0].by_sentence or "attention" not in name:
                    metrics += ["sentence", "quoted"]
                for metric in metrics:
                    record |= _compared(metric, base, found)
                rows.append([f"`{mode}`, {data}, {name}", *_cells(record)])
                records.append(record)
    head = ["", "cited", "CiteP", "against support", "document", "against support"]
    head += ["copied passage", "copied sentence"]
    return table(head, rows), records


def _compared(metric: str, base: Sequence[Cited], found: Sequence[Cited]) -> Row:
    values = [getattr(one, metric) for one in found]
    known = [value for value in values if value is not None]
    record: Row = {metric: _interval(known)}
    pairs = [
        (before, value)
        for before, value in zip((getattr(one, metric) for one in base), values, strict=True)
        if before is not None and value is not None
    ]
    if pairs and base is not found:
        difference = difference_of(pairs)
        record[f"{metric}_difference"] = {
            "mean": difference.difference,
            "low": difference.low,
            "high": difference.high,
            "p": difference.p,
            "n": difference.n,
        }
    return record


def _interval(values: Sequence[float]) -> Row | None:
    return asdict(bootstrap_interval(values)) if values else None


def _cells(record: Row) -> Iterator[str]:
    yield f"{record['cited']:.0%}"
    for metric in ("sentence", "document"):
        value, difference = record.get(metric), record.get(f"{metric}_difference")
        yield "-" if not value else f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
        yield (
            "-"
            if not difference
            else f"{difference['mean']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]"
        )
    for metric in ("copied", "quoted"):
        value = record.get(metric)
        yield "-" if not value else f"{value['mean']:.2f} of {value['n']}"


def _choice_table(chosen: Chosen) -> str:
    thresholds = [
        [f"{one:g}" + " **" * (one == chosen.threshold), f"{gain:+.3f}"]
        for one, gain in chosen.gains.items()
    ]
    weights = [
        [f"{one:g}" + " **" * (one == chosen.weight), f"{value:.3f}"]
        for one, value in chosen.precisions.items()
    ]
    return "\n".join(
        (
            table(["threshold of attention", "right less wrong citations, an answer"], thresholds),
            table(["`attention_weight`", "CiteP"], weights),
        )
    )


def _rates(watched: Sequence[Watched], heads: Heads | None, norm: str = "mass") -> str:
    cells = (rate(watched, target, heads, norm) for target in get_args(Target))
    return ", ".join(f"{fmean(cell):.2f}" if cell else "-" for cell in cells)


def _by_mode(
    first: Sequence[Watched], second: Sequence[Watched]
) -> Iterator[tuple[str, list[Watched], list[Watched]]]:
    for mode in MODES:
        here, there = ([one for one in half if one.mode == mode] for half in (first, second))
        if here and there:
            yield mode, here, there


def _asked(watched: Sequence[Watched]) -> int:
    return len({(one.asked.data, one.asked.id) for one in watched})


def _told(heads: Heads) -> str:
    return " ".join(f"{layer}.{head}" for layer, head in heads)


class Known:
    """An `Encoder` over another one that encodes each text once."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.fingerprint, self.dim = encoder.name, encoder.fingerprint, encoder.dim
        self._encoder = encoder
        self._known: dict[str, Array] = {}

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> Array:
        """Return unit vectors, float32 (n, dim)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            vectors = self._encoder.encode(new, progress=progress)
            self._known |= dict(zip(new, vectors, strict=True))
        return np.stack([self._known[text] for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Array:
        """Return unit vectors of queries, float32 (n, dim)."""
        return self._encoder.encode_queries(texts)


def watch(questions: Path, out: Path, model: str, limit: int | None, modes: Sequence[str]) -> None:
    """Answer the questions that are reported, one at a time, and keep text and attention."""
    bench, log = Bench(model, plain=False, block=1), Log(out, 0)
    part = next(part for part in parts({}) if part.name == PART)
    settings = {setting.name: setting for setting in part.settings}
    done = {(row["data"], row["setting"], row["id"]) for row in read_rows(out)}
    counts: dict[str, int] = {}
    for asked in read_asked(questions):
        counts[asked.data] = counts.get(asked.data, 0) + 1
        if asked.calibrating or (limit is not None and counts[asked.data] > limit):
            continue
        masses = {}
        for mode in modes:
            read = bench.read(part, settings[mode], asked)
            if read is None or (asked.data, mode, asked.id) in done:
                continue
            with torch.inference_mode():
                text, mass = _answer(bench, read)
            if mass is not None:
                masses[f"{asked.data}/{mode}/{asked.id}"] = mass
            row = {"part": PART, "data": asked.data, "setting": mode, "id": asked.id, "text": text}
            log.append([row])
        log.keep(masses)


def _answer(bench: Bench, read: Read) -> tuple[str, Array | None]:
    """Return a greedy answer and its attention: float16 (layers, heads, columns of `Watched`)."""
    prompt, engine = bench.generate.prompt, bench.generate.engine
    stream = TextStream(prompt.text, prompt.template.stop)
    state = engine.prefill(read.plan, watch=True)
    engine.store(state.fresh)
    units = state.units or ()
    total: Array | None = None
    for token, after in engine.decode_states(state, Sampling(LONGEST), prompt.stop_ids):
        mass = after.cache.mass
        assert mass is not None
        stream.push(token)
        if stream.stopped:
            break
        now = mass.cpu().numpy()
        total = now.copy() if total is None else total + now
    stream.rest()
    if total is None:
        return stream.text, None
    wanted = [
        Unit(passage.id, row)
        for passage in read.passages
        for row in (None, *range(len(passage.sentences)))
    ]
    column = {unit: place for place, unit in enumerate(wanted)}
    found = np.zeros((*total.shape[:2], len(wanted) + 1), np.float32)
    for place, unit in enumerate(units):
        found[..., column[unit]] = total[..., place]
    found[..., -1] = total[..., -1]
    return stream.text, found.astype(np.float16)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    asks = commands.add_parser("watch", help="answers with the attention to each sentence")
    asks.add_argument("questions", type=Path, help="folder that `quality.py prepare` wrote")
    asks.add_argument("-o", "--out", type=Path, required=True, help="folder")
    asks.add_argument("--model", default="smollm2-135m")
    asks.add_argument("--limit", type=int, help="questions of each data set")
    asks.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    tells = commands.add_parser("report", help="a page of tables")
    tells.add_argument("questions", type=Path)
    tells.add_argument("rows", nargs="+", type=Path, help="folders of answers and of masses")
    tells.add_argument("--heads", type=int, default=5, help="heads to take (default: 5)")
    tells.add_argument("--encoder", default="minilm")
    tells.add_argument("--json", action="store_true", help="print records, one a line")
    args = parser.parse_args()
    if args.command == "watch":
        args.out.mkdir(parents=True, exist_ok=True)
        watch(args.questions, args.out, args.model, args.limit, args.modes)
        return
    page, records = report(read_watched(args.questions, args.rows), args.encoder, args.heads)
    print("\n".join(map(json.dumps, records)) if args.json else page)


if __name__ == "__main__":
    main()
