"""Rows of the page on adaptation: a model's answers to every question in every setting."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from adaptation_settings import chosen_settings
from quality_rows import (
    LONGEST,
    Kept,
    Log,
    Row,
    following,
    key_of,
    read_rows,
    say_where,
    spread,
)

from rag.adaptation.examples import ReadingExample, read_examples
from rag.evaluation.answers import contains_answer, exact_match, token_f1
from rag.evaluation.citations import citation_precision
from rag.generation.cached import GenerateCached
from rag.generation.chat_template import has_chat_template
from rag.generation.decoding import Sampling
from rag.generation.local_model import LocalModel
from rag.generation.refusal import is_refusal
from rag.records import text_sha

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from quality_settings import Setting

    from rag.generation.engine import Engine
    from rag.generation.plan import EncodingPlan
    from rag.generation.prefilled import Prefilled
    from rag.generation.prompt import PromptEncoder
    from rag.records import Answer, Passage

BASE = "none"
"""Adapter of rows that the base gave."""
SEGMENTS = 16
"""Segments of a question that are kept for the settings after."""
SHORT = 12
"""Characters of a hash in a row."""


@dataclass(frozen=True)
class Run:
    """What `generate` was asked for; see its command."""

    examples: Path
    out: Path
    model: str = "smollm2-135m"
    adapter: str = BASE
    limit: int | None = None
    minutes: float | None = None
    settings: tuple[str, ...] | None = None
    jobs: int = 1
    block: int = 8


@dataclass
class Listening:
    """An engine that keeps what it read of the questions of a batch, as it was before any answer.

    Attributes:
        engine: does all the work.
        plans: of the batch, without the questions for which there was nothing to read.
        states: of the same, to go on from.
    """

    engine: Engine
    plans: list[EncodingPlan] = field(default_factory=list)
    states: list[Prefilled] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def prefill_batch(
        self, plans: Sequence[EncodingPlan], *, watch: bool = False
    ) -> list[Prefilled]:
        """Do what the engine does, and keep a fork of every state."""
        states = self.engine.prefill_batch(plans, watch=watch)
        self.plans += plans
        self.states += map(self.engine.fork, states)
        return states

    def forget(self) -> None:
        """Let go of what was kept."""
        self.plans, self.states = [], []


class Judge:
    """A model, maybe adapted, that answers questions and is judged by them."""

    def __init__(self, model: str, adapter: str, *, block: int) -> None:
        self.model = LocalModel.open(model, adapter=adapter)
        identity = self.model.identity
        self.adapter = identity.adapter or BASE
        self.weights = identity.weights[:SHORT]
        self.name = Path(model).name
        self.listening = Listening(self.model.engine(Kept(SEGMENTS * block + 8)))

    @property
    def device(self) -> str:
        """Where the model runs."""
        where = self.listening.engine.model.device
        return torch.cuda.get_device_name() if where.type == "cuda" else "cpu"

    def settings(self, names: Sequence[str] | None) -> tuple[Setting, ...]:
        """Return the settings that it is asked in; see `chosen_settings`."""
        return chosen_settings(
            names,
            adapted=self.adapter != BASE,
            has_chat=has_chat_template(self.model.prompt.tokenizer),
        )

    @torch.inference_mode()
    def rows(self, setting: Setting, examples: Sequence[ReadingExample]) -> list[Row]:
        """Return the rows of some questions, which are answered together.

        A question for which nothing is kept of any passage is answered by no model: its text is
        empty, and it has no likelihood.
        """
        if not examples:
            return []
        prompt = self.model.prompt_of(setting.prompt)
        engine: Any = self.listening
        generate = GenerateCached(engine, prompt, sampling=Sampling(LONGEST), **setting.options)
        passages = [_read(setting, one) for one in examples]
        answers = generate.batch(query=[one.query for one in examples], passages=passages)
        read = [
            place for place, of in enumerate(passages) if any(passage.kept_rows for passage in of)
        ]
        plans = dict(zip(read, self.listening.plans, strict=True))
        states = dict(zip(read, self.listening.states, strict=True))
        nll = self._nll(prompt, examples, states)
        self.listening.forget()
        return [
            self._row(setting, one, of, answer, plans.get(place), nll.get(place))
            for place, (one, of, answer) in enumerate(zip(examples, passages, answers, strict=True))
        ]

    def _nll(
        self,
        prompt: PromptEncoder,
        examples: Sequence[ReadingExample],
        states: dict[int, Prefilled],
    ) -> dict[int, float]:
        """Return the mean NLL of the first accepted answer's tokens, of questions that have one."""
        # The turn of a chat begins with the answer, a text goes on after a space.
        before = "" if prompt.template.chat else " "
        gold = {
            place: prompt.ids(before + examples[place].answers[0])
            for place in states
            if not examples[place].unanswerable
        }
        of_gold = [states[place] for place in gold]
        logits = following(self.listening.engine, of_gold, list(gold.values()))
        found = {}
        for (place, ids), of in zip(gold.items(), logits, strict=True):
            wanted = torch.tensor(ids, device=of.device)[:, None]
            found[place] = float(-of.double().log_softmax(-1).gather(1, wanted).mean())
        return found

    def _row(
        self,
        setting: Setting,
        example: ReadingExample,
        passages: Sequence[Passage],
        answer: Answer,
        plan: EncodingPlan | None,
        nll: float | None,
    ) -> Row:
        refusal = is_refusal(answer.text)
        ranks = [f"{rank}" for rank, one in enumerate(passages, 1) if one.document in example.gold]
        row: Row = {
            "part": self.adapter,
            "data": example.data,
            "setting": setting.name,
            "id": example.id,
            "unanswerable": example.unanswerable,
            "cached": 0 if plan is None else plan.cached_tokens,
            "computed": 0 if plan is None else plan.computed_tokens,
            "gold": "|".join(ranks),
            "unsupported": float(answer.abstained and not refusal),
            "refused" if example.unanswerable else "lost": float(refusal),
            "answer_tokens": answer.tokens.generated,
            "text": answer.text,
            "cited": [[one.document, one.quote] for one in answer.citations],
            "model": self.name,
            "weights": self.weights,
            "asked": fingerprint(example),
            "device": self.device,
        }
        if example.unanswerable:
            return row
        judged: dict[str, float | None] = {
            "em": exact_match(answer.text, example.answers),
            "f1": token_f1(answer.text, example.answers),
            "contains": contains_answer(answer.text, example.answers),
            "nll": nll,
            "gold_kept": gold_kept(example, passages),
            **cited_gold(example, passages, answer),
        }
        return row | {name: round(value, 4) for name, value in judged.items() if value is not None}


def _read(setting: Setting, example: ReadingExample) -> tuple[Passage, ...]:
    """Return the passages as a setting reads them: as the pruner left them, or whole."""
    if setting.pruned:
        return example.passages
    return tuple(replace(passage, kept=None) for passage in example.passages)


def gold_kept(example: ReadingExample, passages: Sequence[Passage]) -> float | None:
    """Return the share of the gold sentences among the passages that is read; None without any."""
    stays = [
        row in passage.kept_rows
        for passage in passages
        for row in example.gold.get(passage.document, ())
    ]
    return fmean(stays) if stays else None


def cited_gold(
    example: ReadingExample, passages: Sequence[Passage], answer: Answer
) -> dict[str, float | None]:
    """Return the share of citations of a gold document, and of a gold sentence.

    Each is None without citations or gold; that of sentences also where no sentence is labelled.
    """
    documents = frozenset(example.gold)
    cited = answer.citations
    sentences = any(example.gold.values())
    return {
        "cite_document": citation_precision(cited, passages, {}, documents),
        "cite_sentence": citation_precision(cited, passages, example.gold, documents)
        if sentences
        else None,
    }


def fingerprint(example: ReadingExample) -> str:
    """Return a hash of what is asked and read, so that rows of other questions are told apart."""
    read = [[passage.title, passage.text, passage.kept_rows] for passage in example.passages]
    facts = [example.query.text, example.answers, example.unanswerable, read]
    return text_sha(json.dumps(facts))[:SHORT]


def in_turn(examples: Iterable[ReadingExample], limit: int | None) -> list[ReadingExample]:
    """Return questions so that those of all kinds come in turn, a kind's in their order.

    A kind is a data set's questions with an answer, or those without.

    Args:
        examples: the questions.
        limit: of each kind.

    Raises:
        ValueError: if an id has white space in it, or a question has neither an answer nor is
            unanswerable.
    """
    kinds: dict[tuple[str, bool], list[ReadingExample]] = {}
    for one in examples:
        if one.target is None:
            raise ValueError(f"question {one.id!r} of {one.data} must have an answer, got none")
        if one.id.split() != [one.id]:
            raise ValueError(f"ids must have no white space, got {one.id!r} in {one.data}")
        kinds.setdefault((one.data, one.unanswerable), []).append(one)
    longest = max(map(len, kinds.values()), default=0)
    return [
        of_kind[row]
        for row in range(longest if limit is None else min(limit, longest))
        for of_kind in kinds.values()
        if row < len(of_kind)
    ]


def generate(run: Run) -> None:
    """Ask every setting every question that has no row yet, until the minutes are over.

    A block of questions is asked in all settings, one after the other, before the next one; none
    is begun for which, as long as the slowest before, there is no time.

    Raises:
        ValueError: as of `in_turn` and `chosen_settings`, or if there are rows of another base, or
            of other passages for the same question.
    """
    in_turn(read_examples(run.examples), run.limit)
    spread(partial(_work, run), run.jobs, run.minutes)


def _work(run: Run, job: int, deadline: float | None, barrier: Barrier | None) -> None:  # noqa: ARG001
    """Do one job's share."""
    if run.jobs > 1:
        torch.set_num_threads(1)
    mine = in_turn(read_examples(run.examples), run.limit)[job :: run.jobs]
    judge = Judge(run.model, run.adapter, block=run.block)
    settings = judge.settings(run.settings)
    done = _done(run.out, judge, mine)
    log = Log(run.out, job, f"{judge.adapter[:SHORT]}-")
    if job == 0:
        say_where(judge.device, run.out)
    began, slowest, count = time.monotonic(), 0.0, 0
    for start in range(0, len(mine), run.block):
        began_block = time.monotonic()
        if deadline is not None and began_block + slowest > deadline:
            print(f"job {job}: stops in time; the same command goes on", file=sys.stderr)
            return
        block = mine[start : start + run.block]
        for setting in settings:
            missing = [
                one for one in block if (judge.adapter, one.data, setting.name, one.id) not in done
            ]
            log.append(judge.rows(setting, missing))
            count += len(missing)
        now = time.monotonic()
        slowest = max(slowest, now - began_block)
        print(
            f"job {job}: {min(start + run.block, len(mine))} of {len(mine)} questions in"
            f" {len(settings)} settings, {count} new rows, {(now - began) / 60:.1f} minutes",
            file=sys.stderr,
        )


def _done(out: Path, judge: Judge, examples: Iterable[ReadingExample]) -> set[tuple[str, ...]]:
    """Return the keys of the rows that there are, if they fit to what is asked now."""
    asked = {(one.data, one.id): fingerprint(one) for one in examples}
    rows = read_rows(out)
    for row in rows:
        if row["weights"] != judge.weights:
            raise ValueError(
                f"out must have rows of one base, got {out} with weights {row['weights']}, not"
                f" {judge.weights}"
            )
        if asked.get((row["data"], row["id"]), row["asked"]) != row["asked"]:
            raise ValueError(
                f"question {row['id']!r} of {row['data']} was asked with other passages in {out}"
            )
    return {key_of(row) for row in rows}
