"""`dovetail demo`: index the Python reference, ask it three questions, time the answers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.answers import draw, draw_passages
from pipelines.cli.terminal import progress, remark, say
from rag.tracing.wording import byte_size

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline

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
    from contextlib import closing

    from pipelines.loading import load_pipeline
    from pipelines.open_index import OpenIndex
    from rag.generation.local_model import LocalModel

    with closing(OpenIndex(args.out)) as index:
        bound = load_pipeline("ask").bind(index=index, lm=LocalModel.open())
        # This mode prefills the question alone: what a cache can save at most.
        cached = bound.with_options("generate", mode="ape")
        full = bound.with_options("generate", mode="sequential")
        rows = [_show(cached, full, question) for question in QUESTIONS]
    say("\nTime to first token, passages cached against a full prefill of the same prompt")
    say("(medians, in one process; retrieval and pruning not counted)\n")
    say("   tokens   cached     full   ratio   question")
    for (tokens, warm, whole), question in zip(rows, QUESTIONS, strict=True):
        say(f"   {tokens:6d} {warm:6.0f} ms {whole:6.0f} ms {whole / warm:6.1f}x   {question}")
    say("\nThe ratio grows with the prompt: `make bench` measures 512 to 8k tokens.")
    say(f'Ask it yourself: dovetail ask "…" -i {args.out}')
    return 0


def _show(cached: "Pipeline", full: "Pipeline", question: str) -> tuple[int, float, float]:
    """Answer once cold and then warm, print it, and return prompt tokens and both median TTFTs."""
    from statistics import median

    first = cached.run(question).answer
    warm = [cached.run(question).answer for _ in range(REPEATS)]
    whole = [full.run(question).answer for _ in range(REPEATS)]
    say(f"\n=== {question}\n")
    draw(warm[-1])
    draw_passages(warm[-1].passages)
    use, again = first.cache, warm[-1].cache
    say(
        f"\n   KV cache: first asked {use.hits} hits, {use.misses} misses "
        f"({first.timings_ms['ttft']:.0f} ms to the first token); asked again {again.hits} hits, "
        f"{again.misses} misses, {byte_size(again.bytes)} read"
    )
    ttft = [median(a.timings_ms["ttft"] for a in answers) for answers in (warm, whole)]
    return first.tokens.prompt, ttft[0], ttft[1]
