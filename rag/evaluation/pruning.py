"""Pruning metrics: what a pruner kept of the gold sentences, of the answer and of the text."""

import re
from collections.abc import Mapping, Sequence

from rag.evaluation.answers import contains_answer
from rag.evaluation.data import EvaluationDataError
from rag.records import Passage

_TOKEN = re.compile(r"\w+|[^\w\s]")


def pruning_metrics(
    passages: Sequence[Passage],
    supporting: Mapping[str, Sequence[int]],
    answers: Sequence[str] = (),
) -> dict[str, float]:
    """Return the metrics of one question's pruned passages that can be told, all in [0, 1].

    They judge the pruner, not the retriever: only what it was given counts. `SentR`: gold
    sentences kept, over gold sentences given. `SentP`: kept sentences that are gold, over kept
    sentences. Of a selection of words, a sentence counts as kept if at least half of its visible
    characters are. `AnswerKept`: 1 if a gold answer that stands in the texts given still stands in
    what is kept of one. `Kept`: tokens kept over tokens given, words and punctuation marks being
    tokens, so that it does not depend on a model.

    Args:
        passages: what the generator reads, with `kept` attached; without any, nothing was pruned
            and nothing is returned.
        supporting: gold sentences by document, as rows from 0; no rows where only the document is
            known.
        answers: gold answers.

    Raises:
        EvaluationDataError: if a gold row is past a passage's last sentence.
    """
    if all(passage.kept is None for passage in passages):
        return {}
    metrics = {"Kept": _kept_share(passages)}
    gold = [gold_rows(passage, supporting) for passage in passages]
    kept = [_kept_rows(passage) for passage in passages]
    given, left = sum(map(len, gold)), sum(map(len, kept))
    both = sum(len(g & k) for g, k in zip(gold, kept, strict=True))
    if given:
        metrics["SentR"] = both / given
        if left:
            metrics["SentP"] = both / left
    if answers and any(contains_answer(passage.text, answers) for passage in passages):
        metrics["AnswerKept"] = max(contains_answer(_kept_text(p), answers) for p in passages)
    return metrics


def gold_rows(passage: Passage, supporting: Mapping[str, Sequence[int]]) -> set[int]:
    """Return the rows of a passage's gold sentences.

    Raises:
        EvaluationDataError: if one is past the last sentence.
    """
    rows = set(supporting.get(passage.document, ()))
    if rows and max(rows) >= len(passage.sentences):
        raise EvaluationDataError(
            f"gold rows of {passage.document!r} must be below {len(passage.sentences)}, "
            f"got {max(rows)}"
        )
    return rows


def _kept_rows(passage: Passage) -> set[int]:
    """Return the rows of the kept sentences; words keep one of which they are half, or more."""
    kept = passage.kept
    if kept is None or kept.unit == "sentence":
        return set(passage.kept_rows)
    stays = bytearray(len(passage.text))
    for span in kept.spans:
        stays[span.start : span.end] = b"\1" * len(span)
    rows = set()
    for row, sentence in enumerate(passage.sentences):
        visible = [
            at for at in range(sentence.start, sentence.end) if not passage.text[at].isspace()
        ]
        if visible and 2 * sum(stays[at] for at in visible) >= len(visible):
            rows.add(row)
    return rows


def _kept_share(passages: Sequence[Passage]) -> float:
    given = sum(count_tokens(passage.text) for passage in passages)
    return sum(count_tokens(_kept_text(passage)) for passage in passages) / given if given else 1.0


def _kept_text(passage: Passage) -> str:
    return passage.text if passage.kept is None else passage.kept.text(passage.text)


def count_tokens(text: str) -> int:
    """Return how many words and punctuation marks a text has."""
    return sum(1 for _ in _TOKEN.finditer(text))
