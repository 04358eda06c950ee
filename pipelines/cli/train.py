"""`dovetail train`: train a pruner on labelled passages, and write it with its model card."""

import argparse
import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.metric_table import draw_table, number
from pipelines.cli.terminal import plural, progress, remark, say, say_json
from pipelines.cli.training_folder import check_training_folder, require_numbers

if TYPE_CHECKING:
    from pipelines.progress import Progress
    from pruners.training.card import Made
    from pruners.training.held_out import HeldOut
    from pruners.training.labelled import LabelledPassage
    from pruners.training.recipe import ProvenceRecipe
    from rag.protocols import SentenceScorer

_EXAMPLE = """\
DATA is a .jsonl or .jsonl.gz file, or a folder that holds train.jsonl[.gz], of lines
  {"id", "source", "question", "title", "sentences": [...], "gold": [rows], "answers": [...]}
where gold is empty if the passage does not help. A tenth of it, split off by passage and question,
is never trained on: the figures are of that part. DIR gets the weights, their configuration and
README.md, a model card with recipe, data, licences, figures and limits.

kinds:
  features  a small head over features of sentences (prune.features): minutes, most of them to
            encode the sentences once
  provence  a cross-encoder that reads question and passage together (prune.provence), as an
            adapter over a frozen trunk, joined to features afterwards: half an hour on two cores,
            minutes on a GPU. Writes losses.jsonl and losses.svg too. Interrupted, `--resume` goes
            on from the last state.

examples:
  dovetail train pruner data/pruner_train -o my-features --leave-out data/hotpotqa
  dovetail train pruner data/pruner_train -o my-provence --kind provence --epochs 3
  dovetail train pruner data/pruner_train -o my-provence --kind provence --epochs 3 --resume"""
_PROVENCE_ONLY = (
    "steps",
    "epochs",
    "batch_size",
    "lr",
    "rank",
    "layers",
    "base",
    "prior",
    "minutes",
    "float16",
    "resume",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("what", choices=("pruner",), help="what to train")
    parser.add_argument("data", metavar="DATA", type=Path, help="labelled passages")
    parser.add_argument(
        "-o", "--out", metavar="DIR", type=Path, required=True, help="folder to write"
    )
    parser.add_argument(
        "--kind", choices=("features", "provence"), default="features", help="default: features"
    )
    parser.add_argument(
        "--leave-out",
        metavar="FOLDER",
        type=Path,
        action="append",
        default=[],
        help="evaluation data whose passages are not trained on; may be repeated",
    )
    parser.add_argument("--limit", metavar="N", type=int, help="examples to use (default: all)")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of all that is drawn (default: 0)"
    )
    parser.add_argument(
        "--encoder", metavar="NAME", default="minilm", help="of sentences (default: minilm)"
    )
    parser.add_argument("--download", action="store_true", help="allow to fetch a model")
    group = parser.add_argument_group("provence")
    group.add_argument("--base", metavar="NAME", help="trunk to adapt (default: minilm)")
    group.add_argument(
        "--prior",
        metavar="NAME",
        help="scorer to join it to: features (default), the folder of one, or none",
    )
    group.add_argument("--epochs", metavar="N", type=float, help="default: 4")
    group.add_argument("--steps", metavar="N", type=int, help="instead of epochs")
    group.add_argument("--batch-size", metavar="N", type=int, help="blocks a step (default: 32)")
    group.add_argument(
        "--lr", metavar="X", type=float, help="peak (default: 0.0005, with --layers 0.0001)"
    )
    tuned = group.add_mutually_exclusive_group()
    tuned.add_argument("--rank", metavar="N", type=int, help="of LoRA (default: 16)")
    tuned.add_argument(
        "--layers", metavar="N", type=int, help="tune so many top layers as they are instead"
    )
    group.add_argument("--minutes", metavar="X", type=float, help="stop after, keep the best")
    group.add_argument(
        "--float16", action="store_true", default=None, help="store half-size weights"
    )
    group.add_argument("--resume", action="store_true", default=None, help="go on in DIR")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train, measure, write and print."""
    _check(args)

    from pruners.training.card import model_card
    from pruners.training.labelled import read_labelled, without_passages_of
    from pruners.training.split import split_by_passage
    from rag.files import write_atomically

    quiet = args.quiet or args.json
    with refused_arguments():
        read = read_labelled(args.data)
    fair, dropped = without_passages_of(read, args.leave_out)
    if dropped and not quiet:
        remark(f"left out {plural(dropped, 'example')} whose passage stands in evaluation data")
    train, held_out = split_by_passage(_limited(fair, args.limit, args.seed))
    args.out.mkdir(parents=True, exist_ok=True)
    with refused_arguments(), progress(quiet=quiet) as watched:
        train_one = _train_features if args.kind == "features" else _train_provence
        scorer, baseline, made = train_one(args, train, watched)
        found = _measured(held_out, scorer, baseline, watched)
    card = model_card(_completed(made, args, held_out, dropped), found, _called(baseline))
    write_atomically(args.out / "README.md", lambda file: file.write(card.encode()), mode=0o644)
    if args.json:
        say_json(_as_json(args, made, found, baseline, len(train), len(held_out), dropped))
    else:
        _draw(made, found, baseline, args.out)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together, before anything is read."""
    require_numbers(
        args, ("limit", "steps", "batch_size", "rank", "layers"), ("epochs", "lr", "minutes")
    )
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.steps is not None and args.epochs is not None:
        raise UsageError("give --steps or --epochs, not both")
    foreign = [name for name in _PROVENCE_ONLY if getattr(args, name) is not None]
    if args.kind == "features" and foreign:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise UsageError(f"{listed} belong to --kind provence, got --kind features")
    check_training_folder(args.out, resume=bool(args.resume))


def _limited(
    examples: "list[LabelledPassage]", limit: int | None, seed: int
) -> "list[LabelledPassage]":
    """Return a random sample in the given order; a larger one holds every smaller one."""
    if limit is None or limit >= len(examples):
        return examples
    drawn = sorted(examples, key=lambda one: hashlib.sha256(f"{seed}:{one.id}".encode()).digest())
    taken = {one.id for one in drawn[:limit]}
    return [one for one in examples if one.id in taken]


def _train_features(
    args: argparse.Namespace, train: "list[LabelledPassage]", watched: "Progress"
) -> "tuple[SentenceScorer, SentenceScorer | None, Made]":
    from pruners.cosine import CosineSentences
    from pruners.features.scorer import FeatureScorer
    from pruners.training.card import Made
    from pruners.training.sentence_vectors import RememberedVectors
    from pruners.training.train_features import train_features
    from rag.models.encoder import load_encoder

    encoder = load_encoder(args.encoder, download=args.download)
    vectors = RememberedVectors(encoder)
    head = train_features(train, encoder, seed=args.seed, vectors=vectors, progress=watched)
    head.save(args.out)
    made = Made(
        title="Feature pruner",
        what="A small head over features of sentences, which says how probable it is that a "
        "question needs a sentence. Use: `prune.features`.",
        command="",
        seed=args.seed,
        data_sha="",
        licences=(),
        trained=train,
        held_out=0,
        parts={f"encoder {encoder.name}": encoder.fingerprint},
        course={"networks": str(len(head.networks))},
    )
    return (
        FeatureScorer(encoder, head, vectors),
        CosineSentences(encoder, sentence_vectors=vectors),
        made,
    )


def _train_provence(
    args: argparse.Namespace, train: "list[LabelledPassage]", watched: "Progress"
) -> "tuple[SentenceScorer, SentenceScorer | None, Made]":
    import torch

    from pruners.provence.load import load_provence, prior_fingerprint
    from pruners.provence.trunk import load_trunk
    from pruners.training.card import Made
    from pruners.training.train_provence import train_provence
    from rag.files import write_atomically
    from rag.training.journal import JOURNAL, read_journal
    from rag.training.loss_picture import loss_svg

    recipe = _recipe(args)
    prior, encoder, vectors = _prior(args, train, watched)
    base = args.base or "minilm"
    trunk = load_trunk(base, download=args.download)
    trunk.model.to("cuda" if torch.cuda.is_available() else "cpu")
    trained = train_provence(
        train,
        trunk,
        recipe,
        args.out,
        prior=prior,
        encoder=encoder,
        vectors=vectors,
        resume=bool(args.resume),
        minutes=args.minutes,
        watcher=watched,
    )
    image = loss_svg(read_journal(args.out / JOURNAL), f"Training of {args.out.name}")
    write_atomically(args.out / "losses.svg", lambda file: file.write(image.encode()), mode=0o644)
    course = {
        "steps": f"{trained.steps:,} of {trained.planned:,}, ended: {trained.stopped}; the weights "
        f"are of step {trained.best_step:,}",
        "trained parameters": f"{trained.parameters:,}",
        "precision of the forward passes": trained.precision,
        "time": f"{trained.seconds:.0f} s on {trunk.model.device.type}",
    }
    if trained.before is not None and trained.after is not None:
        course["validation part, before and after"] = (
            f"AUC {trained.before.auc:.3f} and {trained.after.auc:.3f}, characters pruned at 95 % "
            f"recall {trained.before.compression:.3f} and {trained.after.compression:.3f}"
        )
    parts = {f"trunk {trunk.name}": trunk.fingerprint}
    if prior is not None:
        parts[f"prior {prior.name}"] = prior_fingerprint(prior)
    made = Made(
        title="Provence pruner",
        what="A cross-encoder that reads a question and a passage together and says of every "
        "sentence whether to keep it, and how relevant the passage is, in one pass. An adapter "
        "over a frozen trunk. Use: `prune.provence` with `model:` this folder. After Chirkova et "
        "al. 2025, Provence, arXiv:2501.16214.",
        command="",
        seed=args.seed,
        data_sha="",
        licences=(),
        trained=train,
        held_out=0,
        parts=parts,
        course=course,
        recipe=recipe.as_json(),
    )
    scorer = load_provence(str(args.out), prior=prior, base=base, download=args.download)
    return scorer, prior, made


def _prior(
    args: argparse.Namespace, train: "list[LabelledPassage]", watched: "Progress"
) -> tuple[Any, Any, Any]:
    """Return the prior, its encoder and the vectors of sentences; three times None without one."""
    if args.prior == "none":
        return None, None, None
    from pruners.features.head import FeatureHead
    from pruners.features.scorer import FeatureScorer
    from pruners.training.sentence_vectors import RememberedVectors
    from rag.models.encoder import load_encoder

    shipped = args.prior in (None, "features")
    head = FeatureHead.load() if shipped else FeatureHead.load(Path(args.prior))
    encoder = load_encoder(args.encoder, download=args.download)
    vectors = RememberedVectors(encoder)
    vectors.learn([one.passage() for one in train], watched)
    return FeatureScorer(encoder, head, vectors), encoder, vectors


def _recipe(args: argparse.Namespace) -> "ProvenceRecipe":
    """Return the recipe that the arguments name."""
    from pruners.provence.top_layers import TopLayers
    from pruners.training.recipe import ProvenceRecipe
    from rag.training.lora import ALL_LINEARS, LoRA

    given: dict[str, Any] = {
        name: value
        for name, value in (
            ("epochs", args.epochs),
            ("steps", args.steps),
            ("batch_size", args.batch_size),
            ("learning_rate", args.lr),
        )
        if value is not None
    }
    if args.layers is not None:
        given = {"learning_rate": 1e-4, "tuning": TopLayers(args.layers)} | given
    elif args.rank is not None:
        given["tuning"] = LoRA(args.rank, 2.0 * args.rank, ALL_LINEARS)
    return ProvenceRecipe(**given, seed=args.seed, stored="float16" if args.float16 else "float32")


def _measured(
    held_out: "list[LabelledPassage]",
    scorer: "SentenceScorer",
    baseline: "SentenceScorer | None",
    watched: "Progress",
) -> "HeldOut | None":
    """Return figures on the held-out part; None if it holds nothing to tell apart."""
    from pruners.training.held_out import held_out_figures, judged_examples

    labels = {row in one.gold for one in held_out for row in range(len(one.sentences))}
    if len(labels) < 2:
        return None
    judged = judged_examples(held_out, scorer, watcher=watched)
    against = None
    if baseline is not None:
        against = judged_examples(
            held_out, baseline, watcher=watched, stage=f"held out, {baseline.name}"
        )
    return held_out_figures(judged, against)


def _completed(
    made: "Made", args: argparse.Namespace, held_out: "list[LabelledPassage]", dropped: int
) -> "Made":
    from dataclasses import replace

    from pruners.training.labelled import data_sha, licences

    return replace(
        made,
        command=shlex.join(["dovetail", "train", "pruner", args.data.name, *_given(args)]),
        data_sha=data_sha(args.data),
        licences=licences(args.data),
        held_out=len(held_out),
        dropped=dropped,
        left_out=[one.name for one in args.leave_out],
    )


def _given(args: argparse.Namespace) -> list[str]:
    """Return the arguments that the outcome depends on."""
    given = ["-o", args.out.name, "--kind", args.kind, f"--seed={args.seed}"]
    if args.limit is not None:
        given.append(f"--limit={args.limit}")
    if args.encoder != "minilm":
        given.append(f"--encoder={args.encoder}")
    given += [f"--leave-out={one.name}" for one in args.leave_out]
    for name in _PROVENCE_ONLY:
        value = getattr(args, name)
        if value is None or name == "resume":
            continue
        flag = f"--{name.replace('_', '-')}"
        given.append(flag if value is True else f"{flag}={value}")
    return given


def _called(baseline: "SentenceScorer | None") -> str:
    return "" if baseline is None else baseline.name


def _as_json(
    args: argparse.Namespace,
    made: "Made",
    found: "HeldOut | None",
    baseline: "SentenceScorer | None",
    trained: int,
    held_out: int,
    dropped: int,
) -> dict[str, Any]:
    from dataclasses import asdict

    figures: dict[str, Any] = {}
    if found is not None:
        figures = asdict(found)
        figures["thresholds"] = {f"{share:g}": t for share, t in found.thresholds.items()}
    return {
        "kind": args.kind,
        "out": str(args.out),
        "trained": trained,
        "held_out": held_out,
        "left_out": dropped,
        "course": dict(made.course),
        "baseline": _called(baseline),
        "figures": figures,
    }


def _draw(
    made: "Made", found: "HeldOut | None", baseline: "SentenceScorer | None", out: Path
) -> None:
    """Print the course, and a table of the figures."""
    for name, value in made.course.items():
        say(f"{name}: {value}")
    if found is None:
        say("held out: nothing to tell apart, so no figures")
    else:
        rows = []
        for name, one in found.figures.items():
            cells = [name, number(one.mean), number(one.low), number(one.high)]
            if baseline is not None:
                gain = found.difference.get(name)
                cells += [number(found.baseline[name].mean) if name in found.baseline else ""]
                cells += (
                    ["", "", ""]
                    if gain is None
                    else [number(value, sign=True) for value in (gain.mean, gain.low, gain.high)]
                )
            rows.append(tuple(cells))
        against = (_called(baseline), "gain", "low", "high") if baseline is not None else ()
        draw_table(
            (f"{found.questions:,} held-out questions", "mean", "low", "high", *against), rows
        )
    remark(f"wrote {out}")
