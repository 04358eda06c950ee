"""How a table is best written for a language model: rows with bars, Markdown, or records.

Questions of OTT-QA whose answer stands in a row of their table, and whose table is short enough to
be read whole. Each table is written in three forms and read whole, and as a perfect pruner would
leave it: only the rows that hold the answer.

    python benchmarks/table_forms.py ../shared/data/ottqa_tables [--limit 60] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from measuring import machine

from pipelines.cli.terminal import progress
from rag.evaluation.answers import contains_answer, token_f1
from rag.evaluation.data import Question, jsonl_lines, read_questions, sample
from rag.evaluation.statistics import bootstrap_interval
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.local_model import LocalModel
from rag.records import Passage, Query, Selection, SentenceScore, Span, text_sha

WORDS = 400
ANSWER_TOKENS = 24
READINGS = ("whole", "gold rows")


def bars(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines `a | b`, the header first."""
    return [" | ".join(cells) for cells in (header, *rows)]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines `| a | b |`, the second one the rule below the header."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return [f"{first}\n|{'---|' * len(header)}", *others]


def records(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines `Header: value; Header: value.`, as .csv files are read."""
    return [f"{'; '.join(_named(header, cells))}." for cells in rows]


def _named(header: Sequence[str], cells: Sequence[str]) -> list[str]:
    return [f"{name}: {cell}" for name, cell in zip(header, cells, strict=False) if cell]


FORMS: dict[str, Callable[[Sequence[str], Sequence[Sequence[str]]], list[str]]] = {
    "bars": bars,
    "markdown": markdown,
    "records": records,
}


@dataclass(frozen=True)
class Table:
    """A table of the data."""

    id: str
    title: str
    header: list[str]
    rows: list[list[str]]

    def passage(self, form: str, answers: Sequence[str], reading: str) -> Passage:
        """Return the table in a form, read whole or in the rows with the answer."""
        lines = FORMS[form](self.header, self.rows)
        text = "\n".join(lines)
        ends = [0]
        for line in lines:
            ends.append(ends[-1] + len(line) + 1)
        ends[-1] -= 1
        sentences = tuple(Span(a, b) for a, b in pairwise(ends))
        whole = Passage(self.id, self.id, text, Span(0, len(text)), sentences, self.title)
        if reading == "whole":
            return replace(whole, modality="table")
        keeps = [contains_answer(one.of(text), answers) > 0 for one in sentences]
        scores = tuple(
            SentenceScore(span, float(kept), kept)
            for span, kept in zip(sentences, keeps, strict=True)
        )
        kept = Selection(self.id, text_sha(text), scores, "gold rows")
        return replace(whole, modality="table", kept=kept)


def main() -> None:
    """Ask, and print a record for each form and reading."""
    args = _parser().parse_args()
    asked = sample(_answerable(args.data), args.limit, 0)
    tables = {one.id: one for one in _tables(args.data)}
    model = LocalModel.open("smollm2-135m", adapter=args.adapter)
    scores: dict[tuple[str, str], list[float]] = {}
    with progress(quiet=args.json) as watched:
        watched.stage("asking", len(asked) * len(FORMS) * len(READINGS))
        for question in asked:
            table = tables[_gold(question)]
            for reading in READINGS:
                for form in FORMS:
                    passage = table.passage(form, question.answers, reading)
                    scores.setdefault((reading, form), []).append(_f1(model, question, passage))
                    watched.advance()
    about = {"adapter": args.adapter, **machine()}
    for (reading, form), found in scores.items():
        against = [a - b for a, b in zip(found, scores[reading, "markdown"], strict=True)]
        gain = bootstrap_interval(against)
        record: dict[str, Any] = {
            "reading": reading,
            "form": form,
            "f1": round(fmean(found), 4),
            "over_markdown": [round(one, 4) for one in (gain.mean, gain.low, gain.high)],
            "n": len(found),
        }
        if args.json:
            print(json.dumps({**record, **about}))
        else:
            low, high = record["over_markdown"][1:]
            print(
                f"{reading:10} {form:10} F1 {record['f1']:.3f}, over markdown "
                f"{gain.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            )


def _f1(model: LocalModel, question: Question, passage: Passage) -> float:
    generate = GenerateCached(
        model.engine(), model.prompt, mode="sequential", sampling=Sampling(ANSWER_TOKENS)
    )
    answer = generate(Query(question.text), [passage])
    return token_f1(answer.text, question.answers)


def _answerable(data: Path) -> list[Question]:
    """Return the questions whose table is short and holds the answer in a row."""
    tables = {one.id: one for one in _tables(data)}
    return [
        question
        for question in read_questions(data)
        if (table := tables.get(_gold(question))) is not None
        and any(contains_answer(" | ".join(row), question.answers) for row in table.rows)
    ]


def _gold(question: Question) -> str:
    return next((id_ for id_ in sorted(question.gold_documents) if id_.startswith("tab-")), "")


def _tables(data: Path) -> list[Table]:
    """Return the tables of at most `WORDS` words as records."""
    found = []
    for _, line in jsonl_lines(next(data.glob("corpus.jsonl*"))):
        record = json.loads(line)
        if record.get("modality") == "table":
            header, rows = record["table"]["header"], record["table"]["rows"]
            if len(" ".join(records(header, rows)).split()) <= WORDS:
                found.append(Table(record["id"], record["title"], header, rows))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the data set ottqa_tables")
    parser.add_argument("--limit", type=int, default=60, help="questions (default: 60)")
    parser.add_argument("--adapter", default="auto", help="auto, none or a folder (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one record a setting")
    return parser


if __name__ == "__main__":
    main()
