"""Measuring ways to read passages: time to the first token, and how far the answers move."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from pipelines.evaluating.calibration.choice import Measured
from pipelines.evaluating.calibration.settings import EXACT, OPTIONS, Setting
from rag.errors import DovetailError
from rag.evaluation.answers import token_f1
from rag.generation.decoding import Sampling, TextStream
from rag.generation.fidelity import Reference, answer_nll, divergence, reference_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.evaluating.score_log import ScoreLog
    from pipelines.flow.pipeline import Pipeline
    from pipelines.progress import Progress
    from rag.evaluation.data import Question
    from rag.generation.cached import GenerateCached
    from rag.generation.prefilled import Prefilled
    from rag.records import Passage, Query

COMPARED: Final = 8
"""Tokens of the exact mode's answer that distributions are compared on."""
LONGEST: Final = 24
"""Tokens of a decoded answer."""
REPEATS: Final = 3
"""Times that a question is read for its time."""


class MeasuringError(DovetailError):
    """A run that cannot be measured."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what the generator is given for it.

    Attributes:
        question: and its accepted answers, if they are known.
        query: as the generator gets it.
        passages: best first, with the pruner's decisions; at least one sentence is kept.
    """

    question: Question
    query: Query
    passages: tuple[Passage, ...]

    @property
    def key(self) -> str:
        """Hash of everything that a measurement depends on here."""
        parts = [self.query.text, *self.question.answers]
        for passage in self.passages:
            parts += [passage.id, passage.title, passage.text, repr(passage.kept_rows)]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:20]


class Measuring:
    """Measures settings on questions, each once: what the log holds is not measured again.

    Distributions are compared on the first tokens of the exact mode's own answer, which is read
    again after an interrupt, as it is not kept. The exact mode is greedy, whatever the recipe says.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        step: str,
        asked: Sequence[Asked],
        log: ScoreLog,
        progress: Progress,
    ) -> None:
        """Prepare; nothing is measured yet.

        Args:
            pipeline: with a bound model that runs here.
            step: id of the generator, of `generate.cached`.
            asked: the questions.
            log: of what was measured before, with the same model, recipe and machine.
            progress: watches.
        """
        self.asked = asked
        self.labelled = all(one.question.answers for one in asked)
        self._pipeline = pipeline
        self._step = step
        self._log = log
        self._progress = progress
        self._generators: dict[Setting, GenerateCached] = {}
        self._references: dict[int, Reference] = {}

    def measure(
        self, settings: Sequence[Setting], rows: Sequence[int], name: str = "settings"
    ) -> list[Measured]:
        """Return what settings come to on some questions.

        A question is read in all settings before the next one, so that a machine that slows down
        for a while slows all of them.

        Args:
            settings: each is checked before anything is measured.
            rows: of the questions, at least one.
            name: what progress calls it.

        Raises:
            InvalidPipelineError: for a value that an option does not take.
            ValueError: for options that do not fit together.
        """
        unknown = [one for one in settings if any(not self._known(one, row) for row in rows)]
        for setting in unknown:
            self._generator(setting)
        self._progress.stage(name, len(rows) * len(unknown))
        for row in rows:
            for setting in unknown:
                self._values(setting, row)
                self._progress.advance()
        return [self._measured(setting, rows) for setting in settings]

    def with_answers(
        self, measured: Sequence[Measured], rows: Sequence[int], name: str = "answers"
    ) -> list[Measured]:
        """Return the same measurements with F1 of decoded answers, where answers are known.

        What is judged is what the model says, before its evidence is looked for.

        Args:
            measured: on the questions of `rows`.
            rows: of the questions.
            name: what progress calls it.
        """
        if not self.labelled:
            return list(measured)
        self._progress.stage(name, len(rows) * len(measured))
        values: dict[Setting, list[float]] = {one.setting: [] for one in measured}
        for row in rows:
            for setting, of_setting in values.items():
                of_setting.append(self._f1(setting, row))
                self._progress.advance()
        return [_replaced(one, tuple(values[one.setting])) for one in measured]

    def _measured(self, setting: Setting, rows: Sequence[int]) -> Measured:
        values = [self._values(setting, row) for row in rows]
        ttft_ms, kl, own_nll = (tuple(of[place] for of in values) for place in range(3))
        gold = tuple(of[3] for of in values) if self.labelled else ()
        return Measured(setting, ttft_ms, kl, own_nll, gold)

    def _known(self, setting: Setting, row: int) -> bool:
        return self._log.get(self._key(setting, row)) is not None

    def _key(self, setting: Setting, row: int, what: str = "") -> str:
        return json.dumps([sorted(setting.options.items()), self.asked[row].key, what])

    def _values(self, setting: Setting, row: int) -> list[float]:
        """Return TTFT, KL, NLL of the exact mode's answer, and of the accepted one if known."""
        key = self._key(setting, row)
        values = self._log.get(key)
        if values is not None:
            return values
        asked, generate = self.asked[row], self._generator(setting)
        state, ttft_ms = self._timed(generate, asked)
        if setting == EXACT:
            self._references.setdefault(row, self._reference_of(generate, state))
        reference = self._reference(row)
        engine = generate.engine
        values = [
            ttft_ms,
            divergence(engine, state, reference),
            answer_nll(engine, state, reference.token_ids),
        ]
        if self.labelled:
            values.append(answer_nll(engine, state, _gold(generate, asked.question)))
        self._log.put(key, values)
        return values

    def _f1(self, setting: Setting, row: int) -> float:
        key = self._key(setting, row, "f1")
        values = self._log.get(key)
        if values is None:
            asked, generate = self.asked[row], self._generator(setting)
            state = self._filled(generate, asked)
            stop = generate.prompt.template.stop, *generate.sampling.stop
            stream = TextStream(generate.prompt.text, *stop)
            decoded = generate.engine.decode(state, Sampling(LONGEST), generate.prompt.stop_ids)
            for token in decoded:
                stream.push(token)
                if stream.stopped:
                    break
            stream.rest()
            values = [token_f1(stream.text, asked.question.answers)]
            self._log.put(key, values)
        return values[0]

    def _timed(self, generate: GenerateCached, asked: Asked) -> tuple[Prefilled, float]:
        """Return a question that was read, and the median time that it takes with caches filled."""
        state = self._filled(generate, asked)
        taken = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            state = generate.engine.prefill(generate.plan(asked.query, _read(asked)))
            int(state.logits.argmax())
            taken.append((time.perf_counter() - began) * 1e3)
            if state.use.misses:
                raise MeasuringError(
                    f"the KV store is too small for the {len(asked.passages)} passages of one "
                    "question, so none is read from it; raise --kv-ram or --kv-disk"
                )
        return state, median(taken)

    def _filled(self, generate: GenerateCached, asked: Asked) -> Prefilled:
        """Read a question, and store what was not stored."""
        state = generate.engine.prefill(generate.plan(asked.query, _read(asked)))
        generate.engine.store(state.fresh)
        return state

    def _reference(self, row: int) -> Reference:
        if row not in self._references:
            generate = self._generator(EXACT)
            state = self._filled(generate, self.asked[row])
            self._references[row] = self._reference_of(generate, state)
        return self._references[row]

    def _reference_of(self, generate: GenerateCached, state: Prefilled) -> Reference:
        return reference_of(generate.engine, state, generate.prompt.stop_ids, COMPARED)

    def _generator(self, setting: Setting) -> GenerateCached:
        if setting not in self._generators:
            pipeline = self._pipeline.with_options(self._step, **setting.options).require_valid()
            self._generators[setting] = pipeline.operator(self._step)
        return self._generators[setting]


def own_setting(options: Mapping[str, Any]) -> Setting:
    """Return the setting of a recipe's step."""
    return Setting.of({name: options[name] for name in OPTIONS if name in options})


def _read(asked: Asked) -> list[Passage]:
    return [passage for passage in asked.passages if passage.kept_rows]


def _gold(generate: GenerateCached, question: Question) -> tuple[int, ...]:
    """Return the tokens of the first accepted answer; after a raw text it begins with a space."""
    answer = next(one.strip() for one in question.answers if one.strip())
    return generate.prompt.ids(answer if generate.prompt.template.chat else f" {answer}")


def _replaced(one: Measured, f1: tuple[float, ...]) -> Measured:
    return Measured(one.setting, one.ttft_ms, one.kl, one.own_nll, one.gold_nll, f1)
