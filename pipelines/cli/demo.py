"""`dovetail demo`: index the Python reference, ask it three questions, time the answers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.ask import draw, draw_passages
from pipelines.cli.terminal import byte_size, progress, remark, say

if TYPE_CHECKING:
    from pipelines.answering import AnsweringSession

QUESTIONS = (
    "How are dictionaries ordered?",
    "Where can await expressions be used?",
    "What exception is raised when an attribute is not found?",
)
REPEATS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = "It needs no network: the text ships with every Python."
    parser.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        type=Path,
        default=Path(".demo/python.idx"),
        help="index folder (default: .demo/python.idx)",
    )


def run(args: argparse.Namespace) -> int:
    """Index, ask and compare."""
    from pipelines.cli.index import LateEncoder
    from pipelines.indexing import build_index

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with progress() as watched:
        report = build_index(
            ["python:topics"], args.out, encoder=LateEncoder("minilm"), progress=watched
        )
    say(
        f"The Python language reference: {report.documents} topics, {report.passages} passages, "
        f"indexed in {report.seconds:.0f} s."
    )
    remark("loading the language model (the first time its weights are converted, 30 s) …")
    from pipelines.answering import AnsweringSession

    with AnsweringSession(args.out) as session:
        rows = [_show(session, question) for question in QUESTIONS]
    say("\nTime to first token, passages cached against a full prefill of the same prompt")
    say("(medians, in one process; retrieval and pruning not counted)\n")
    say("   tokens   cached     full   ratio   question")
    for (tokens, cached, full), question in zip(rows, QUESTIONS, strict=True):
        say(f"   {tokens:6d} {cached:6.0f} ms {full:6.0f} ms {full / cached:6.1f}x   {question}")
    say("\nThe ratio grows with the prompt: `make bench` measures 512 to 8k tokens.")
    say(f'Ask it yourself: dovetail ask "…" -i {args.out}')
    return 0


def _show(session: "AnsweringSession", question: str) -> tuple[int, float, float]:
    """Answer once cold and then warm, print it, and return prompt tokens and both median TTFTs."""
    from statistics import median

    from rag.records import Query

    first = session.ask(question)
    cached = [session.ask(question) for _ in range(REPEATS)]
    sequential = session.generate.with_mode("sequential")
    full = [sequential(Query(question), first.passages) for _ in range(REPEATS)]
    say(f"\n=== {question}\n")
    draw(cached[-1])
    draw_passages(cached[-1])
    cold, warm = first.cache, cached[-1].cache
    say(
        f"\n   KV cache: first asked {cold.hits} hits, {cold.misses} misses "
        f"({first.timings_ms['ttft']:.0f} ms to the first token); asked again {warm.hits} hits, "
        f"{warm.misses} misses, {byte_size(warm.bytes)} read"
    )
    ttft = [median(a.timings_ms["ttft"] for a in answers) for answers in (cached, full)]
    return first.tokens.prompt, ttft[0], ttft[1]
