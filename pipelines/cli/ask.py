"""`dovetail ask`: answer a question from an index, with citations."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.terminal import byte_size, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.answering import AnsweringSession, AskOptions
    from rag.records import Answer, Passage
    from rag.tracing import Trace

SHOWABLE = ("prompt", "passages", "trace")
REFUSAL = "No passage supports an answer."
_EXAMPLE = """\
Passages are read from the KV cache; the first question about a passage fills it.
--mode graph does not exist yet; --mode ape reads passages side by side (APE).

examples:
  dovetail ask "What did we decide about backups?" -i notes.idx
  dovetail ask "…" -i notes.idx --model HuggingFaceTB/SmolLM2-1.7B-Instruct
  dovetail ask "…" -i notes.idx --show passages,prompt --mode sequential"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("question", metavar="QUESTION", help="what you want to know")
    parser.add_argument("-i", "--index", metavar="DIR", type=Path, required=True, help="index")
    parser.add_argument(
        "--mode",
        choices=("ape", "sequential"),
        default="ape",
        help="ape: cached passages side by side; sequential: one full prompt (default: ape)",
    )
    parser.add_argument(
        "--top-k", metavar="N", type=int, default=3, help="passages to read (default: 3)"
    )
    parser.add_argument(
        "--threshold",
        metavar="X",
        type=float,
        default=0.4,
        help="keep sentences that score above X; 0 keeps all (default: 0.4)",
    )
    parser.add_argument(
        "--max-tokens", metavar="N", type=int, default=64, help="longest answer (default: 64)"
    )
    parser.add_argument(
        "--temperature", metavar="T", type=float, default=0.0, help="0 is greedy (default: 0)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the sampler")
    parser.add_argument(
        "--show", metavar="WHAT", default="", help=f"comma-separated: {', '.join(SHOWABLE)}"
    )
    parser.add_argument(
        "--trace", metavar="FILE", type=Path, help="write what every step did as JSON lines"
    )
    add_model_arguments(parser)
    add_output_arguments(parser)


def options_from(args: argparse.Namespace) -> "AskOptions":
    """Return the options that the arguments ask for.

    Raises:
        UsageError: if one is out of range.
    """
    from pipelines.answering import AskOptions
    from rag.generation.decoding import Sampling

    with refused_arguments():
        return AskOptions(
            model=args.model,
            dtype=args.dtype,
            download=args.download,
            mode=args.mode,
            top_k=args.top_k,
            threshold=args.threshold,
            sampling=Sampling(args.max_tokens, args.temperature, args.seed),
            kv_ram=args.kv_ram,
            kv_disk=args.kv_disk,
        )


def run(args: argparse.Namespace) -> int:
    """Answer and print."""
    show = [word for word in args.show.split(",") if word]
    unknown = sorted(set(show) - set(SHOWABLE))
    if unknown:
        raise UsageError(f"--show takes {', '.join(SHOWABLE)}, got {', '.join(unknown)}")
    if not args.question.strip():
        raise UsageError("the question must not be empty")
    if args.trace is not None and not args.trace.absolute().parent.is_dir():
        raise UsageError(f"--trace must be in a folder that exists, got {args.trace}")
    if not args.quiet and not args.json:
        remark("loading the model …")

    from pipelines.answering import AnsweringSession
    from rag.tracing import Trace

    trace = Trace(question=args.question, index=str(args.index), model=args.model, mode=args.mode)
    with refused_arguments():
        session = AnsweringSession(args.index, options_from(args))
    with session:
        for note in session.notes:
            remark(note)
        answer = _answer(session, args, trace)
    if args.trace is not None:
        trace.write(args.trace)
    if args.json:
        say_json(as_json(answer) | shown(answer, show, trace))
    else:
        draw(answer)
        draw_shown(answer, show, trace)
    return 0


def _answer(session: "AnsweringSession", args: argparse.Namespace, trace: "Trace") -> "Answer":
    """Answer; on a terminal the text appears as it is decoded."""
    from rag.records import Answer, Query

    live = sys.stderr.isatty() and not args.json and not args.quiet
    for event in session.answering.stream(Query(args.question), trace):
        if isinstance(event, Answer):
            if live:
                sys.stderr.write("\r\x1b[K")
            return event
        if live:
            sys.stderr.write(event)
            sys.stderr.flush()
    raise AssertionError("stream ends with an Answer")


def as_json(answer: "Answer") -> dict[str, Any]:
    """Return what programs may rely on: the keys that the documentation lists."""
    return {
        "answer": REFUSAL if answer.abstained else answer.text,
        "abstained": answer.abstained,
        "citations": [
            {
                "passage_id": c.passage_id,
                "document": c.document,
                "start": c.start,
                "end": c.end,
                "quote": c.quote,
                "answer_start": c.answer_start,
                "answer_end": c.answer_end,
                "number": c.number,
                "score": c.score,
                **({} if c.page is None else {"page": c.page}),
            }
            for c in answer.citations
        ],
        "unsupported": [span.of(answer.text) for span in answer.unsupported],
        "passages": [
            {
                "id": passage.id,
                "document": passage.document,
                "title": passage.title,
                "score": passage.score,
                "text": passage.text,
                "kept": [[span.start, span.end] for span in _kept(passage)],
            }
            for passage in answer.passages
        ],
        "kv": {
            "hits": answer.cache.hits,
            "misses": answer.cache.misses,
            "bytes": answer.cache.bytes,
            "segments": dict(answer.cache.reasons),
        },
        "tokens": {
            "prompt": answer.tokens.prompt,
            "cached": answer.tokens.cached,
            "prefilled": answer.tokens.prefilled,
            "generated": answer.tokens.generated,
        },
        "timings_ms": dict(answer.timings_ms),
        "mode": answer.mode,
        "model": answer.model,
    }


def shown(answer: "Answer", show: list[str], trace: "Trace") -> dict[str, Any]:
    """Return the parts that `--show` asks for and that are not in the object anyway."""
    extra: dict[str, Any] = {}
    if "prompt" in show:
        extra["prompt"] = answer.prompt
    if "trace" in show:
        extra["trace"] = trace.records
    return extra


def draw(answer: "Answer") -> None:
    """Print the answer with its citations, and a line of numbers."""
    from rag.generation.citations import marked

    if answer.abstained:
        say(REFUSAL)
        if answer.text:
            say(f"  (what the model said, unsupported: {answer.text})")
    else:
        say(marked(answer.text, answer.citations, answer.unsupported))
    seen = set()
    for c in answer.citations:
        if (c.passage_id, c.start) in seen:
            continue
        seen.add((c.passage_id, c.start))
        page = "" if c.page is None else f", page {c.page}"
        say(f"  [{c.number}] {c.document}{page}, characters {c.start}-{c.end}:")
        say(f"      “{' '.join(c.quote.split())}”")
    use, tokens, ms = answer.cache, answer.tokens, answer.timings_ms
    remark(
        f"{answer.mode}, {answer.model}: {tokens.prompt} prompt tokens, {tokens.cached} from the "
        f"KV cache ({use.hits} hits, {use.misses} misses, {byte_size(use.bytes)}), "
        f"first token after {ms['ttft']:.0f} ms, all after {ms['total']:.0f} ms"
    )


def draw_shown(answer: "Answer", show: list[str], trace: "Trace") -> None:
    """Print what `--show` asks for."""
    if "passages" in show:
        draw_passages(answer)
    if "prompt" in show:
        say("\n--- prompt ---")
        say(answer.prompt)
    if "trace" in show:
        say("\n--- trace ---")
        say(trace.lines().rstrip())


def draw_passages(answer: "Answer") -> None:
    """Print every passage, its kept sentences marked + and its pruned ones -."""
    for number, passage in enumerate(answer.passages, 1):
        kept = set(passage.kept_rows)
        score = "" if passage.score is None else f", score {passage.score:.2f}"
        say(f"\n{number}. {passage.id}: {passage.title}{score}")
        say(f"   {len(kept)} of {len(passage.sentences)} sentences kept")
        for row, span in enumerate(passage.sentences):
            sentence = " ".join(span.of(passage.text).split())
            say(f"   {'+' if row in kept else '-'} {sentence}")


def _kept(passage: "Passage") -> tuple[Any, ...]:
    return passage.sentences if passage.kept is None else passage.kept.spans
