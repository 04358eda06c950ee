"""`dovetail index`: make an index folder, or bring one up to date."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.arguments import UsageError, add_output_arguments, refused_arguments
from pipelines.cli.terminal import edges_line, plural, progress, remark, say, say_json

if TYPE_CHECKING:
    import numpy as np

    from pipelines.corpora.build import CorporaReport
    from pipelines.indexing import IndexReport
    from pipelines.snapshots import Form
    from rag.models.encoder import Precision, SentenceEncoder
    from rag.text.splitters import SentenceSplitter

_EXAMPLE = """\
A second run on the same folder reads and encodes only what changed.

examples:
  dovetail index ~/notes ~/papers/survey.pdf -o notes.idx
  dovetail index python:topics -o python.idx      the language reference that ships with Python
  dovetail index ~/notes -o notes.idx --graph     links between passages too, for recipe graph
  dovetail index ~/notes -o notes.all --corpora   paragraphs, documents, tables, images and videos
                                                  apart; recipe universal asks those that fit"""
_AUTO = "auto"
_LISTED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("paths", metavar="PATH", nargs="+", help="folder, file, or python:topics")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="index folder")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        default="minilm",
        help="minilm, a local folder, or a hub id owner/name (default: minilm)",
    )
    parser.add_argument(
        "--query-prompt", metavar="TEXT", help="put before queries (default: the encoder's own)"
    )
    parser.add_argument(
        "--document-prompt", metavar="TEXT", help="put before passages (default: the encoder's own)"
    )
    parser.add_argument(
        "--language",
        metavar="NAME",
        help="of the texts: decides stems and stop words, none does without (default: en)",
    )
    parser.add_argument(
        "--sentences",
        choices=("rules", "punkt", "sentencex"),
        default="rules",
        help="what finds sentences: our rules, or a library of the extra `languages` with "
        "--language (default: rules)",
    )
    parser.add_argument(
        "--dense",
        choices=("exact", "flat", "hnsw", "ivfpq"),
        help="index of the vectors: hnsw and ivfpq are approximate (default: flat)",
    )
    parser.add_argument(
        "--vectors",
        choices=("float32", "float16"),
        help="how vectors are stored (default: float32)",
    )
    graph = parser.add_argument_group("of the corpus graph, which the recipes graph* walk")
    graph.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="link passages by mentions, shared phrases, links, order and vectors; an index that "
        "has a graph keeps it up to date (default: as it is)",
    )
    graph.add_argument(
        "--graph-fields",
        metavar="NAMES",
        help="comma-separated metadata fields whose shared values link passages",
    )
    graph.add_argument(
        "--triples",
        metavar="FILE",
        type=Path,
        help="your own links: lines of JSON {subject, relation, object, weight}, or of subject, "
        "relation, object with tabs between; an end is a passage, a document or a name",
    )
    corpora = parser.add_argument_group("of several corpora, which the recipes universal* ask")
    corpora.add_argument(
        "--corpora",
        metavar="LABELS",
        nargs="?",
        const=_AUTO,
        help="make a folder of several corpora: comma-separated paragraph, document, table, image, "
        "clip, video, or auto for all that have content (default: auto)",
    )
    corpora.add_argument(
        "--image-encoder",
        metavar="NAME",
        help="a folder or hub id of CLIP, whose vectors of the images are searched beside their "
        "captions; a folder that has vectors keeps them up to date",
    )
    parser.add_argument(
        "--words", metavar="N", type=int, default=120, help="words per passage (default: 120)"
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="read and encode everything again; needed to change the encoder",
    )
    parser.add_argument(
        "--download", action="store_true", help="allow to fetch the encoder from the hub"
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Build, and print what was done."""
    from rag.corpus import Chunker
    from rag.text.splitters import SentenceSplitter

    with refused_arguments():
        encoder = LateEncoder(
            args.encoder,
            download=args.download,
            query_prompt=args.query_prompt,
            document_prompt=args.document_prompt,
        )
        form = _form(args)
        language = "en" if form is None else form.language
        splitter = SentenceSplitter(args.sentences, language)
        chunker = Chunker(args.words, splitter)
    if args.corpora is not None:
        return _run_corpora(args, encoder, form, splitter)
    if args.image_encoder is not None:
        raise UsageError("--image-encoder goes with --corpora")

    from pipelines.indexing import build_index

    with progress(quiet=args.quiet or args.json) as watched:
        report = build_index(
            args.paths,
            args.out,
            encoder=encoder,
            chunker=chunker,
            form=form,
            rebuild=args.rebuild,
            progress=watched,
        )
    if args.json:
        say_json({"index": str(args.out), **asdict(report)})
    else:
        _print(args.out, report)
    return 0


def _run_corpora(
    args: argparse.Namespace,
    encoder: "LateEncoder",
    form: "Form | None",
    splitter: "SentenceSplitter",
) -> int:
    """Build several corpora, and print what was done."""
    from pipelines.corpora.build import build_corpora
    from pipelines.corpora.kinds import corpus_kinds

    labels = None if args.corpora == _AUTO else _names(args.corpora)
    with refused_arguments():
        kinds = corpus_kinds(labels, words=args.words, splitter=splitter)
        image_encoder = None
        if args.image_encoder is not None:
            from rag.models.image_encoder import load_image_encoder

            image_encoder = load_image_encoder(args.image_encoder, download=args.download)
    with progress(quiet=args.quiet or args.json) as watched:
        report = build_corpora(
            args.paths,
            args.out,
            encoder=encoder,
            kinds=kinds,
            form=form,
            rebuild=args.rebuild,
            progress=watched,
            image_encoder=image_encoder,
        )
    if args.json:
        say_json({"corpora_folder": str(args.out), **asdict(report)})
    else:
        _print_corpora(args.out, report)
    return 0


def _names(listed: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in listed.split(","))))


def _form(args: argparse.Namespace) -> "Form | None":
    """Return how to index, with what an index that is there has where nothing is said."""
    from pipelines.corpora.kinds import LABELS
    from pipelines.index_folder import open_index
    from pipelines.snapshots import Form
    from rag.corpus.manifest import MANIFEST
    from rag.text.analyser import Analyser

    given = {"language": args.language, "kind": args.dense, "dtype": args.vectors}
    said = {name: value for name, value in given.items() if value is not None}
    linked = args.graph is not None or args.graph_fields is not None or args.triples is not None
    if not said and not linked:
        return None
    if "language" in said:
        Analyser(said["language"])
    folders = [args.out] if args.corpora is None else [args.out / label for label in LABELS]
    there = [one for one in folders if (one / MANIFEST).exists() and not args.rebuild]
    form = replace(open_index(there[0]).snapshot.form if there else Form(), **said)
    return _linked(form, args) if linked else form


def _linked(form: "Form", args: argparse.Namespace) -> "Form":
    """Return the form with the graph that is asked for."""
    from retrievers.graph.edges.triple import read_triples
    from retrievers.graph.settings import GraphSettings

    if args.graph is False:
        for name in ("graph_fields", "triples"):
            if getattr(args, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} goes without --no-graph")
        return replace(form, graph=None, triples=())
    graph = form.graph or GraphSettings()
    if args.graph_fields is not None:
        graph = replace(graph, fields=_names(args.graph_fields))
    triples = form.triples if args.triples is None else tuple(read_triples(args.triples))
    return replace(form, graph=graph, triples=triples)


class LateEncoder:
    """An `Encoder` that loads its model at the first text: a build without new texts never does.

    Raises:
        ModelNotFoundError: if nothing resolves the name.
        ValueError: if the name is empty.
    """

    def __init__(
        self,
        name: str,
        *,
        download: bool = False,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> None:
        from rag.models.encoder import encoder_fingerprint
        from rag.models.resolve import ENCODERS, resolve_model

        folder = resolve_model(name, packages=ENCODERS, download=download)
        self._download = download
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt
        # A relative path would mean another folder wherever questions are asked.
        self.name = str(folder) if name not in ENCODERS and Path(name).exists() else name
        self.fingerprint = encoder_fingerprint(
            folder, query_prompt=query_prompt, document_prompt=document_prompt
        )

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self._encoder.dim)

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> "np.ndarray":
        """Return unit vectors, float32 (n, dim)."""
        vectors: np.ndarray = self._encoder.encode(texts, progress=progress)
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> "np.ndarray":
        """Return unit vectors of queries, float32 (n, dim)."""
        vectors: np.ndarray = self._encoder.encode_queries(texts)
        return vectors

    @cached_property
    def _encoder(self) -> "SentenceEncoder":
        import torch

        from rag.models.encoder import load_encoder
        from rag.models.language_model import best_dtype

        # Half the time where the processor is made for it; vectors move by a cosine of 1e-4.
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        fast = best_dtype(device) is torch.bfloat16
        precision: Precision = "bfloat16" if fast else "float32"
        return load_encoder(
            self.name,
            download=self._download,
            precision=precision,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
        )


def _print(folder: Path, report: "IndexReport") -> None:
    _remark_listed("skipped ", [f"{skipped.id}: {skipped.reason}" for skipped in report.skipped])
    _remark_listed("removed ", report.removed)
    if report.rechunked:
        remark("passages were made again, as their length was another")
    _remark_pending(report)
    state = "" if report.written else "nothing changed: "
    say(f"{folder}: {state}{_counts(report)}")
    say(
        f"{plural(report.documents, 'document')}, {plural(report.passages, 'passage')}, "
        f"{report.seconds:.1f} s"
    )
    if report.edges:
        say(edges_line(report.edges))
    _remark_listed("a triple joins nothing: ", report.unplaced)
    _say_next(folder, report)


def _print_corpora(folder: Path, report: "CorporaReport") -> None:
    _remark_listed("skipped ", [f"{skipped.id}: {skipped.reason}" for skipped in report.skipped])
    _remark_listed("removed ", report.removed)
    _remark_pending(report)
    state = "" if report.written else "nothing changed: "
    say(f"{folder}: {state}{_counts(report)}")
    for label, one in report.corpora.items():
        say(f"  {label}: {plural(one.documents, 'document')}, {plural(one.passages, 'passage')}")
    for label, why in report.empty.items():
        say(f"  {label}: empty, {why}")
    _remark_listed("no corpus any more: ", report.dropped)
    _remark_listed("", report.notes)
    say(
        f"{plural(report.documents, 'document')}, {plural(report.passages, 'passage')}, "
        f"{report.seconds:.1f} s"
    )
    _say_next(folder, report)


def _remark_pending(report: "IndexReport | CorporaReport") -> None:
    if report.kv_pending:
        remark(
            f"the KV store is in use: entries of {plural(report.kv_pending, 'document')} "
            "go at the next run"
        )


def _say_next(folder: Path, report: "IndexReport | CorporaReport") -> None:
    if report.kv_dropped:
        say(f"{report.kv_dropped:,} out-of-date entries of the KV store dropped")
    if report.written:
        say(f'next: dovetail ask "…" -i {folder}')


def _counts(report: "IndexReport | CorporaReport") -> str:
    return ", ".join(
        f"{len(ids):,} {name}"
        for name, ids in (
            ("added", report.added),
            ("changed", report.changed),
            ("removed", report.removed),
            ("unchanged", report.unchanged),
        )
        if ids
    )


def _remark_listed(what: str, lines: Sequence[str]) -> None:
    """Say the first of some lines, and how many more there are."""
    for line in lines[:_LISTED]:
        remark(f"{what}{line}")
    if len(lines) > _LISTED:
        remark(f"{what}{len(lines) - _LISTED:,} more; --json lists all")
