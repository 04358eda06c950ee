"""Examples to learn reading from, prepared as inference would meet them: retrieved, then pruned."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pipelines.adapting.choice import Choice
from pipelines.adapting.contexts import ContextRule, folder_contexts, pool_contexts
from pipelines.adapting.left_out import LeftOut
from pipelines.adapting.pruned import Reader
from pipelines.adapting.questions import AskedQuestion, folder_questions
from pipelines.adapting.sources import source_kind, source_licences, source_sha
from pruners.training.labelled import LabelledPassage, read_labelled
from rag.adaptation.examples import ReadingExample, read_examples
from rag.records import Passage
from rag.training.watching import Unwatched, Watcher

if TYPE_CHECKING:
    from rag.protocols import Encoder

SearchKind = Literal["hybrid", "bm25"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Examples, and what became of the rest.

    Attributes:
        examples: in the order of the sources and of their questions.
        left_out: questions that are not among them, by reason; those that a limit, a share or a
            list of ids did not take are not counted.
        licences: what `meta.json` in or beside the data says of its licences, each once.
        data_sha: SHA-256 of the sources' contents.
    """

    examples: list[ReadingExample]
    left_out: Mapping[str, int] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    data_sha: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each data set, in order."""
        return dict(Counter(example.data for example in self.examples))


def prepare(
    sources: Sequence[Path],
    *,
    leave_out: Sequence[Path] = (),
    passages: int = 5,
    pruner: str = "features",
    encoder: str | Encoder = "minilm",
    threshold: float | None = None,
    gold_always: bool = True,
    shown: bool = False,
    search: SearchKind = "hybrid",
    refusals: float = 0.15,
    without_answers: bool = False,
    answer_words: int = 12,
    only: Collection[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Prepared:
    """Return the examples of some sources, in their order.

    For each question of a data folder the passages are those that search brings over its corpus,
    with the gold ones among them. An unanswerable question reads what search brings and the
    document that comes nearest; passages that are gold for an answerable question with the same
    terms are not read for it. For a question of labelled passages they are those that the data
    gives it, filled up by BM25 over all passages of its source; passages that hold an accepted
    answer without being gold are not read. Then a pruner decides on all of them in one go, as it
    does when a question is asked. A question that was asked before, by its words, is left out.

    Of accepted answers the first one that stands in what is kept comes first and is learned, or
    the first of all if none stands there, as `yes` and answers that have to be worked out.

    Args:
        sources: folders of evaluation data, labelled `.jsonl[.gz]` files or folders with
            `train.jsonl[.gz]`, or files of prepared examples, whose passages stay as they are.
        leave_out: folders of evaluation data and files of prepared examples: their questions, and
            questions whose gold passage or article they hold, are left out, and no passage of
            theirs is read.
        passages: how many are read for a question, at least 1.
        pruner: `features`, `sentences`, `none`, or the folder of a head that `dovetail train
            pruner --kind features` made.
        encoder: of search and pruner; a name is loaded when it is first needed.
        threshold: of the pruner; None takes its own.
        gold_always: whether gold passages that search missed take the places of its last ones;
            else such a question is left out.
        shown: whether the paragraphs that a data folder shows with a question, its `context_ids`,
            are read in place of what search brings, ranked by search.
        search: over data folders; `bm25` needs no encoder.
        refusals: share of unanswerable questions in a data set that has some, in [0, 1); prepared
            examples keep theirs.
        without_answers: whether questions are kept for which nobody wrote an answer.
        answer_words: the longest answer to learn, in words, at least 1.
        only: ids of questions to take, unanswerable ones whatever their share; None takes all.
        limit: the most questions of a data set in a source, at least 1.
        seed: of the samples.
        watcher: sees the stages of the work.

    Raises:
        ValueError: for an argument out of its range, or a pruner that knows another encoder.
        EvaluationDataError: if a data folder is not in the layout.
        LabelledDataError: if a labelled file is not.
        ExampleError: if a file of examples is not.
    """
    for name, number in (("passages", passages), ("answer_words", answer_words), ("limit", limit)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not 0.0 <= refusals < 1.0:
        raise ValueError(f"refusals must be in [0, 1), got {refusals}")
    if search not in get_args(SearchKind):
        raise ValueError(f"search must be one of {get_args(SearchKind)}, got {search!r}")
    watched = watcher or Unwatched()
    late = _Late(encoder)
    reader = Reader(pruner, lambda: late.encoder, threshold, watched)
    rule = ContextRule(passages, LeftOut.read(leave_out), gold_always, fill=not shown)
    choice = Choice(rule.apart, without_answers, only, refusals, limit, seed)
    examples: list[ReadingExample] = []
    terms: dict[str, None] = {}
    sha = hashlib.sha256()
    for source in sources:
        terms.update(dict.fromkeys(source_licences(source)))
        sha.update(source_sha(source).encode())
        kind = source_kind(source)
        if kind == "examples":
            examples += choice.of_examples(read_examples(source))
            continue
        if kind == "folder":
            questions = choice(folder_questions(source, shown=shown))
            by = late.encoder if search == "hybrid" and questions else None
            contexts = folder_contexts(source, questions, rule, encoder=by, watcher=watched)
        else:
            questions, contexts = _pooled(read_labelled(source), choice, rule, watched)
        pairs = [pair for pair in zip(questions, contexts, strict=True) if pair[1]]
        choice.left["gold passages not among those read"] += len(questions) - len(pairs)
        made = reader(pairs)
        short = [one for one in made if len((one.target or "").split()) <= answer_words]
        choice.left["long answer"] += len(made) - len(short)
        examples += short
    left = {reason: count for reason, count in sorted(choice.left.items()) if count}
    return Prepared(examples, left, tuple(terms), sha.hexdigest())


class _Late:
    """An encoder that is loaded when it is first needed."""

    def __init__(self, encoder: str | Encoder) -> None:
        self._given = encoder

    @cached_property
    def encoder(self) -> Encoder:
        if not isinstance(self._given, str):
            return self._given
        from rag.models.encoder import load_encoder

        return load_encoder(self._given)


def _pooled(
    rows: Sequence[LabelledPassage], choice: Choice, rule: ContextRule, watcher: Watcher
) -> tuple[list[AskedQuestion], list[tuple[Passage, ...]]]:
    """Return questions, source by source, with what they read of their source's passages."""
    chosen = choice.of_rows(rows)
    rule = replace(rule, fill=True, answer_free=True)
    asked: list[AskedQuestion] = []
    contexts: list[tuple[Passage, ...]] = []
    for data in dict.fromkeys(question.data for question in chosen):
        distinct = {row.key: row for row in reversed(rows) if row.source == data}
        pool = [row.passage() for row in rows if distinct.get(row.key) is row]
        of_data = [question for question in chosen if question.data == data]
        asked += of_data
        contexts += pool_contexts(pool, of_data, rule, watcher=watcher)
    return asked, contexts
