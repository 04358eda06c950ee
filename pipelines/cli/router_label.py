"""`dovetail router label`: questions labelled by what each route makes of them."""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.derived_file import check_out
from pipelines.cli.metric_table import draw_table, number
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.terminal import plural, progress, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.routing.open_routes import OpenRoutes
    from rag.evaluation.data import Question

BY = ("evidence", "answer")
_ABOUT = """\
QUESTIONS is a data folder, or a .jsonl or .jsonl.gz file of lines
  {"id", "question", "answers": [...], "supporting": [{"doc_id"}]?, "source"?}
Every route is run alone on every question. By evidence, its score is whether an answer stands in
what is retrieved, and how many of the documents that hold evidence are; no model is asked, and
`none` cannot be judged. By answer, it is the F1 of the answer that --model gives, for `none`
without a passage. A question gets the best route; of several, the one that reads the fewest tokens.
One that every route fails is left out.

Interrupted, the next run goes on with --resume.

examples:
  dovetail router label questions.jsonl -i corpora -o labelled.jsonl
  dovetail router label data/mine -i corpora -o labelled.jsonl --by answer --model my-model
  dovetail router train labelled.jsonl -o my-router"""


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `label`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument("questions", metavar="QUESTIONS", type=Path, help="with answers")
    parser.add_argument(
        "-i", "--index", metavar="CORPORA", type=Path, required=True, help="what routes lead to"
    )
    parser.add_argument(
        "-o", "--out", metavar="LABELLED.jsonl", type=Path, required=True, help="file to write"
    )
    parser.add_argument("--by", choices=BY, default="evidence", help="default: evidence")
    parser.add_argument(
        "--routes",
        metavar="LABEL,…",
        help="to try (default: every corpus with passages; by answer, none too)",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, help="a random sample of N questions (default: all)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--top-k", metavar="N", type=int, default=5, help="passages of a corpus (default: 5)"
    )
    parser.add_argument(
        "--tokens", metavar="N", type=int, default=1024, help="the most to read (default: 1024)"
    )
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=float,
        default=0.0,
        help="how much less than the best score still ties (default: 0)",
    )
    parser.add_argument(
        "--multi-label", action="store_true", help="label with all routes that tie, not just one"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    add_model_arguments(parser)
    add_output_arguments(parser)


def label(args: argparse.Namespace) -> int:
    """Run the routes, write the labels and print what they are."""
    _check(args)
    from pipelines.routing.journal import SUFFIX, OutcomeJournal
    from pipelines.routing.open_routes import OpenRoutes
    from pipelines.routing.outcomes import label_by_outcomes
    from pipelines.routing.scores import evidence
    from pipelines.routing.summary import summary
    from rag.files import write_atomically
    from rag.routing.labelled_queries import labelled_line

    told = not (args.quiet or args.json)
    questions, sources, unjudged = _asked(args)
    with ExitStack() as stack:
        stack.enter_context(refused_arguments())
        watched = stack.enter_context(progress(quiet=not told))
        opened = stack.enter_context(_opened(args, OpenRoutes))
        routes = _routes(args, opened)
        journal = stack.enter_context(
            OutcomeJournal(
                args.out.with_name(args.out.name + SUFFIX),
                config=_config(args, opened, routes, questions),
            )
        )
        if told and journal.done:
            remark(f"{plural(len(journal.done), 'question')} tried before")
        score = opened.answers() if args.by == "answer" else evidence
        found = label_by_outcomes(
            questions,
            opened,
            score,
            routes=routes,
            tolerance=args.tolerance,
            several=args.multi_label,
            sources=sources,
            journal=journal,
            progress=watched,
        )
        if found.queries:
            text = "".join(map(labelled_line, found.queries))
            write_atomically(args.out, lambda file: file.write(text.encode()), mode=0o644)
        journal.finish()
        failed = set(found.failed)
        strange = _strangers([one for one in questions if one.id in failed], opened)
        notes, empty = [*opened.notes, *strange], opened.empty
    figures = summary(found, unjudged=unjudged)
    head = {"out": str(args.out), "by": args.by, "seed": args.seed, "empty": list(empty)}
    if args.json:
        say_json(head | figures)
    else:
        _draw(figures)
    for note in notes:
        remark(note)
    if not found.queries:
        remark(f"every route fails every question: {args.out} is not written")
        return 1
    if not args.json:
        remark(f"wrote {args.out}")
    return 0


def _check(args: argparse.Namespace) -> None:
    from pipelines.routing.journal import SUFFIX

    check_out(args.out)
    for name in ("limit", "top_k", "tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not 0.0 <= args.tolerance <= 1.0:
        raise UsageError(f"--tolerance must be in [0, 1], got {args.tolerance:g}")
    journal = args.out.with_name(args.out.name + SUFFIX)
    if args.resume and not journal.exists():
        raise UsageError(f"--resume needs the journal of an interrupted run, {journal}, found none")
    if journal.exists() and not args.resume:
        raise UsageError(f"{journal} is of an interrupted run: add --resume, or delete it")


def _asked(
    args: argparse.Namespace,
) -> "tuple[list[Question], Mapping[str, str], int]":
    """Return a sample of the questions to try, data sets by id, and how many nothing judges."""
    from pipelines.routing.questions import read_judged_questions
    from rag.evaluation.data import sample

    read, sources = read_judged_questions(args.questions)
    known = [one for one in read if _judged(one, args.by)]
    if not known:
        wanted = "answers" if args.by == "answer" else "answers or supporting documents"
        raise UsageError(f"QUESTIONS must have {wanted} to judge by, got none in {len(read)}")
    return sample(known, args.limit, args.seed), sources, len(read) - len(known)


def _judged(question: "Question", by: str) -> bool:
    """Tell whether enough is known of a question to judge routes by."""
    return bool(question.answers or (by == "evidence" and question.gold_documents))


def _opened(args: argparse.Namespace, opening: "type[OpenRoutes]") -> "OpenRoutes":
    return opening(
        args.index,
        lm=_model(args) if args.by == "answer" else None,
        top_k=args.top_k,
        tokens=args.tokens,
        download=args.download,
        kv_ram=args.kv_ram,
        kv_disk=args.kv_disk,
    )


def _model(args: argparse.Namespace) -> Any:
    from pipelines.language_model import language_model

    return language_model(
        args.model,
        dtype=args.dtype,
        download=args.download,
        placed_bytes=args.kv_ram // 2,
        adapter=args.adapter,
    )


def _routes(args: argparse.Namespace, opened: "OpenRoutes") -> list[str]:
    """Return the labels to try.

    Raises:
        UsageError: if one has no corpus with passages, or none is judged by evidence.
    """
    from rag.routing.decision import NONE

    others = [NONE] if args.by == "answer" else []
    known = [*others, *(label for label in opened.labels if label != NONE)]
    if args.routes is None:
        return known
    routes = list(dict.fromkeys(one.strip() for one in args.routes.split(",") if one.strip()))
    if NONE in routes and args.by == "evidence":
        raise UsageError("--routes must not hold none with --by evidence: it retrieves no evidence")
    if not routes or (unknown := [one for one in routes if one not in known]):
        got = ", ".join(unknown) if routes else "no label"
        raise UsageError(
            f"--routes must be corpora of {args.index} ({', '.join(known)}), got {got}"
        )
    return routes


def _strangers(failed: "Sequence[Question]", opened: "OpenRoutes") -> list[str]:
    """Return a remark on questions whose documents are called otherwise in the corpora."""
    with_gold = [one for one in failed if one.gold_documents]
    there = opened.documents if with_gold else frozenset()
    strange = [one for one in with_gold if there.isdisjoint(one.gold_documents)]
    if not strange:
        return []
    asked, first = plural(len(strange), "question"), strange[0]
    note = (
        f"no corpus has the documents of {asked} that every route fails, such as "
        f"{min(first.gold_documents)!r} of {first.id!r}; corpora call theirs as in {min(there)!r}"
    )
    return [note]


def _config(
    args: argparse.Namespace,
    opened: "OpenRoutes",
    routes: Sequence[str],
    questions: "Sequence[Question]",
) -> str:
    """Return a hash of everything that outcomes depend on."""
    model = [args.model, args.dtype, args.adapter] if args.by == "answer" else []
    asked = [
        [one.id, one.text, one.answers, sorted(one.gold_documents)]
        for one in sorted(questions, key=lambda one: one.id)
    ]
    depends = json.dumps([args.by, model, list(routes), opened.fingerprint, asked])
    return hashlib.sha256(depends.encode()).hexdigest()


def _draw(figures: Mapping[str, Any]) -> None:
    """Print a table of the routes, and what was left out in words."""
    say(f"{plural(figures['tried'], 'question')} tried, {figures['labelled']:,} labelled")
    draw_table(
        ("route", "labelled", "score", "tokens"),
        [
            (
                route,
                f"{figures['labels'].get(route, 0):,}",
                number(one["score"]),
                f"{one['cost']:,.0f}",
            )
            for route, one in figures["routes"].items()
        ],
    )
    single = figures["best_single"]
    say(
        f"best single route {single['route']}: {number(single['score'])}, the best route of each "
        f"question: {number(figures['oracle'])}"
    )
    for why, count in figures["left_out"].items():
        if count:
            say(f"left out: {count:,}, {why}")
