"""`dovetail ask`: answer a question from an index, with citations."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.answers import as_json, draw, draw_passages, routed
from pipelines.cli.arguments import UsageError, add_output_arguments
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.pipeline_arguments import add_pipeline_arguments, loaded
from pipelines.cli.prompt_arguments import GENERATOR, add_prompt_argument
from pipelines.cli.runs import add_trace_arguments, check_trace_arguments, keep_trace, new_trace
from pipelines.cli.terminal import progress, remark, say, say_json

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline
    from rag.records import Answer, Route
    from rag.tracing import Trace

SHOWABLE = ("prompt", "passages", "trace")
# Arguments that are short for --set: the option they set in the recipe.
SHORT = {
    "mode": "generate.mode",
    "prompt": "generate.prompt",
    "top_k": "retrieve.top_k",
    "threshold": "prune.threshold",
    "max_tokens": "generate.max_tokens",
    "temperature": "generate.temperature",
    "seed": "generate.seed",
}
_EXAMPLE = """\
Passages are read from the KV cache; the first question about a passage fills it.
--mode, --prompt, --top-k and the like are short for --set on the recipe's steps `retrieve`, `prune`
and `generate`; what a recipe does not have is an error. `dovetail new --list` lists the recipes.
Modes read the best passage anew over the cached others (graph: Graph-KV; the corpus graph is recipe
graph), all side by side (ape, parallel), or one after another (block); sequential is one prompt.

Prompts are raw texts with worked examples (examples), with an instruction (instruct) or with steps
of thought (thought), or the model's own chat format, without and with examples (chat,
chat-examples); auto is chat for chat models above a billion parameters, else examples.

examples:
  dovetail ask "What did we decide about backups?" -i notes.idx
  dovetail ask "…" -i notes.idx --model HuggingFaceTB/SmolLM2-1.7B-Instruct
  dovetail ask "…" -i notes.idx --show passages,prompt --mode sequential
  dovetail ask "…" -i notes.idx -p multi-query
  dovetail ask "And why?" -i notes.idx -p chat --history chat.jsonl"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("question", metavar="QUESTION", help="what you want to know")
    parser.add_argument(
        "-i", "--index", metavar="DIR", type=Path, required=True, help="index, or several corpora"
    )
    parser.add_argument(
        "-p",
        "--pipeline",
        metavar="RECIPE",
        help="recipe or pipeline file; one that ends with passages is continued as ask does "
        "(default: ask: hybrid, pruned, cached; universal over a folder of several corpora)",
    )
    parser.add_argument(
        "--history",
        metavar="FILE",
        type=Path,
        help="conversation as JSON lines {role, text}, made if missing; question and answer are "
        "added (for recipes with an input `history`, such as chat)",
    )
    parser.add_argument(
        "--mode",
        choices=("graph", "ape", "parallel", "block", "prefix", "sequential"),
        help="how cached passages are read; sequential: one full prompt (default: graph)",
    )
    add_prompt_argument(parser)
    parser.add_argument("--top-k", metavar="N", help="passages to read (default: 3)")
    parser.add_argument(
        "--threshold",
        metavar="X",
        help="keep sentences that score above X; 0 keeps all (default: 0.4)",
    )
    parser.add_argument("--max-tokens", metavar="N", help="longest answer (default: 64)")
    parser.add_argument("--temperature", metavar="T", help="0 is greedy (default: 0)")
    parser.add_argument("--seed", metavar="N", help="of the sampler")
    parser.add_argument(
        "--show", metavar="WHAT", default="", help=f"comma-separated: {', '.join(SHOWABLE)}"
    )
    add_pipeline_arguments(parser)
    add_trace_arguments(parser)
    add_model_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Answer and print."""
    show = [word for word in args.show.split(",") if word]
    unknown = sorted(set(show) - set(SHOWABLE))
    if unknown:
        raise UsageError(f"--show takes {', '.join(SHOWABLE)}, got {', '.join(unknown)}")
    if not args.question.strip():
        raise UsageError("the question must not be empty")
    check_trace_arguments(args)
    short = [
        f"{option}={value}" for name, option in SHORT.items() if (value := getattr(args, name))
    ]
    source = args.pipeline or _usual_recipe(args.index)
    pipeline = loaded(args, source, [*short, *args.sets], answering=True).require_valid()
    inputs = _inputs(pipeline, args)
    if not args.quiet and not args.json:
        remark("loading the model …")
    trace = new_trace(pipeline, args)
    with pipeline, progress(quiet=args.quiet or args.json):
        try:
            answer, route = _answer(pipeline, args, inputs, trace)
        finally:
            keep_trace(trace, args)
        templates = _templates(pipeline) if "prompt" in show else []
        for note in pipeline.notes:
            remark(note)
    if args.history is not None:
        _remember(args.history, args.question, answer)
    if args.json:
        say_json(as_json(answer, route) | _shown(answer, show, trace, templates))
    else:
        draw(answer)
        _draw_shown(answer, show, trace, templates)
    return 0


def _usual_recipe(index: Path) -> str:
    from pipelines.corpora.opening import holds_corpora

    return "universal" if holds_corpora(index) else "ask"


def _inputs(pipeline: "Pipeline", args: argparse.Namespace) -> dict[str, Any]:
    wanted = pipeline.definition.inputs
    others = sorted(set(wanted) - {"query", "history"})
    if "query" not in wanted or others or "answer" not in pipeline.definition.outputs:
        raise UsageError(
            f"ask needs a pipeline from query to answer, but {pipeline.name!r} has inputs "
            f"{', '.join(wanted)} and outputs {', '.join(pipeline.definition.outputs)}; "
            "`dovetail run` runs any"
        )
    if "history" not in wanted:
        if args.history is not None:
            raise UsageError(f"{pipeline.name!r} has no input history; use -p chat")
        return {"query": args.question}
    return {"query": args.question, "history": _history(args.history)}


def _history(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    from rag.record_json import from_json
    from rag.records import Turn

    turns = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            turns.append(from_json(Turn, json.loads(line), where="the turn"))
        except ValueError as error:
            raise UsageError(f"{path}:{number}: {error}") from error
    return turns


def _remember(path: Path, question: str, answer: "Answer") -> None:
    """Add what was asked and answered to the conversation."""
    turns = [{"role": "user", "text": question}, {"role": "assistant", "text": answer.text}]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(turn, ensure_ascii=False) + "\n" for turn in turns))


def _answer(
    pipeline: "Pipeline", args: argparse.Namespace, inputs: dict[str, Any], trace: "Trace"
) -> "tuple[Answer, Route | None]":
    """Answer, and say where the question went; on a terminal the text appears as it is decoded."""
    from pipelines.flow.events import Finished, Routed, Token

    route = None
    live = sys.stderr.isatty() and not args.json and not args.quiet
    for event in pipeline.stream(trace=trace, **inputs):
        if isinstance(event, Finished):
            if live:
                sys.stderr.write("\r\x1b[K")
            if route is not None and not args.json and not args.quiet:
                remark(routed(route))
            return event.result.answer, route
        if isinstance(event, Routed):
            route = event.route
        if live and isinstance(event, Token):
            sys.stderr.write(event.text)
            sys.stderr.flush()
    raise AssertionError("stream ends with Finished")


def _templates(pipeline: "Pipeline") -> list[str]:
    """Return the names of the templates that the generating steps put around passages."""
    steps = pipeline.checked.steps.items()
    made = [pipeline.operator(step) for step, bound in steps if bound.spec.name == GENERATOR]
    # A model that runs elsewhere has no tokenizer here, only the template.
    used = [getattr(one, "prompt", one).template.name for one in made]
    return list(dict.fromkeys(used))


def _shown(
    answer: "Answer", show: list[str], trace: "Trace", templates: list[str]
) -> dict[str, Any]:
    """Return the parts that `--show` asks for and that are not in the object anyway."""
    extra: dict[str, Any] = {}
    if "prompt" in show:
        extra["prompt"] = answer.prompt
        extra["templates"] = templates
    if "trace" in show:
        extra["trace"] = trace.records
    return extra


def _draw_shown(answer: "Answer", show: list[str], trace: "Trace", templates: list[str]) -> None:
    """Print what `--show` asks for."""
    if "passages" in show:
        draw_passages(answer.passages)
    if "prompt" in show:
        say()
        if templates:
            say(f"--- template: {', '.join(templates)} ---")
        say("--- prompt ---")
        say(answer.prompt)
    if "trace" in show:
        say("\n--- trace ---")
        say(trace.lines().rstrip())
