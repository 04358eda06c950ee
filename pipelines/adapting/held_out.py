"""Questions to hold out from training: by whole articles where many questions share one."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipelines.adapting.left_out import article_key
from pipelines.adapting.questions import AskedQuestion, drawn, folder_questions

_SHARED = 10  # questions an article, from which on articles are held out as a whole


def held_out(
    folder: Path,
    count: int,
    *,
    unanswerable: int = 0,
    seed: int = 0,
    share: float = 1 / 3,
    apart_from: Collection[str] = (),
) -> tuple[list[str], set[str]]:
    """Return ids of questions to hold out, and the articles that must not be trained on.

    Where ten questions or more share an article on average, whole articles are drawn: at least
    `share` of them, and as many as it takes to find the questions, which are then drawn from those
    articles. Elsewhere questions are drawn, and their gold passages name the articles. Draws depend
    on names, ids and the seed alone.

    Args:
        folder: of evaluation data.
        count: questions with an answer, at least 1; fewer where there are no more.
        unanswerable: questions without one, at least 0.
        seed: of the draws.
        share: of the articles, in (0, 1).
        apart_from: articles that are held out already, as this function returns them.

    Raises:
        ValueError: for an argument out of its range.
        EvaluationDataError: if the folder is not in the layout.
    """
    if count < 1 or unanswerable < 0:
        got = f"{count} and {unanswerable}"
        raise ValueError(f"count must be at least 1 and unanswerable at least 0, got {got}")
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must be in (0, 1), got {share}")
    questions = folder_questions(folder)
    of_article: dict[str, list[AskedQuestion]] = {}
    for question in questions:
        for article in _articles(question):
            of_article.setdefault(article, []).append(question)
    free = [q for q in questions if _articles(q).isdisjoint(apart_from)]
    if len(questions) < _SHARED * len(of_article):
        ids = _drawn(free, count, unanswerable, seed)
        taken = set(ids)
        return ids, {article for q in free if q.id in taken for article in _articles(q)}
    articles: set[str] = set()
    inside: list[AskedQuestion] = []
    for article in drawn(of_article.keys() - set(apart_from), seed):
        refused = sum(question.unanswerable for question in inside)
        enough = len(inside) - refused >= count and refused >= unanswerable
        if enough and len(articles) >= share * len(of_article):
            break
        articles.add(article)
        inside = [question for question in free if _articles(question) <= articles]
    return _drawn(inside, count, unanswerable, seed), articles


def _drawn(
    questions: Collection[AskedQuestion], count: int, unanswerable: int, seed: int
) -> list[str]:
    answerable = drawn((q.id for q in questions if not q.unanswerable), seed)
    refused = drawn((q.id for q in questions if q.unanswerable), seed)
    return [*answerable[:count], *refused[:unanswerable]]


def _articles(question: AskedQuestion) -> set[str]:
    return {article_key(passage.title) or passage.document for passage in question.must}
