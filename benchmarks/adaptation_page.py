"""The page on adaptation: from a table of values to Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adaptation_chart import chart
from adaptation_goals import goals, goals_table
from adaptation_settings import BEST_PROMPTS
from adaptation_summary import in_short
from adaptation_tables import (
    answers_table,
    differences_table,
    evidence_table,
    refusals_table,
)
from adaptation_values import adapter_of, by_data, values_csv
from quality_rows import LONGEST
from quality_tables import LEAST
from quality_values import Results, about, read_csv

from rag.files import write_atomically
from rag.generation.refusal import REFUSAL

CSV, PAGE, CHART = "adaptation-results.csv", "adaptation-results.md", "adaptation-results.svg"
SHOWN = 12
"""Characters of a hash on the page."""


def write_page(rows: Sequence[Path], out: Path) -> Path:
    """Write the values, if there are new ones, and the page and picture that are made from them.

    Args:
        rows: folders that `generate` wrote; none takes the values that are there.
        out: folder to write to.

    Raises:
        ValueError: if rows do not belong together; see `values_csv`.
    """
    if rows:
        _write(out / CSV, values_csv(rows))
    text = (out / CSV).read_text(encoding="utf-8")
    found = read_csv(text)
    _write(out / CHART, chart(by_data(found)))
    _write(out / PAGE, "".join(page(found, about(text))).rstrip("\n") + "\n")
    return out / PAGE


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


def page(found: Results, said: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the parts of the page."""
    sets = by_data(found)
    wanted = goals(sets)
    yield TITLE
    yield "".join(f"- {sentence}\n" for sentence in in_short(sets, wanted))
    yield PICTURE
    if wanted:
        yield f"\n## The goals\n\n{GOALS.format(least=LEAST)}\n{goals_table(wanted)}"
    for data, one in sets.items():
        yield f"\n## {data}\n"
        for told, rows in (
            (ANSWERS, answers_table(one)),
            (DIFFERENCES, differences_table(one)),
            (EVIDENCE, evidence_table(one)),
            (REFUSALS, refusals_table(one)),
        ):
            if rows:
                yield f"\n{told}\n{rows}"
    yield _how(found, said)


def _how(found: Results, said: Mapping[str, Mapping[str, str]]) -> str:
    rows = "; ".join(f"{device} ({told} rows)" for device, told in said.get("rows", {}).items())
    adapter = adapter_of(found)
    return HOW.format(
        rows=rows,
        model=", ".join(said.get("model", {})),
        adapter=f"adapter {adapter[:SHOWN]}" if adapter else "no adapter yet",
        prompts=", ".join(f"`{name}`" for name in BEST_PROMPTS.values()),
        longest=LONGEST,
        refusal=REFUSAL,
    )


TITLE = """# A model before and after it is adapted to cached passages

## In short

"""
PICTURE = """
![F1 by how passages are read, base and adapted](adaptation-results.svg)
"""
GOALS = """All of the adapted model, on pruned passages unless it says whole. A verdict is by the
number itself and not by its interval; `n` below {least} leaves a goal open.
"""
ANSWERS = """Answers to the questions that have one; means with their intervals:
"""
DIFFERENCES = """What the adapter changes, and what cached rows change against one prompt of the
same text, over the questions that both have. For F1 more is better, for NLL less:
"""
EVIDENCE = """The share of an answer's citations that is gold, over the `n` answers that have some
and whose gold is known; then the share of all answers that no sentence supports, and their length:
"""
REFUSALS = """Refusals of unanswerable questions, and of those that have an answer (lost).
Unsupported are other answers to unanswerable questions that no sentence supports: the framework
shows them as abstentions, too.
"""
HOW = """
## How it was measured

    python benchmarks/adaptation.py generate EXAMPLES -o ROWS --adapter none
    python benchmarks/adaptation.py generate EXAMPLES -o ROWS --adapter auto
    python benchmarks/adaptation.py page ROWS -o docs

The last command makes this page from the rows that there are. `generate` goes on where it was
stopped; `--adapter` takes the shipped one (`auto`) or a folder that `dovetail adapt` wrote, and
EXAMPLES is a file of questions with retrieved and pruned passages that the training is told to
leave out (`dovetail adapt --leave-out`). Model {model}, {adapter}; greedy, at most {longest}
tokens. Every value is in [adaptation-results.csv](adaptation-results.csv);
[generation.md](generation.md) explains the modes. Rows are from: {rows}.

- pruned: only the sentences that the pruner keeps are read. `parallel`, `ape` and `block` read
  their cached rows re-packed ("rows re-packed" elsewhere); `ape-serial-gaps` leaves them where
  they were in whole passages that stand one after another. `graph` computes the best passage
  anew over the others. `whole-…`: all sentences are read. `sequential`: one prompt, all of it
  computed, the best passage last. `ape` has the generator's default weights.
- The base is asked with the default prompt, and in `sequential` with several ones
  ({prompts}); its best prompt is the one of these with the highest F1, on each data set.
- EM, F1: of the answer as it was said against the accepted ones, whether it is supported or not.
  NLL: of the first accepted answer, nats a token. They are of answerable questions alone.
- A citation is gold if it quotes a gold sentence, or a sentence of a gold document where none of
  that document is labelled; for documents the document is enough. Citation precision is that of
  sentences.
- refused, lost: the answer is a refusal (`{refusal}`), to a question without and with an answer.
  A question of which the pruner keeps nothing is not asked: its answer is empty, unsupported, and
  has no NLL.
- computed: tokens that run through the model before the first one of the answer, all passages being
  cached.
- `n`: questions that a number is from; a range where columns differ. Intervals are 95 % bootstraps
  over questions, of paired differences where two are compared.
"""
