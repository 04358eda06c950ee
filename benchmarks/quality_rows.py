"""Rows of the quality page: every setting asked every question, resumably, by several processes."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from quality_data import Asked, read_asked
from quality_settings import (
    AGAIN,
    EXACT,
    TOP_1,
    Part,
    Setting,
    edges_to,
    first_part,
    grid,
    ordered,
    parts,
)

from rag.evaluation.answers import contains_answer, exact_match, token_f1
from rag.files import write_atomically
from rag.generation.attention import IMPLEMENTATION
from rag.generation.batch import BatchCache
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling, TextStream
from rag.generation.engine import Engine
from rag.generation.fidelity import Reference, divergence_of
from rag.generation.plan import ContextWeights, block_plan, sequential_plan
from rag.generation.prompt import PromptEncoder
from rag.generation.readable import readable
from rag.models.language_model import load_language_model
from rag.protocols import Lookup

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from torch import Tensor

    from rag.generation.plan import EncodingPlan
    from rag.generation.prefilled import Prefilled
    from rag.protocols import SegmentKV
    from rag.records import Passage, Segment

LONGEST, COMPARED = 24, 8
"""Tokens of an answer, and of the exact mode's answer that distributions are compared on."""
CACHED = 64
"""Segments of a question that are kept for the settings after."""
CHOSEN, ABOUT = "calibrated.json", "run.json"
WAIT_S = 120.0
REPEATS = 3
Row = dict[str, Any]


class Kept:
    """A passage cache in the model's own memory, for as many segments as it is told."""

    def __init__(self, most: int) -> None:
        self._kept: dict[Segment, SegmentKV] = {}
        self._most = most

    def get(self, segment: Segment) -> Lookup:
        """Return what was kept."""
        kv = self._kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment: Segment, kv: SegmentKV) -> bool:
        """Keep it; the oldest goes if there are too many."""
        self._kept[segment] = kv
        if len(self._kept) > self._most:
            self._kept.pop(next(iter(self._kept)))
        return True


@dataclass(frozen=True)
class Read:
    """A question as one setting reads it.

    Attributes:
        asked: the question.
        passages: in the order that the generator gets them.
        plan: made of them.
        gold: tokens of the first accepted answer.
    """

    asked: Asked
    passages: list[Passage]
    plan: EncodingPlan
    gold: tuple[int, ...]


@dataclass
class Told:
    """What one setting said to one question.

    Attributes:
        text: of the answer.
        ids: its tokens, at most `COMPARED`, what ends it left out; at least one.
        logits: that they were chosen from, one each, where they are a reference.
        length: tokens of the answer.
        mass: attention of the answer's tokens, (layers, heads, passages + 1), if it was watched.
    """

    text: str
    ids: tuple[int, ...]
    logits: list[Tensor]
    length: int
    mass: Tensor | None


class Bench:
    """One loaded model that answers blocks of questions."""

    def __init__(self, model: str, *, plain: bool, block: int) -> None:
        self.loaded = load_language_model(model)
        self.engine = Engine(
            self.loaded.model,
            self.loaded.identity,
            Kept(CACHED * block + 8),
            copy_context=True if plain else None,
        )
        prompt = PromptEncoder(self.loaded.tokenizer, self.loaded.identity)
        self.generate = GenerateCached(self.engine, prompt, sampling=Sampling(LONGEST))
        self.stop = prompt.stop_ids
        self.references: dict[tuple[object, ...], Reference] = {}

    @property
    def device(self) -> str:
        """Where the model runs."""
        model = self.loaded.model
        return torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu"

    def read(self, part: Part, setting: Setting, asked: Asked) -> Read | None:
        """Return a question as a setting reads it; None if it has no use for it."""
        passages = asked.read(part.passages, pruned=setting.pruned, pruner=setting.pruner)
        if setting.name == "corpus" and not any(passage.edges for passage in passages):
            return None
        if setting.place is not None and not asked.gold_ranks(part.passages):
            return None
        options = dict(setting.options)
        placed = ordered(passages, asked.gold, setting.place)
        if setting.place is not None and options.get("graph") == TOP_1:
            options["graph"] = edges_to(passages[0].id, placed)
        gold = self.generate.prompt.ids(f" {asked.answers[0]}")
        if setting.layout == "modes":
            generate = replace(self.generate, **options)
            if generate.context.policy == "auto":
                self._encode(placed)
            return Read(asked, placed, generate.plan(asked.query, placed), gold)
        prompt = self.generate.prompt
        prefix, question = prompt.prefix(), prompt.question(asked.query)
        if setting.layout == "question":
            return Read(asked, [], sequential_plan((*prefix.token_ids, *question)), gold)
        pieces = [piece for passage in reversed(placed) for piece in self._pieces(passage)]
        plan = block_plan(prefix, tuple((piece, None) for piece in pieces), question)
        return Read(asked, placed, plan, gold)

    def _encode(self, passages: Sequence[Passage]) -> None:
        """Put what is missing into the cache: where it is missing no planner reads it."""
        prompt, cache = self.generate.prompt, self.engine.cache
        segments = [prompt.passage(passage, prompt.prefix()) for passage in passages]
        missing = [one for one in segments if cache is not None and cache.get(one).kv is None]
        self.engine.store(list(zip(missing, self.engine.encode_all(missing), strict=True)))

    def _pieces(self, passage: Passage) -> list[Segment]:
        """Return what is read of a passage, each sentence, header and closing a segment."""
        prompt = self.generate.prompt
        segment = prompt.passage(passage, prompt.prefix())
        kept = readable(prompt, passage, prompt.prefix()).cached[1]
        read = set(range(len(segment)) if kept is None else kept)
        ranges = [*segment.sentence_rows]
        ends = [0, *(end for pair in ranges for end in pair), len(segment)]
        return [
            replace(
                segment,
                token_ids=segment.token_ids[start:end],
                sentence_rows=((0, end - start),),
                name=f"{passage.id}:{start}",
            )
            for start, end in pairwise(ends)
            if end > start and start in read
        ]

    @torch.inference_mode()
    def rows(
        self, part: Part, setting: Setting, asked: Sequence[Asked]
    ) -> tuple[list[Row], dict[str, np.ndarray]]:
        """Return the rows of a block of questions, and the attention mass if it is watched."""
        found = [self.read(part, setting, one) for one in asked]
        block = [one for one in found if one is not None]
        if not block:
            return [], {}
        engine = self.engine
        states = engine.prefill_batch([one.plan for one in block], watch=setting.watched)
        for state in states:
            engine.store(state.fresh)
        told: Sequence[Told | None] = [None] * len(block)
        if setting.answers or setting.exact:
            forks = [engine.fork(state) for state in states]
            told = self._answers(block, forks, keep=setting.exact)
        if setting.exact:
            self._remember(part, setting, block, told)
        of_block = [self.references[self._key(part, setting, one.asked)] for one in block]
        logits = following(
            engine,
            [*states, *states],
            [*(one.gold for one in block), *(of.token_ids for of in of_block)],
        )
        rows = []
        for place, (one, answer) in enumerate(zip(block, told, strict=True)):
            gold = torch.tensor(one.gold, device=logits[place].device)[:, None]
            nll = -logits[place].double().log_softmax(-1).gather(1, gold).mean()
            kl = divergence_of(logits[len(block) + place].log_softmax(-1), of_block[place])
            rows.append(self._row(part, setting, one, answer, float(nll), kl))
        masses = {
            one.asked.id: answer.mass.to("cpu", torch.float16).numpy()
            for one, answer in zip(block, told, strict=True)
            if answer is not None and answer.mass is not None
        }
        return rows, masses

    def _row(
        self, part: Part, setting: Setting, one: Read, answer: Told | None, nll: float, kl: float
    ) -> Row:
        plan, question = one.plan, len(self.generate.prompt.question(one.asked.query))
        row: Row = {
            "part": part.name,
            "data": one.asked.data,
            "setting": setting.name,
            "id": one.asked.id,
            "nll": round(nll, 4),
            "kl": round(kl, 4),
            "cached": plan.cached_tokens,
            "computed": plan.computed_tokens,
            "recomputed": plan.computed_tokens - question,
            "gold": "|".join(map(str, one.asked.gold_ranks(part.passages))),
            "device": self.device,
        }
        if setting.pruner:
            row |= _gold_kept(one.asked, part.passages, setting.pruner)
        if answer is not None and setting.answers:
            row |= {
                "em": exact_match(answer.text, one.asked.answers),
                "f1": round(token_f1(answer.text, one.asked.answers), 4),
                "contains": contains_answer(answer.text, one.asked.answers),
                "length": answer.length,
                "text": answer.text,
            }
        return row

    def _remember(
        self, part: Part, setting: Setting, block: Sequence[Read], told: Sequence[Told | None]
    ) -> None:
        for one, answer in zip(block, told, strict=True):
            assert answer is not None
            log_probs = torch.stack(answer.logits).log_softmax(-1)
            key = self._key(part, setting, one.asked)
            self.references[key] = Reference(answer.ids, log_probs)

    def _key(self, part: Part, setting: Setting, asked: Asked) -> tuple[object, ...]:
        return part.name, *setting.read_alike, asked.data, asked.id

    def _answers(
        self, block: Sequence[Read], states: Sequence[Prefilled], *, keep: bool
    ) -> list[Told]:
        """Decode greedy answers; the states are spent.

        The attention of a token is that of the query that chose it; the token that ends an answer
        counts for nothing.
        """
        prompt, engine = self.generate.prompt, self.engine
        streams = [TextStream(prompt.text, prompt.template.stop) for _ in block]
        logits = [[state.logits] for state in states]
        masses = [_mass(state, one.passages) for state, one in zip(states, block, strict=True)]
        ids: list[list[int]] = [[] for _ in block]
        going = dict(enumerate(states))
        for count in range(1, LONGEST + 1):
            chosen = torch.stack([state.logits for state in going.values()]).argmax(-1).tolist()
            tokens = {}
            for row, token in zip(going, chosen, strict=True):
                if token not in self.stop:
                    streams[row].push(token)
                    if not streams[row].stopped:
                        tokens[row] = token
                        ids[row].append(token)
            if not tokens or count == LONGEST:
                break
            after = engine.advance_batch([going[row] for row in tokens], list(tokens.values()))
            going = dict(zip(tokens, after, strict=True))
            for row, state in going.items():
                if keep and count < COMPARED:
                    logits[row].append(state.logits)
                masses[row] += _mass(state, block[row].passages)
        for stream in streams:
            stream.rest()
        return [
            Told(
                stream.text,
                tuple(of_row[:COMPARED]) or (int(first[0].argmax()),),
                first[: max(1, min(len(of_row), COMPARED))],
                len(of_row),
                mass if mass.numel() else None,
            )
            for stream, of_row, first, mass in zip(streams, ids, logits, masses, strict=True)
        ]


def _gold_kept(asked: Asked, count: int, pruner: str) -> Row:
    """Return the share of gold sentences that a pruner keeps; nothing if none was retrieved."""
    stays = [
        row in kept
        for passage, kept in zip(
            asked.passages[:count], asked.decisions[pruner][count], strict=True
        )
        for row in asked.supporting.get(passage.document, ())
    ]
    return {"gold_kept": round(fmean(stays), 3)} if stays else {}


def _mass(state: Prefilled, passages: Sequence[Passage]) -> Tensor:
    """Return a state's attention to each passage and to the rest: (layers, heads, passages + 1).

    It is empty where attention is not watched.
    """
    mass = state.cache.mass
    if mass is None or state.units is None:
        return torch.zeros(0)
    places = {passage.id: place for place, passage in enumerate(passages)}
    columns = [*(places[unit.passage] for unit in state.units), len(passages)]
    found = mass.new_zeros(*mass.shape[:2], len(passages) + 1)
    return found.index_add_(2, torch.tensor(columns, device=mass.device), mass)


@torch.inference_mode()
def following(
    engine: Engine, states: Sequence[Prefilled], answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Return what `Engine.following` does for each of several states, in one forward pass.

    Args:
        engine: read them.
        states: stay as they are; one may come twice.
        answers: one a state, at least one token each.

    Returns:
        The logits that each answer's tokens are chosen from, (tokens, vocabulary) each.
    """
    rows = [row for row, answer in enumerate(answers) if len(answer) > 1]
    found = [state.logits[None] for state in states]
    if not rows:
        return found
    model, caches = engine.model, [engine.fork(states[row]).cache for row in rows]
    counts = [len(answers[row]) - 1 for row in rows]
    ids = [token for row in rows for token in answers[row][:-1]]
    stand = [
        torch.arange(count, device=model.device) + states[row].position
        for row, count in zip(rows, counts, strict=True)
    ]
    for cache, here in zip(caches, stand, strict=True):
        cache.announce(here)
    out = model(
        torch.tensor(ids, device=model.device)[None],
        position_ids=torch.cat(stand)[None],
        past_key_values=BatchCache(caches, counts),
        use_cache=True,
    ).logits[0]
    wide = out.to(torch.promote_types(out.dtype, torch.float32))
    for row, later in zip(rows, wide.split(counts), strict=True):
        found[row] = torch.cat([found[row], later])
    return found


class Log:
    """Rows of one job, appended as they come; what other jobs wrote counts as done."""

    def __init__(self, folder: Path, job: int, kind: str = "") -> None:
        """Open a job's file, `kind` in its name where runs of several kinds share a folder."""
        self._path = folder / f"rows-{kind}{job:02}.jsonl"
        if self._path.exists():
            whole = self._path.read_bytes()
            # What was being written when the process was killed.
            self._path.write_bytes(whole[: whole.rfind(b"\n") + 1])
        self._masses_path = folder / f"masses-{job:02}.npz"
        self._masses: dict[str, np.ndarray] = {}
        if self._masses_path.exists():
            with np.load(self._masses_path) as known:
                self._masses = dict(known)

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def keep(self, masses: dict[str, np.ndarray]) -> None:
        """Write attention masses, by `data/setting/question`; those of before stay."""
        if masses:
            self._masses |= masses
            partial = self._masses_path.with_suffix(".partial.npz")
            np.savez(partial, allow_pickle=False, **self._masses)
            partial.rename(self._masses_path)


def read_rows(folder: Path, pattern: str = "rows-*.jsonl") -> list[Row]:
    """Return the rows of all jobs, each once; a line that was cut off is passed over."""
    found: dict[tuple[str, ...], Row] = {}
    for path in sorted(folder.glob(pattern)):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.endswith("}"):
                row = json.loads(line)
                found[key_of(row)] = row
    return list(found.values())


def key_of(row: Row) -> tuple[str, ...]:
    """Return what tells a row from others."""
    return tuple(row[name] for name in ("part", "data", "setting", "id"))


def calibrated(rows: Iterable[Row], folder: Path) -> dict[str, ContextWeights]:
    """Return the weights with the least mean NLL, and with the least mean KL, of the grid's rows.

    They are the same for all data sets, each of which counts alike, and once chosen stay chosen. A
    cell counts with the questions that it was asked.
    """
    path = folder / CHOSEN
    if not path.exists():
        cells: dict[str, list[Row]] = {}
        for row in rows:
            if row["part"] == "grid" and row["setting"] != EXACT:
                cells.setdefault(row["setting"], []).append(row)
        named = dict(grid())
        chosen = {}
        for metric in ("nll", "kl") if cells else ():
            mean = {name: _mean(of_cell, metric) for name, of_cell in cells.items()}
            best = named[min(mean, key=mean.__getitem__)]
            chosen[metric] = [best.temperature, best.scale, best.bias]
        content = json.dumps(chosen).encode()
        write_atomically(path, lambda file: file.write(content), mode=0o644)
    return {
        f"{metric.upper()}": ContextWeights(*values)
        for metric, values in json.loads(path.read_text()).items()
    }


def _mean(rows: Sequence[Row], metric: str) -> float:
    sets = {row["data"] for row in rows}
    return fmean(fmean(row[metric] for row in rows if row["data"] == one) for one in sets)


@dataclass(frozen=True)
class Run:
    """What `generate` was asked for; see its command."""

    questions: Path
    out: Path
    model: str
    jobs: int
    minutes: float | None
    block: int
    limit: int | None
    plain: bool
    masses: bool
    only: list[str] | None = None
    parts: tuple[Part, ...] = ()
    """Instead of those of the quality page."""

    def wants(self, part: Part) -> bool:
        """Return whether a part is asked at all."""
        return self.only is None or part.name in self.only

    def of_part(self, part: Part) -> list[Asked]:
        """Return the questions of a part, those of all data sets in turn."""
        asked = read_asked(self.questions)
        count = min(part.questions, self.limit or part.questions)
        chosen: dict[str, list[Asked]] = {}
        for one in asked:
            of_set = chosen.setdefault(one.data, [])
            if one.calibrating == part.calibrating and len(of_set) < count:
                of_set.append(one)
        longest = max(map(len, chosen.values()))
        return [
            of_set[row] for row in range(longest) for of_set in chosen.values() if row < len(of_set)
        ]


def generate(run: Run) -> None:
    """Ask every setting every question that has no row yet, until the minutes are over."""
    spread(partial(_work, run), run.jobs, run.minutes)


def spread(
    work: Callable[[int, float | None, Barrier | None], None], count: int, minutes: float | None
) -> None:
    """Do work in some processes, or in this one if it is one.

    Args:
        work: takes the number of its job, when to stop by the monotonic clock, and what jobs meet
            at.
        count: jobs.
        minutes: until the work is to stop.

    Raises:
        SystemExit: if a job failed.
    """
    began = time.monotonic()
    deadline = None if minutes is None else began + 60 * minutes
    if count == 1:
        work(0, deadline, None)
        return
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    # The deadline is a reading of the monotonic clock, which all processes of a machine share.
    jobs = [context.Process(target=work, args=(job, deadline, barrier)) for job in range(count)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    failed = [str(row) for row, job in enumerate(jobs) if job.exitcode]
    if failed:
        raise SystemExit(f"jobs {', '.join(failed)} failed; the same command goes on")


def _work(run: Run, job: int, deadline: float | None, barrier: Barrier | None) -> None:
    """Do one job's share."""
    torch.set_num_threads(1 if run.jobs > 1 else torch.get_num_threads())
    bench = Bench(run.model, plain=run.plain, block=run.block)
    log = Log(run.out, job)
    if job == 0:
        say_where(bench.device, run.out)
    done = {key_of(row) for row in read_rows(run.out)}
    if run.parts:
        for part in run.parts:
            _ask(run, job, bench, log, done, part, deadline)
        return
    if run.wants(first_part()):
        _ask(run, job, bench, log, done, first_part(), deadline)
    _meet(barrier)
    chosen = calibrated(read_rows(run.out), run.out) if job == 0 else {}
    _meet(barrier)
    chosen = chosen or calibrated(read_rows(run.out), run.out)
    for part in filter(run.wants, parts(chosen)):
        _ask(run, job, bench, log, done, part, deadline)


def say_where(device: str, out: Path) -> None:
    """Write the libraries of a device beside those of the devices that rows came from before."""
    path = out / ABOUT
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[device] = f"torch {torch.__version__}, transformers {transformers.__version__}"
    content = json.dumps(known).encode()
    write_atomically(path, lambda file: file.write(content), mode=0o644)


def _meet(barrier: Barrier | None) -> None:
    """Wait for the other jobs; where one has died, go on with what is there."""
    if barrier is not None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(WAIT_S)


def _ask(
    run: Run,
    job: int,
    bench: Bench,
    log: Log,
    done: set[tuple[str, ...]],
    part: Part,
    deadline: float | None,
) -> None:
    """Ask a job's share of a part, block by block, all settings of a block in turn."""
    mine = run.of_part(part)[job :: run.jobs]
    for start in range(0, len(mine), run.block):
        block = mine[start : start + run.block]
        masses: dict[str, np.ndarray] = {}
        missing = {
            setting.name: [
                one for one in block if (part.name, one.data, setting.name, one.id) not in done
            ]
            for setting in part.settings
        }
        for setting in part.settings:
            if deadline is not None and time.monotonic() > deadline:
                break
            wanted = replace(setting, watched=setting.watched and run.masses)
            asked = missing[setting.name]
            if setting.exact:
                alike = [one for one in part.settings if one.read_alike == setting.read_alike]
                needing = {one.id for other in alike for one in missing[other.name]}
                asked = [one for one in block if one.id in needing]
            rows, seen = bench.rows(part, wanted, asked)
            for row in rows:
                if key_of(row) in done:
                    row["setting"] = f"{setting.name}, {AGAIN}"
            log.append(row for row in rows if key_of(row) not in done)
            done |= {key_of(row) for row in rows}
            of = {row["id"]: row["data"] for row in rows}
            masses |= {f"{of[id_]}/{setting.name}/{id_}": one for id_, one in seen.items()}
        log.keep(masses)
        bench.references.clear()


def timing(run: Run) -> None:
    """Time the first token of every setting, one question at a time, caches filled beforehand.

    Of the exact mode the stock model's own prefill is timed too, so that the faster one can stand
    for it. APE is timed with one choice of weights: they change nothing in what it does.
    """
    bench = Bench(run.model, plain=run.plain, block=1)
    say_where(bench.device, run.out)
    path = run.out / "timing-00.jsonl"
    done = {key_of(row) for row in read_rows(run.out, "timing-*.jsonl")}
    weights = calibrated(read_rows(run.out), run.out)
    for part in parts(weights)[:2]:
        for asked in run.of_part(part):
            for setting in part.settings:
                alike = setting.name.startswith(("ape, paper", "ape, least"))
                if alike or (part.name, asked.data, setting.name, asked.id) in done:
                    continue
                found = bench.read(part, setting, asked)
                if found is None:
                    continue
                row: Row = {
                    "part": part.name,
                    "data": asked.data,
                    "setting": setting.name,
                    "id": asked.id,
                    "ttft_ms": round(_timed(lambda one=found: _first(bench, one.plan)), 2),
                    "device": bench.device,
                    "threads": torch.get_num_threads(),
                }
                if setting.exact:
                    row["stock_ms"] = round(_stock_ms(bench, found.plan), 2)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def _first(bench: Bench, plan: EncodingPlan) -> int:
    engine = bench.engine
    state = engine.prefill(plan)
    engine.store(state.fresh)
    return int(state.logits.argmax())


def _stock_ms(bench: Bench, plan: EncodingPlan) -> float:
    """Return how long the stock model's own prefill takes, with PyTorch's attention."""
    model = bench.loaded.model
    ids = torch.tensor([plan.prefill], device=model.device)
    model.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            return _timed(
                lambda: int(model(ids, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())
            )
    finally:
        model.set_attn_implementation(IMPLEMENTATION)


def _timed(work: Any) -> float:
    """Return the median time of some calls after one that is not timed."""
    work()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1e3)
    return median(taken)
