"""Operators that are made of what an index or a model holds: from resources to fields."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from kvstore.store import KVStore
from pipelines.catalogue.bounded import Share
from pipelines.open_index import DISK_BYTES, RAM_BYTES, OpenIndex
from pruners.sentences import SentencePruner
from rag.bounds import Bounds
from rag.generation.cached import Edges, GenerateCached, Mode
from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling
from rag.generation.local_model import LocalModel
from rag.generation.plan import ContextWeights
from rag.models.language_model import DtypeName
from rag.protocols import Encoder, PassageCache


def sentences(
    index: OpenIndex,
    *,
    threshold: Annotated[float, Bounds(low=0)] = 0.4,
    similarity_weight: Share = 0.6,
    min_keep: Annotated[int, Bounds(low=0)] = 1,
) -> SentencePruner:
    """Marks the sentences of each passage that the query needs, by vector and by terms.

    Args:
        index: holds the vectors of all sentences.
        threshold: the score that a sentence must exceed; 0 keeps all. Stricter than the pruner's
            own default, as the default model answers better from less text.
        similarity_weight: weight of the vectors, in [0, 1].
        min_keep: best sentences that stay whatever their score.
    """
    return SentencePruner(
        index.encoder,
        threshold=threshold,
        similarity_weight=similarity_weight,
        min_keep=min_keep,
        sentence_vectors=index.sentence_vectors,
    )


def cached(
    lm: LocalModel,
    kv: PassageCache | None = None,
    encoder: Encoder | None = None,
    *,
    mode: Mode = "ape",
    max_tokens: Annotated[int, Bounds(low=1)] = 64,
    temperature: Annotated[float, Bounds(low=0)] = 0.0,
    seed: int = 0,
    ape_temperature: Annotated[float, Bounds(low=0, open_low=True)] = 0.8,
    ape_scale: Annotated[float, Bounds(low=0, open_low=True)] = 1.0,
    ape_bias: float = 0.0,
    threshold: Share = 0.5,
    edges: Edges = "into_top_k",
    k: Annotated[int, Bounds(low=1)] = 1,
) -> GenerateCached:
    """Answers from cached passages, with citations; only the question is prefilled.

    Source: APE, arXiv:2502.05431.

    Args:
        lm: the language model, which runs here.
        kv: keeps the KV of passages between runs; by default the index's own store.
        encoder: compares sentences by meaning for citations.
        mode: `ape` and `parallel` read cached passages side by side, with and without weights;
            `block` one after another; `graph` computes some anew over others (Graph-KV);
            `sequential` prefills one prompt, exactly.
        max_tokens: the most to generate, at least 1.
        temperature: 0 is greedy; above 0 samples.
        seed: of the sampler.
        ape_temperature: T, sharpens attention within the passages below 1.
        ape_scale: S, weighs the passages.
        ape_bias: b, in nats, weighs the passages.
        threshold: least support for a citation, in [0, 1].
        edges: of mode `graph`: into the best k passages, from them, a chain from worst to best, or
            the corpus graph's own.
        k: how many the best ones are.
    """
    return GenerateCached(
        lm.engine(kv),
        lm.prompt,
        mode=mode,
        weights=ContextWeights(ape_temperature, ape_scale, ape_bias),
        sampling=Sampling(max_tokens, temperature, seed),
        support=SupportMatcher(encoder, threshold),
        edges=edges,
        k=k,
    )


def index_folder(
    *,
    path: Path,
    download: bool = False,
    kv_ram: Annotated[int, Bounds(low=0)] = RAM_BYTES,
    kv_disk: Annotated[int, Bounds(low=0)] = DISK_BYTES,
    scope: Mapping[str, Any] | None = None,
) -> OpenIndex:
    """An index folder that `dovetail index` made, with its encoder and KV store.

    Args:
        path: the folder.
        download: let the encoder be fetched from the hub.
        kv_ram: bytes of RAM for KV; half of it holds rotated copies.
        kv_disk: bytes of disk for KV.
        scope: a filter on metadata, such as `{tenant: acme}`; other passages do not exist for the
            pipeline, and the filter of a step can only narrow it.
    """
    return OpenIndex(path, download=download, kv_ram=kv_ram, kv_disk=kv_disk, scope=scope)


def local_model(
    *,
    model: str = "smollm2-135m",
    dtype: DtypeName = "auto",
    download: bool = False,
    placed_bytes: Annotated[int, Bounds(low=0)] = RAM_BYTES // 2,
) -> LocalModel:
    """A language model from an installed package, a folder or file, or the hub.

    Args:
        model: `smollm2-135m`, a folder in Hugging Face layout, a `.gguf` file, or a hub id.
        dtype: of the forward pass; `auto` is bfloat16 where that is fast, else float32.
        download: let a name without `/` reach the hub too.
        placed_bytes: RAM for passages in the form that attention reads.
    """
    return LocalModel.open(model, dtype, download, placed_bytes)


def disk_store(
    *,
    path: Path,
    ram_bytes: Annotated[int, Bounds(low=0)] = RAM_BYTES // 2,
    disk_bytes: Annotated[int, Bounds(low=0)] = DISK_BYTES,
) -> KVStore:
    """A KV store in a folder of its own, instead of the index's.

    Args:
        path: its folder, made if it is missing.
        ram_bytes: RAM for the entries used last.
        disk_bytes: the most it may take on disk.
    """
    return KVStore(path, ram_bytes=ram_bytes, disk_bytes=disk_bytes)
