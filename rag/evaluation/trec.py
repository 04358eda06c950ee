"""TREC run lines: rankings as trec_eval and its relatives read them."""

from collections.abc import Iterator, Sequence


def run_lines(question: str, documents: Sequence[str], tag: str) -> Iterator[str]:
    """Yield `question Q0 document rank score tag`, one line a document, without line feeds.

    Readers sort by score and break ties in their own ways, and a reranker's scores do not go on
    into the ranking below it; so the score is 1 / rank, which falls strictly for 10,000 ranks.

    Args:
        question: id.
        documents: ids, best first.
        tag: names the run.

    Raises:
        ValueError: if a name is empty or holds white space, which the format has no way to write.
    """
    for name, value in (("question", question), ("tag", tag)):
        _check(name, value)
    for rank, document in enumerate(documents, 1):
        _check("documents", document)
        yield f"{question} Q0 {document} {rank} {1 / rank:.8f} {tag}"


def _check(name: str, value: str) -> None:
    if value.split() != [value]:
        raise ValueError(f"{name} must be a word without white space, got {value!r}")
