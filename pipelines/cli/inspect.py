"""`dovetail inspect`: show what an index, a document or a passage holds, or what a run did."""

import argparse
import difflib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError
from pipelines.cli.terminal import edges_line, plural, remark, say, say_json
from rag.tracing.wording import byte_size

if TYPE_CHECKING:
    from pipelines.index_folder import IndexFolder
    from rag.records import Passage
    from rag.tracing.trace import Trace

_EXAMPLE = """\
A run is the file of its trace; `last` is the newest of yours.

examples:
  dovetail inspect notes.idx
  dovetail inspect notes.idx notes/backup.md       its text, with the borders of its passages
  dovetail inspect notes.idx notes/backup.md:3     one passage, sentence by sentence
  dovetail inspect last                            steps, times, passages, KV hits and misses
  dovetail inspect last --prompt                   what exactly the model read
  dovetail inspect run.jsonl --html run.html       one page, to open in a browser
  dovetail inspect run.jsonl --diff other.jsonl    what changed between two runs
  dovetail inspect last -i notes.idx --graph run.svg             what its passages lead to
  dovetail inspect notes.idx notes/backup.md --graph near.html   what a document leads to"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument(
        "path",
        metavar="DIR|RUN",
        type=Path,
        help="index folder, folder of corpora, trace of a run, or `last`",
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="a document or a passage of an index")
    runs = parser.add_argument_group("of a run")
    runs.add_argument("--prompt", action="store_true", help="print the exact prompts only")
    runs.add_argument("--html", metavar="FILE", type=Path, help="write a self-contained page")
    runs.add_argument(
        "--diff", metavar="RUN", type=Path, help="compare with another run, the changed one"
    )
    parser.add_argument(
        "--graph",
        metavar="FILE",
        type=Path,
        help="draw the corpus graph around the passages of a run, a document or a passage, as .svg "
        "or .html",
    )
    parser.add_argument(
        "-i", "--index", metavar="DIR", type=Path, help="the index of a run, for --graph"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    if args.graph is not None:
        _draw_graph(args)
        return 0
    if args.index is not None:
        raise UsageError("-i is for --graph of a run; an index itself is the first argument")
    if _is_run(args.path):
        _run_of(args)
        return 0
    if args.prompt or args.html is not None or args.diff is not None:
        raise UsageError(f"--prompt, --html and --diff are of a run, but {args.path} is a folder")
    return _index(args)


def _draw_graph(args: argparse.Namespace) -> None:
    from pipelines.drawing.neighbourhood import neighbourhood
    from pipelines.index_folder import open_index
    from rag.files import write_atomically

    run = _is_run(args.path)
    if args.graph.suffix not in (".svg", ".html"):
        raise UsageError(f"--graph takes a file that ends in .svg or .html, got {args.graph}")
    if not args.graph.absolute().parent.is_dir():
        raise UsageError(f"--graph must be in a folder that exists, got {args.graph}")
    if args.prompt or args.html is not None or args.diff is not None or args.json:
        raise UsageError("--graph goes without --prompt, --html, --diff and --json")
    if run != (args.index is not None):
        raise UsageError(
            "--graph of a run needs -i DIR, the index it asked"
            if run
            else "-i is for a run; an index itself is the first argument"
        )
    if run == (args.id is not None):
        raise UsageError("--graph of an index needs ID, and that of a run has none")
    index = open_index(args.index if run else args.path)
    heading, ids = _of_run(args.path) if run else (args.id, _ids(index, args.id))
    gone = [id_ for id_ in ids if id_ not in index.passages]
    if gone:
        raise UsageError(f"{index.folder} has no passage {gone[0]!r} of the run; give its index")
    chosen = [index.passages[id_] for id_ in ids]
    shown = neighbourhood(heading, chosen, index.graph, index.passages)
    if args.graph.suffix == ".svg":
        from pipelines.drawing.neighbourhood_svg import neighbourhood_svg as drawn
    else:
        from pipelines.drawing.neighbourhood_html import neighbourhood_html as drawn
    content = drawn(shown).encode("utf-8", "backslashreplace")
    write_atomically(args.graph, lambda file: file.write(content))
    remark(f"wrote {args.graph}")


def _of_run(path: Path) -> tuple[str, list[str]]:
    """Return the question of a run, and the ids of the passages that its last retrieval gave."""
    from rag.tracing.nesting import events, nested

    trace = _opened(path)
    found = [event for _, event in events(nested(trace), "retrieved") if event.get("passages")]
    if not found:
        raise UsageError(f"{path} retrieved no passage")
    ids = [str(row["id"]) for row in found[-1]["passages"]]
    inputs = trace.run.get("inputs")
    query = inputs.get("query") if isinstance(inputs, dict) else None
    return (query if isinstance(query, str) else str(trace.run.get("pipeline", path))), ids


def _ids(index: "IndexFolder", id_: str) -> list[str]:
    if id_ in index.contents:
        return index.contents[id_]
    if id_ in index.passages:
        return [id_]
    raise UsageError(_unknown(index, id_))


def _is_run(path: Path) -> bool:
    return str(path) == "last" or path.suffix == ".jsonl" or path.is_file()


def _run_of(args: argparse.Namespace) -> None:
    from rag.files import write_atomically
    from rag.tracing.html import page

    _check_run_arguments(args)
    trace = _opened(args.path)
    other = None if args.diff is None else _opened(args.diff)
    if args.html is not None:
        content = page(trace, other).encode("utf-8", "backslashreplace")
        write_atomically(args.html, lambda file: file.write(content))
        remark(f"wrote {args.html}")
    elif args.prompt:
        _say_prompts(trace, as_json=args.json)
    elif other is not None:
        _say_difference(trace, other, as_json=args.json)
    elif args.json:
        say_json({"run": trace.run, "records": trace.records[1:]})
    else:
        _draw_run(trace)


def _check_run_arguments(args: argparse.Namespace) -> None:
    if args.id is not None:
        raise UsageError(f"ID is of an index, but {args.path} is a run; got {args.id!r}")
    if args.prompt and (args.diff is not None or args.html is not None):
        raise UsageError("--prompt goes without --diff and --html, which show the prompts too")
    if args.html is not None and args.json:
        raise UsageError("--html writes a page, --json prints; choose one")
    if args.html is not None and not args.html.absolute().parent.is_dir():
        raise UsageError(f"--html must be in a folder that exists, got {args.html}")


def _opened(path: Path) -> "Trace":
    from rag.tracing.runs import latest
    from rag.tracing.trace import Trace

    trace = Trace.read(latest() if str(path) == "last" else path)
    for note in trace.notes:
        remark(note)
    return trace


def _draw_run(trace: "Trace") -> None:
    from rag.tracing.tree import as_text, draw

    if sys.stdout.isatty():
        from rich.console import Console

        draw(trace, Console())
    else:
        say(as_text(trace))


def _say_prompts(trace: "Trace", *, as_json: bool) -> None:
    from rag.tracing.nesting import events, nested

    found = [
        {"path": node.path, "prompt": event["text"]}
        for node, event in events(nested(trace), "prompt")
        if isinstance(event.get("text"), str)
    ]
    if as_json:
        say_json({"prompts": found})
        return
    if not found:
        remark("the trace holds no prompt: nothing was generated, or no content was kept")
    for prompt in found:
        if len(found) > 1:
            remark(f"--- prompt of {prompt['path']} ---")
        say(prompt["prompt"])


def _say_difference(trace: "Trace", other: "Trace", *, as_json: bool) -> None:
    from rag.tracing.compare import as_text, compare

    difference = compare(trace, other)
    if as_json:
        say_json(asdict(difference))
    else:
        say(as_text(difference))


def _index(args: argparse.Namespace) -> int:
    from pipelines.corpora.opening import holds_corpora
    from pipelines.index_folder import open_index

    if holds_corpora(args.path):
        folder = _corpus_with(args.path, args.id)
        if folder is None:
            return _corpora(args)
        args.path = folder
    index = open_index(args.path)
    if args.id is None:
        shown = _summary(index)
        draw = _draw_summary
    elif args.id in index.documents:
        shown = _document(index, args.id)
        draw = _draw_document
    elif args.id in index.passages:
        shown = _passage(index.passages[args.id])
        draw = _draw_passage
    else:
        raise UsageError(_unknown(index, args.id))
    if args.json:
        say_json(shown)
    else:
        draw(shown)
    return 0


def _corpus_with(folder: Path, id_: str | None) -> Path | None:
    """Return the index of the first corpus that has a document or passage; None without an id."""
    from pipelines.corpora.manifest import read_corpora
    from pipelines.index_folder import open_index

    if id_ is None:
        return None
    folders = [folder / label for label in read_corpora(folder).filled]
    for one in folders:
        index = open_index(one)
        if id_ in index.passages or id_ in index.documents:
            return one
    return folders[0]


def _corpora(args: argparse.Namespace) -> int:
    """List the corpora of a folder."""
    from pipelines.corpora.manifest import read_corpora

    manifest = read_corpora(args.path)
    corpora = {
        label: {
            "modality": corpus.modality,
            "index": str(args.path / label) if corpus.passages else None,
            "documents": corpus.documents,
            "passages": corpus.passages,
            "chunker": corpus.maker,
        }
        for label, corpus in manifest.corpora.items()
    }
    if args.json:
        encoder = asdict(manifest.encoder)
        sources = len(manifest.sources)
        say_json(
            {
                "corpora_folder": str(args.path),
                "encoder": encoder,
                "sources": sources,
                "corpora": corpora,
            }
        )
        return 0
    say(f"{args.path}: {plural(len(manifest.sources), 'source')}")
    say(f"encoder {manifest.encoder.name} ({manifest.encoder.fingerprint[:12]})")
    for label, corpus in manifest.corpora.items():
        counts = f"{plural(corpus.documents, 'document')}, {plural(corpus.passages, 'passage')}"
        say(f"  {label} ({corpus.modality}): {counts if corpus.passages else 'empty'}")
    if manifest.filled:
        say(f"one of them: dovetail inspect {args.path / manifest.filled[0]}")
    return 0


def _summary(index: "IndexFolder") -> dict[str, Any]:
    manifest = index.manifest
    parts: dict[str, int] = {}
    for name, file in manifest.files.items():
        part = _PARTS.get(name.partition("/")[0], name)
        parts[part] = parts.get(part, 0) + file.bytes
    kv = [path.stat().st_size for path in index.kv_folder.rglob("*.safetensors")]
    roots: dict[str, int] = {}
    for source in manifest.sources:
        roots[source.root] = roots.get(source.root, 0) + 1
    return {
        "index": str(index.folder),
        "created": manifest.created,
        "updated": manifest.updated,
        "encoder": {
            "name": manifest.encoder.name,
            "fingerprint": manifest.encoder.fingerprint,
            "dim": manifest.encoder.dim,
        },
        "chunker": manifest.chunker,
        "language": manifest.language,
        "sparse": asdict(index.sparse.statistics),
        "dense": {
            "kind": index.dense.kind.name,
            "settings": repr(index.dense.kind),
            "dtype": index.dense.dtype,
            "recall": None if index.dense.recall is None else asdict(index.dense.recall),
        },
        "graph": index.graph.counts if index.has_graph else None,
        "roots": roots,
        "sources": len(manifest.sources),
        "documents": manifest.counts.documents,
        "passages": manifest.counts.passages,
        "sentences": manifest.counts.sentences,
        "bytes": parts,
        "kv": {"entries": len(kv), "bytes": sum(kv)},
        "document_ids": list(index.documents),
    }


_PARTS = {
    "contents.json": "ids",
    "documents.jsonl": "text of documents",
    "passages.jsonl": "passages",
    "sparse": "terms",
    "dense": "vectors of passages",
    "sentences.npy": "vectors of sentences",
    "sentence_starts.npy": "vectors of sentences",
    "graph": "corpus graph",
}
_LISTED = 20


def _draw_summary(shown: dict[str, Any]) -> None:
    encoder = shown["encoder"]
    say(
        f"{shown['index']}: {plural(shown['documents'], 'document')}, "
        f"{plural(shown['passages'], 'passage')}, {plural(shown['sentences'], 'sentence')}"
    )
    say(f"made {shown['created']}, last changed {shown['updated']}")
    say(f"encoder {encoder['name']} ({encoder['fingerprint'][:12]}), {encoder['dim']} wide")
    say(f"chunker {shown['chunker']}, language {shown['language']}")
    sparse, dense = shown["sparse"], shown["dense"]
    say(
        f"terms: {plural(sparse['vocabulary'], 'term')} in {plural(sparse['segments'], 'segment')}"
        f", {sparse['deleted']:,} deleted passages"
    )
    say(f"vectors: {dense['settings']}, {dense['dtype']}, {_recall(dense['recall'])}")
    if shown["graph"] is not None:
        say(edges_line(shown["graph"]))
    for root, count in shown["roots"].items():
        say(f"from {root}: {plural(count, 'source')}")
    say()
    for part, size in sorted(shown["bytes"].items(), key=lambda item: -item[1]):
        say(f"  {byte_size(size):>9}  {part}")
    say(f"  {byte_size(shown['kv']['bytes']):>9}  KV store, {shown['kv']['entries']:,} entries")
    say()
    for id_ in shown["document_ids"][:_LISTED]:
        say(f"  {id_}")
    more = len(shown["document_ids"]) - _LISTED
    if more > 0:
        say(f"  and {more:,} more; --json lists all")


def _recall(recall: dict[str, Any] | None) -> str:
    if recall is None:
        return "recall not measured"
    if recall["exact"]:
        return "exact"
    return (
        f"recall@{recall['at']} {recall['value']:.3f} against exact search, over "
        f"{plural(recall['queries'], 'sampled vector')}"
    )


def _document(index: "IndexFolder", id_: str) -> dict[str, Any]:
    document = index.documents[id_]
    return {
        "document": id_,
        "title": document.title,
        "metadata": dict(document.metadata),
        "text": document.text,
        "sections": [
            {"start": s.start, "level": s.level, "title": s.title} for s in document.sections
        ],
        "pages": list(document.pages),
        "passages": [
            {"id": passage, "start": span.start, "end": span.end}
            for passage in index.contents[id_]
            for span in [index.passages[passage].span]
        ],
    }


def _draw_document(shown: dict[str, Any]) -> None:
    say(f"{shown['document']}: {shown['title']}")
    say(f"{plural(len(shown['text']), 'character')}, {plural(len(shown['passages']), 'passage')}")
    end = 0
    for passage in shown["passages"]:
        between = shown["text"][end : passage["start"]].strip()
        if between:
            say(f"\n┄┄┄┄ in no passage\n{between}")
        end = passage["end"]
        say(f"\n──── {passage['id']}  [{passage['start']}:{end}]")
        say(shown["text"][passage["start"] : end].strip("\n"))
    rest = shown["text"][end:].strip()
    if rest:
        say(f"\n┄┄┄┄ in no passage\n{rest}")


def _passage(passage: "Passage") -> dict[str, Any]:
    return {
        "passage": passage.id,
        "document": passage.document,
        "title": passage.title,
        "start": passage.span.start,
        "end": passage.span.end,
        "page": passage.page,
        "modality": passage.modality,
        "previous": passage.previous,
        "next": passage.next,
        "parent": passage.parent,
        "metadata": dict(passage.metadata),
        "text": passage.text,
        "sentences": [[span.start, span.end] for span in passage.sentences],
    }


def _draw_passage(shown: dict[str, Any]) -> None:
    page = f", page {shown['page']}" if shown["page"] else ""
    say(f"{shown['passage']}: {shown['title']}")
    say(f"[{shown['start']}:{shown['end']}] of {shown['document']}{page}, {shown['modality']}")
    say(f"before it {shown['previous'] or 'nothing'}, after it {shown['next'] or 'nothing'}")
    say()
    for row, (start, end) in enumerate(shown["sentences"]):
        say(f"{row:>4}  {' '.join(shown['text'][start:end].split())}")


def _unknown(index: "IndexFolder", id_: str) -> str:
    ids = [*index.documents, *index.passages]
    near = [other for other in index.documents if id_.casefold() in other.casefold()][:3]
    near = near or difflib.get_close_matches(id_, ids, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "without an id, inspect lists them"
    return f"{index.folder} has no document or passage {id_!r}; {hint}"
