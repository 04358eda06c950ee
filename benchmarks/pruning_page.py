"""The pruning page: from statistics to Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pruning_rows import PROBED
from pruning_summary import in_short
from pruning_tables import (
    equal_table,
    main_table,
    places_table,
    rankings_table,
    thresholds_table,
    times_table,
)
from pruning_values import CSV, STEPS, Values, as_csv, read_csv, values

from pipelines.drawing.line_chart import Panel, line_chart
from rag.files import write_atomically

PAGE, CHART = "pruning-results.md", "pruning-results.svg"


def write_page(rows: Path | None, questions: Path | None, out: Path, *, resamples: int) -> Path:
    """Write the statistics, if there are new rows, and the page and picture made from them."""
    if rows is not None and questions is not None:
        _write(out / CSV, as_csv(list(values(rows, questions, resamples=resamples))))
    found = Values(read_csv((out / CSV).read_text(encoding="utf-8")))
    _write(out / CHART, chart(found))
    _write(out / PAGE, "".join(page(found)).rstrip("\n") + "\n")
    return out / PAGE


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


def chart(found: Values) -> str:
    """Return the picture: gold sentences kept against characters kept, a panel a data set."""
    panels = []
    for data in found.sets:
        lines = {}
        for name in found.scorers("curve", data):
            told = [found.get("curve", data, name, f"{s / STEPS:g}") for s in range(STEPS + 1)]
            if name != "all":
                lines[name] = [
                    (step / STEPS, one.value) for step, one in enumerate(told) if one is not None
                ]
        panels.append(Panel(data, lines))
    return line_chart(
        panels,
        title="Gold sentences kept against characters kept, over all thresholds",
        across="characters kept",
        up="gold sentences kept",
        columns=3,
    )


def page(found: Values) -> Iterator[str]:
    """Yield the parts of the page."""
    yield TITLE
    yield "".join(f"- {sentence}\n" for sentence in in_short(found))
    yield HOW
    for data in found.sets:
        first = found.get("sentences", data, found.scorers("sentences", data)[0], "AP")
        count = "" if first is None else f": {first.n:,} questions"
        yield f"\n## {data}{count}\n\n{main_table(found, data)}"
        yield f"\nKept at 95 % recall, and at equal compression:\n\n{equal_table(found, data)}"
        yield f"\nAt fixed thresholds:\n\n{thresholds_table(found, data)}"
    if found.data("ranking"):
        yield f"\n## Rankings\n\n{RANKINGS}\n{rankings_table(found)}"
    if found.data("places"):
        yield f"\n## Where the gold sentence stands\n\n{PLACED}\n{places_table(found)}"
    if found.data("times"):
        said = {key: found.about(key) for key in ("cpu", "threads")}
        yield f"\n## Time\n\n{TIMED.format(**said)}\n{times_table(found)}"


TITLE = """# What scorers of sentences prune and keep

## In short

"""
HOW = """
![Gold sentences kept against characters kept](pruning-results.svg)

## How it was measured

    python benchmarks/pruning.py prepare DATA/pruner_train DATA/hotpotqa DATA/2wiki DATA/squad \\
        DATA/nq -o DIR --leave-out DATA/hotpotqa --leave-out DATA/2wiki \\
        --leave-out DATA/squad --leave-out DATA/nq
    python benchmarks/pruning.py score DIR -o ROWS
    python benchmarks/pruning.py timing DIR -o ROWS
    python benchmarks/pruning.py page ROWS --questions DIR -o docs

The last command makes this page. `score` goes on where it was stopped. Every statistic is in
[pruning-results.csv](pruning-results.csv).

- `held-out` is the tenth of the training data that no passage or question of the training shares;
  the other sets are out of domain. Passages of hotpotqa and 2wiki are those that the data sets show
  with a question; of the others, the gold passage and the nearest ones by recipe `hybrid`.
- One threshold holds for all questions and passages of a set; sentences score strictly above it or
  go. Rules that overrule scores (titles, `min_keep`, budgets) are off.
- comp@R90, comp@R95: share of characters pruned at the largest threshold that keeps 90 or 95 % of
  all gold sentences. Kept@SentR95: tokens kept there, words and punctuation marks being tokens.
- AUC: share of pairs of a gold sentence and another one that are in the right order. AP: average
  precision. SentR: gold sentences kept. AllGold: questions that keep every gold sentence.
  AnswerKept: questions that keep an accepted answer, of those whose passages hold one.
- At equal compression the two nearest thresholds are mixed where none prunes exactly that share.
- Intervals are 95 % bootstraps over questions, the threshold being chosen anew in each resample.
  Differences are paired; one whose interval holds 0 is written as none.
- `all` keeps everything, `random` is the mean of five seeds, `lead` trusts the beginning, `bm25`
  and `cosine` compare question and `title: sentence`, `sentences` mixes the two, `features` is a
  small network over such features, and `provence` reads question and passage together.
- Emptied: passages of which the threshold of 95 % recall leaves nothing, of those with a gold
  sentence, of the other passages of the same questions, and of questions without an answer.
"""
RANKINGS = """The 20 best candidates of recipe `hybrid`, ranked again. `bm25` and `cosine` are the
index's own scores of the same candidates.
"""
PLACED = f"""Gold sentences that are the only one of a passage of at least three, moved within it:
the share that the threshold of 95 % recall keeps, of at most {PROBED} questions.
"""
TIMED = """Milliseconds a passage, median over questions with the 5th and 95th percentile; all
scorers side by side in one run on {cpu}, threads: {threads}. Vectors of sentences are looked up, as
an index keeps them; the question is encoded each time.
"""
