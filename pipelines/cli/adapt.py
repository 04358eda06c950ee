"""`dovetail adapt`: teach a language model to read cached, pruned passages, as a small adapter."""

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.metric_table import draw_table, number
from pipelines.cli.model_arguments import DTYPES
from pipelines.cli.prompt_arguments import add_prompt_argument
from pipelines.cli.terminal import plural, progress, remark, say, say_json
from pipelines.cli.training_folder import check_training_folder, require_numbers

if TYPE_CHECKING:
    from pipelines.progress import Progress
    from rag.adaptation.adapt import Adapted
    from rag.adaptation.adaptation_card import DataFacts
    from rag.adaptation.examples import ReadingExample
    from rag.adaptation.recipe import ReadingRecipe
    from rag.generation.templates import PromptTemplate
    from rag.models.language_model import LoadedModel

EXAMPLES = "examples.jsonl.gz"
FACTS = "data.json"
_CUDA_PASS_TOKENS = 8192
_EXAMPLE = """\
DATA is a folder of evaluation data (questions with answers, and a corpus), labelled passages as
`dovetail train` takes them, or a file of prepared examples. Passages are retrieved and pruned as at
inference, and each example is read in the sequential prompt and in some cached encodings at once.
DIR gets the adapter, README.md (a model card with recipe, data, licences, figures and limits), the
course of the loss (losses.jsonl, losses.svg) and the prepared examples. Without --dev a twentieth
of the examples, split off by article, is held out: it chooses the weights. Interrupted, `--resume`
goes on from the last state, with the same arguments.

examples:
  dovetail adapt data/squad data/nq -o my-adapter --leave-out data/hotpotqa
  dovetail adapt train.jsonl.gz -o my-adapter --dev dev.jsonl.gz --steps 1000 --minutes 120
  dovetail adapt train.jsonl.gz -o my-adapter --dev dev.jsonl.gz --steps 1000 --resume
  dovetail ask "Where is it?" -i notes.idx --adapter my-adapter"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("data", metavar="DATA", type=Path, nargs="+", help="to learn from")
    parser.add_argument(
        "-o", "--out", metavar="DIR", type=Path, required=True, help="folder to write"
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--leave-out",
        metavar="PATH",
        type=Path,
        action="append",
        default=[],
        help="evaluation data or prepared examples whose questions and articles are not trained "
        "on; may be repeated",
    )
    group.add_argument(
        "--dev", metavar="FILE", type=Path, help="prepared examples that choose the weights"
    )
    group.add_argument("--limit", metavar="N", type=int, help="questions of a data set, at most")
    group.add_argument(
        "--passages", metavar="N", type=int, default=5, help="read for a question (default: 5)"
    )
    group.add_argument(
        "--without-answers",
        action="store_true",
        help="also learn from questions without an answer: the model's own",
    )
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME",
        default="smollm2-135m",
        help="smollm2-135m (default), a local folder or .gguf file, or a hub id owner/name",
    )
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="default: auto, the fastest")
    group.add_argument("--download", action="store_true", help="allow to fetch a model")
    add_prompt_argument(group)
    group.add_argument(
        "--start",
        metavar="auto|DIR",
        help="adapter to train further: the one that comes along, or a folder (default: none)",
    )
    group = parser.add_argument_group("training")
    group.add_argument("--rank", metavar="N", type=int, help="of LoRA (default: 16)")
    group.add_argument("--lr", metavar="X", type=float, help="peak (default: 0.0004)")
    counted = group.add_mutually_exclusive_group()
    counted.add_argument("--epochs", metavar="X", type=float, help="default: 1")
    counted.add_argument("--steps", metavar="N", type=int, help="instead of epochs")
    group.add_argument("--batch-size", metavar="N", type=int, help="examples a step (default: 8)")
    group.add_argument(
        "--pass-tokens",
        metavar="N",
        type=int,
        help=f"of one forward pass (default: 2048, on a GPU {_CUDA_PASS_TOKENS})",
    )
    group.add_argument(
        "--readings", metavar="N", type=int, help="cached encodings an example (default: 3)"
    )
    group.add_argument(
        "--whole",
        metavar="X",
        type=float,
        help="share of the examples that are read unpruned (default: 0.05)",
    )
    group.add_argument(
        "--sequential-first",
        metavar="X",
        type=float,
        help="share of the steps, at the beginning, that read one prompt alone (default: 0.5)",
    )
    group.add_argument(
        "--cached-every",
        metavar="N",
        type=int,
        help="of the later steps, one in N reads cached encodings, too (default: 1)",
    )
    group.add_argument(
        "--teacher",
        choices=("self", "base", "none"),
        help="whose sequential reading the cached ones are drawn to: the model's own (default), or "
        "that of the model as it was",
    )
    group.add_argument(
        "--patience",
        metavar="N",
        type=int,
        help="end after so many of ten looks at the held-out examples without a gain (default: 4)",
    )
    group.add_argument("--minutes", metavar="X", type=float, help="stop after, keep the best")
    group.add_argument(
        "--checkpointing",
        action="store_true",
        default=None,
        help="less memory, a third more time",
    )
    group.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of all that is drawn (default: 0)"
    )
    group.add_argument("--resume", action="store_true", help="go on in DIR, with its examples")
    add_output_arguments(parser)


_COUNTS = (
    "limit", "passages", "rank", "steps", "batch_size", "pass_tokens", "readings", "cached_every",
    "patience",
)  # fmt: skip
_RECIPE = {
    "epochs": "epochs",
    "steps": "steps",
    "batch_size": "batch_size",
    "pass_tokens": "pass_tokens",
    "lr": "learning_rate",
    "readings": "readings",
    "whole": "whole",
    "sequential_first": "sequential_first",
    "cached_every": "cached_every",
    "teacher": "teacher",
    "patience": "patience",
    "checkpointing": "checkpointing",
}
"""Arguments and the fields of the recipe that they set."""


def run(args: argparse.Namespace) -> int:
    """Prepare, train, write and print."""
    require_numbers(args, _COUNTS, ("lr", "epochs", "minutes"))
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    check_training_folder(args.out, resume=args.resume, begun=EXAMPLES)

    from rag.adaptation.adapt import adapt
    from rag.training.run_state import has_state

    quiet = args.quiet or args.json
    with refused_arguments(), progress(quiet=quiet) as watched:
        loaded, template = _model(args)
        start = _start(args, loaded)
        recipe = _recipe(args, loaded, start)
        examples, held_out, facts = _data(args, watched)
        told = adapt(
            examples,
            held_out,
            loaded,
            recipe,
            args.out,
            template=template,
            start=start,
            resume=args.resume and has_state(args.out),
            minutes=args.minutes,
            facts=facts,
            watcher=watched,
        )
    if args.json:
        say_json(_as_json(args, told, facts))
    else:
        _draw(args, told, facts)
    return 0


def _data(
    args: argparse.Namespace, watched: "Progress"
) -> "tuple[list[ReadingExample], list[ReadingExample], DataFacts]":
    """Return the examples to learn from, those held out, and where they came from.

    What was prepared is written down, so that a resumed training finds it.
    """
    from rag.adaptation.adaptation_card import DataFacts
    from rag.adaptation.examples import read_examples, write_examples
    from rag.adaptation.held_out import split_examples
    from rag.files import write_atomically

    dev = read_examples(args.dev) if args.dev is not None else None
    path, about = args.out / EXAMPLES, args.out / FACTS
    if args.resume and path.is_file() and about.is_file():
        examples, facts = read_examples(path), json.loads(about.read_bytes())
    else:
        from pipelines.adapting.prepare import prepare

        prepared = prepare(
            args.data,
            leave_out=[*args.leave_out, *([args.dev] if args.dev else [])],
            passages=args.passages,
            without_answers=args.without_answers,
            limit=args.limit,
            seed=args.seed,
            watcher=watched,
        )
        examples = prepared.examples
        facts = {
            "licences": list(prepared.licences),
            "data_sha": prepared.data_sha,
            "left_out": dict(prepared.left_out),
        }
        if not examples:
            raise UsageError(f"DATA must hold questions to learn from, got none: {_left(facts)}")
        args.out.mkdir(parents=True, exist_ok=True)
        write_examples(path, examples)
        content = json.dumps(facts, indent=1).encode()
        write_atomically(about, lambda file: file.write(content), mode=0o644)
    train, held_out = (examples, dev) if dev is not None else split_examples(examples)
    return train, held_out, DataFacts(_command(args), **facts)


def _left(facts: dict[str, Any]) -> str:
    counts = [f"{count:,} {reason}" for reason, count in facts["left_out"].items()]
    return ", ".join(counts) or "they are empty"


def _model(args: argparse.Namespace) -> "tuple[LoadedModel, PromptTemplate]":
    """Return the base and the prompt that it is asked with."""
    from rag.generation.chat_template import has_chat_template
    from rag.generation.local_model import parameter_count
    from rag.generation.templates import chosen_template
    from rag.models.language_model import load_language_model

    loaded = load_language_model(args.model, dtype=args.dtype, download=args.download)
    template = chosen_template(
        args.prompt or "auto",
        has_chat=has_chat_template(loaded.tokenizer),
        parameters=parameter_count(loaded.model),
    )
    return loaded, template


def _start(args: argparse.Namespace, loaded: "LoadedModel") -> Path | None:
    """Return the folder of the adapter to train further."""
    from rag.adaptation.shipped import AUTO, resolve_adapter

    if args.start is None:
        return None
    folder = resolve_adapter(args.start, loaded.identity)
    if folder is None and args.start == AUTO:
        raise UsageError(
            f"--start auto needs an adapter that comes along for --model, got {args.model!r}"
        )
    return folder


def _recipe(args: argparse.Namespace, loaded: "LoadedModel", start: Path | None) -> "ReadingRecipe":
    """Return the recipe that the arguments name; an adapter to start from decides its rank."""
    from rag.adaptation.adapter import load_adapter_config
    from rag.adaptation.recipe import ReadingRecipe
    from rag.training.lora import DECODER_LINEARS, LoRA

    given: dict[str, Any] = {
        field: getattr(args, name)
        for name, field in _RECIPE.items()
        if getattr(args, name) is not None
    }
    if start is not None:
        given["tuning"] = load_adapter_config(start).lora
    if args.rank is not None:
        given["tuning"] = LoRA(args.rank, 2.0 * args.rank, DECODER_LINEARS)
    if loaded.model.device.type == "cuda":
        given = {"pass_tokens": _CUDA_PASS_TOKENS} | given
    return ReadingRecipe(**given, seed=args.seed)


def _command(args: argparse.Namespace) -> str:
    """Return the command with the arguments that the outcome depends on; folders by their names."""
    given = [*(path.name for path in args.data), "-o", args.out.name, f"--seed={args.seed}"]
    given += [f"--leave-out={one.name}" for one in args.leave_out]
    if args.dev is not None:
        given.append(f"--dev={args.dev.name}")
    if args.model != "smollm2-135m":
        given.append(f"--model={Path(args.model).name}")
    if args.start is not None:
        given.append(f"--start={Path(args.start).name}")
    if args.passages != 5:
        given.append(f"--passages={args.passages}")
    for name in ("limit", "rank", "prompt", "minutes", *_RECIPE):
        value = getattr(args, name)
        if value is not None and value is not True:
            given.append(f"--{name.replace('_', '-')}={value}")
    given += ["--checkpointing"] if args.checkpointing else []
    given += ["--without-answers"] if args.without_answers else []
    return shlex.join(["dovetail", "adapt", *given])


def _as_json(args: argparse.Namespace, told: "Adapted", facts: "DataFacts") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "out": str(args.out),
        "model": args.model,
        "learned": told.learned,
        "held_out": told.held_out,
        "left_out": {**facts.left_out, **told.dropped},
        "course": asdict(told.course),
    }


def _draw(args: argparse.Namespace, told: "Adapted", facts: "DataFacts") -> None:
    """Print the course, and a table of the held-out losses."""
    from rag.adaptation.answer_loss import SAID

    course = told.course
    left = sum(facts.left_out.values()) + sum(told.dropped.values())
    say(
        f"learned from {plural(told.learned, 'example')}, {told.held_out:,} held out, "
        f"{left:,} left out"
    )
    say(
        f"steps: {course.steps:,} of {course.planned:,}, ended: {course.stopped}; the weights are "
        f"of step {course.best_step:,}"
    )
    say(f"time: {course.seconds:.0f} s; precision: {course.precision}")
    if course.before is None or course.after is None:
        say("held out: nothing, so no figures")
    else:
        before, after = course.before, course.after
        losses = [name for name in before if name != SAID]
        rows = [(name, number(before[name]), number(after[name])) for name in losses]
        draw_table(("loss of held-out answers, nats a token", "before", "after"), rows)
        say(f"said word for word: {before[SAID]:.0%} of them before, {after[SAID]:.0%} after")
    remark(f"wrote {args.out}")
