"""`dovetail router`: label queries by outcomes, train a router on them, and measure one."""

import argparse
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.metric_table import draw_table, number
from pipelines.cli.router_label import add_label_arguments, label
from pipelines.cli.terminal import plural, progress, remark, say, say_json
from pipelines.cli.training_folder import check_training_folder

if TYPE_CHECKING:
    from pipelines.progress import Progress
    from pipelines.routing.gains import Gains
    from rag.evaluation.route_scores import TakenScore
    from rag.evaluation.routing import Reach, RoutingFigures
    from rag.evaluation.statistics import Interval
    from rag.protocols import Encoder
    from rag.routing.classifier import RouteClassifier
    from rag.routing.labelled_queries import LabelledQuery
    from rag.routing.training.router_card import RouterFigures, RouterMaking

_EXAMPLE = """\
QUERIES is a .jsonl or .jsonl.gz file, or a folder that holds queries.jsonl[.gz], of lines
  {"id", "question", "route": "table", "source"?}   or   "routes": ["paragraph", "table"]
`label` makes them of questions with answers, by trying every route of your corpora. Lines that it
wrote hold the outcomes, and `test` then tells what the router loses against the best route.

ROUTER is a folder: the weights, their configuration and README.md, a model card with data,
licences, figures and limits. Use it in a pipeline by `route.classifier` with `model: ROUTER`.

`train` measures on queries that were not learned from: five times on a fifth of them, and on each
source by what was learned from the others. That takes several times as long as the training.

examples:
  dovetail router label questions.jsonl -i corpora -o labelled.jsonl
  dovetail router train data/routing -o my-router
  dovetail router test my-router more-queries.jsonl --picture reliability.svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    train = actions.add_parser("train", help="learn from labelled queries, and write the router")
    train.add_argument("queries", metavar="QUERIES", type=Path, help="labelled queries")
    train.add_argument(
        "-o", "--out", metavar="ROUTER", type=Path, required=True, help="folder to write"
    )
    train.add_argument(
        "--encoder", metavar="NAME", default="minilm", help="of queries (default: minilm)"
    )
    train.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of all that is drawn (default: 0)"
    )
    train.add_argument(
        "--multi-label",
        action="store_true",
        help="a query may need several labels at once (default: just one)",
    )
    train.add_argument(
        "--folds", metavar="N", type=int, default=5, help="to measure with (default: 5)"
    )
    train.add_argument("--no-figures", action="store_true", help="only train, measure nothing")
    add_label_arguments(actions.add_parser("label", help="label questions by trying every route"))
    test = actions.add_parser("test", help="measure a router on labelled queries")
    test.add_argument("router", metavar="ROUTER", type=Path, help="folder that train wrote")
    test.add_argument("queries", metavar="QUERIES", type=Path, help="labelled queries")
    test.add_argument(
        "--encoder", metavar="NAME", default="minilm", help="as in training (default: minilm)"
    )
    test.add_argument(
        "--picture", metavar="FILE.svg", type=Path, help="draw how reliable probabilities are"
    )
    test.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the intervals (default: 0)"
    )
    for action in (train, test):
        action.add_argument("--download", action="store_true", help="allow to fetch a model")
        action.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        add_output_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Label, train or measure."""
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    return {"label": label, "train": _train, "test": _test}[args.action](args)


def _train(args: argparse.Namespace) -> int:
    if args.folds < 2:
        raise UsageError(f"--folds must be at least 2, got {args.folds}")
    check_training_folder(args.out, resume=False)

    from rag.files import write_atomically
    from rag.routing.training.router_card import router_card

    with refused_arguments(), progress(quiet=args.quiet or args.json) as watched:
        queries, encoder = _read(args)
        begun = time.perf_counter()
        router = _trained(queries, encoder, args, watched)
        seconds = time.perf_counter() - begun
        found = None if args.no_figures else _figures(queries, encoder, router, args, watched)
    _with_figures(router, found).save(args.out)
    card = router_card(_making(args, queries, router, seconds), found)
    write_atomically(args.out / "README.md", lambda file: file.write(card.encode()), mode=0o644)
    if args.json:
        told = {"out": str(args.out), "learned": len(queries), "seconds": round(seconds, 2)}
        say_json(told | ({} if found is None else _as_json(found)))
        return 0
    say(f"learned from {_counted(queries)} in {seconds:.1f} s")
    if found is not None:
        _draw(f"{found.folds} folds", found.figures, found.policies)
        _draw_sources(found.of_sources, found.left_out)
    remark(f"wrote {args.out}")
    return 0


def _read(args: argparse.Namespace) -> "tuple[list[LabelledQuery], Encoder]":
    """Return the queries, and the encoder, which encodes each of them once."""
    from rag.models.encoder import load_encoder
    from rag.models.remembering import Remembering
    from rag.routing.labelled_queries import read_labelled_queries

    queries = read_labelled_queries(args.queries)
    return queries, Remembering(load_encoder(args.encoder, download=args.download))


def _trained(
    queries: "Sequence[LabelledQuery]",
    encoder: "Encoder",
    args: argparse.Namespace,
    watched: "Progress | None" = None,
) -> "RouteClassifier":
    from rag.routing.training.train_router import train_router

    return train_router(
        queries, encoder, seed=args.seed, multi_label=args.multi_label, watcher=watched
    )


def _figures(
    queries: "Sequence[LabelledQuery]",
    encoder: "Encoder",
    router: "RouteClassifier",
    args: argparse.Namespace,
    watched: "Progress",
) -> "RouterFigures":
    from pipelines.evaluating.router_figures import figures_of_training

    return figures_of_training(
        queries,
        lambda some: _trained(some, encoder, args),
        modalities=router.modalities,
        folds=args.folds,
        seed=args.seed,
        watcher=watched,
    )


def _with_figures(router: "RouteClassifier", found: "RouterFigures | None") -> "RouteClassifier":
    """Return the router with what was measured in its configuration."""
    from dataclasses import replace

    if found is None:
        return router
    told = {
        "folds": found.folds,
        "accuracy": found.figures.accuracy.mean,
        "macro_f1": found.figures.macro_f1.mean,
        "ece": found.figures.ece,
    }
    return replace(router, about={**router.about, "figures": told})


def _making(
    args: argparse.Namespace,
    queries: "Sequence[LabelledQuery]",
    router: "RouteClassifier",
    seconds: float,
) -> "RouterMaking":
    from pruners.training.labelled import licences
    from rag.routing.labelled_queries import queries_hash
    from rag.routing.training.router_card import RouterMaking

    given = [args.queries.name, "-o", args.out.name, f"--seed={args.seed}"]
    given += [] if args.encoder == "minilm" else [f"--encoder={Path(args.encoder).name}"]
    given += ["--multi-label"] if args.multi_label else []
    given += ["--no-figures"] if args.no_figures else []
    given += [] if args.folds == 5 else [f"--folds={args.folds}"]
    return RouterMaking(
        shlex.join(["dovetail", "router", "train", *given]),
        args.seed,
        queries_hash(queries),
        [said] if (said := "; ".join(licences(args.queries))) else [],
        router.encoder_name,
        router.encoder_fingerprint,
        queries,
        {
            "time": f"{seconds:.1f} s, embedding included",
            "temperature": f"{router.temperature:.3f}",
            "cosine to the nearest training query below which a route is a fallback": (
                f"{router.trust:.3f}"
            ),
        },
    )


def _test(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from pipelines.evaluating.router_figures import accuracy_by_source, policy_reach
    from pipelines.routing.gains import gains
    from rag.evaluation.router_validation import routed_queries
    from rag.evaluation.routing import routing_figures
    from rag.routing.classifier import RouteClassifier
    from rag.routing.labelled_queries import queries_hash

    if args.picture is not None and not args.picture.absolute().parent.is_dir():
        raise UsageError(f"--picture must be in a folder that exists, got {args.picture}")
    with refused_arguments():
        queries, encoder = _read(args)
        router = RouteClassifier.load(args.router, encoder)
        _check_labels(queries, router.labels)
        if router.about.get("data") == queries_hash(queries):
            remark("the router learned from these very queries: the figures flatter it")
        routed = routed_queries(queries, router)
        found = routing_figures(routed, modalities=router.modalities, seed=args.seed)
    policies = policy_reach(routed, seed=args.seed)
    sources = accuracy_by_source(routed, seed=args.seed)
    gained = gains(queries, routed, modalities=router.modalities, seed=args.seed)
    if args.picture is not None:
        _draw_picture(args.picture, args.router.name, found)
    if args.json:
        told = {} if gained is None else {"outcomes": asdict(gained)}
        say_json(_figures_json(found, policies, sources) | told)
        return 0
    _draw(f"{len(queries):,} queries", found, policies)
    _draw_sources(sources, None)
    if gained is not None:
        _draw_gains(gained)
    return 0


def _check_labels(queries: "Sequence[LabelledQuery]", known: Sequence[str]) -> None:
    """Refuse queries that need what a router never says."""
    if unknown := sorted({label for one in queries for label in one.labels} - set(known)):
        raise UsageError(
            f"QUERIES must have labels that the router knows ({', '.join(known)}), got "
            f"{', '.join(unknown)}"
        )


def _draw_picture(path: Path, name: str, found: "RoutingFigures") -> None:
    from pipelines.drawing.reliability import reliability_svg
    from rag.files import write_atomically

    image = reliability_svg({name: found.bins})
    write_atomically(path, lambda file: file.write(image.encode()), mode=0o644)


def _draw(title: str, found: "RoutingFigures", policies: "Mapping[str, Reach]") -> None:
    """Print the tables of the figures."""
    rows = [_interval_row("accuracy", found.accuracy), _interval_row("macro-F1", found.macro_f1)]
    if found.modality_accuracy is not None:
        rows.append(("modality accuracy", number(found.modality_accuracy), "", ""))
    rows.append(("calibration error", number(found.ece), "", ""))
    rows.append(("fallbacks", number(found.fallbacks), "", ""))
    draw_table((title, "mean", "low", "high"), rows)
    say()
    draw_table(
        ("label", "precision", "recall", "F1", "queries"),
        [
            (name, number(one.precision), number(one.recall), number(one.f1), f"{one.support:,}")
            for name, one in found.labels.items()
        ],
    )
    say()
    draw_table(
        ("policy", "hit", "low", "high", "labels a query"),
        [(*_interval_row(name, one.hit), f"{one.corpora:.2f}") for name, one in policies.items()],
    )


def _draw_sources(
    of_sources: "Mapping[str, Interval]", left_out: "Mapping[str, Interval] | None"
) -> None:
    """Print accuracy by source, if there are several."""
    if len(of_sources) < 2:
        return
    say()
    header = ["source", "queries", "accuracy"]
    rows = []
    for name, one in of_sources.items():
        row = [name or "(none)", f"{one.n:,}", number(one.mean)]
        if left_out is not None:
            row.append(number(left_out[name].mean) if name in left_out else "-")
        rows.append(row)
    draw_table(header if left_out is None else [*header, "left out"], rows)


def _draw_gains(gained: "Gains") -> None:
    """Print what the router's labels score, and lose against the best route of each question."""
    say()
    header = ("score", "low", "high", "regret", "low", "high", "tokens")
    rows = [_taken_row(name, one) for name, one in gained.policies.items()]
    rows.append(_taken_row(f"{gained.best_single} for all", gained.single))
    rows.append(_taken_row("best route of each", gained.oracle))
    draw_table((f"{gained.questions:,} with outcomes", *header), rows)


def _taken_row(name: str, one: "TakenScore") -> tuple[str, ...]:
    cost = "-" if one.cost is None else f"{one.cost:,.0f}"
    return (*_interval_row(name, one.score), *_interval_row("", one.regret)[1:], cost)


def _interval_row(name: str, one: "Interval") -> tuple[str, str, str, str]:
    return name, number(one.mean), number(one.low), number(one.high)


def _counted(queries: "Sequence[LabelledQuery]") -> str:
    labels = {label for one in queries for label in one.labels}
    return f"{len(queries):,} queries with {plural(len(labels), 'label')}"


def _as_json(found: "RouterFigures") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "folds": found.folds,
        **_figures_json(found.figures, found.policies, found.of_sources),
        "sources_left_out": {name: asdict(one) for name, one in found.left_out.items()},
    }


def _figures_json(
    found: "RoutingFigures", policies: "Mapping[str, Reach]", sources: "Mapping[str, Interval]"
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(found),
        "policies": {name: asdict(one) for name, one in policies.items()},
        "sources": {name: asdict(one) for name, one in sources.items()},
    }
