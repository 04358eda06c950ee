"""Operators that are made of what an index or a model holds: from resources to fields."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from kvstore.store import KVStore
from pipelines.corpora.open_corpora import OpenCorpora
from pipelines.corpora.opening import holds_corpora, open_corpora, open_indexes
from pipelines.open_index import DISK_BYTES, RAM_BYTES, OpenIndex
from rag.bounds import Bounds
from rag.generation.local_model import LocalModel
from rag.models.language_model import DtypeName
from rag.models.openai_compatible import Api, OpenAICompatibleModel


def index_folder(
    *,
    path: Path,
    download: bool = False,
    kv_ram: Annotated[int, Bounds(low=0)] = RAM_BYTES,
    kv_disk: Annotated[int, Bounds(low=0)] = DISK_BYTES,
    scope: Mapping[str, Any] | None = None,
) -> OpenIndex | OpenCorpora:
    """An index folder that `dovetail index` made, with its encoder and KV store.

    Args:
        path: the folder; one of several corpora opens as `index.corpora` does.
        download: let the encoder be fetched from the hub.
        kv_ram: bytes of RAM for KV; half of it holds rotated copies.
        kv_disk: bytes of disk for KV.
        scope: a filter on metadata, such as `{tenant: acme}`; other passages do not exist for the
            pipeline, and the filter of a step can only narrow it.
    """
    if holds_corpora(path):
        return open_corpora(path, download=download, kv_ram=kv_ram, kv_disk=kv_disk, scope=scope)
    return OpenIndex(path, download=download, kv_ram=kv_ram, kv_disk=kv_disk, scope=scope)


def index_corpora(
    *,
    path: Path | None = None,
    corpora: Mapping[str, Path] | None = None,
    modalities: Mapping[str, str] | None = None,
    download: bool = False,
    kv_ram: Annotated[int, Bounds(low=0)] = RAM_BYTES,
    kv_disk: Annotated[int, Bounds(low=0)] = DISK_BYTES,
    scope: Mapping[str, Any] | None = None,
) -> OpenCorpora:
    """Several corpora, one a modality and granularity, with their encoder and KV store.

    Args:
        path: a folder that `dovetail index --corpora` made; a plain index counts as `paragraph`.
        corpora: instead of it, index folders that were made one by one, by label.
        modalities: of labels of your own; labels of one modality are alternatives.
        download: let the encoder be fetched from the hub.
        kv_ram: bytes of RAM for KV; half of it holds rotated copies.
        kv_disk: bytes of disk for KV.
        scope: a filter on metadata, such as `{tenant: acme}`, that holds for every corpus; other
            passages do not exist for the pipeline.
    """
    if path is not None and holds_corpora(path) and corpora is None:
        return open_corpora(
            path,
            modalities=modalities,
            download=download,
            kv_ram=kv_ram,
            kv_disk=kv_disk,
            scope=scope,
        )
    folders = corpora if path is None else {"paragraph": path}
    if folders is None or (path is not None and corpora is not None):
        got = "neither" if folders is None else "both"
        raise ValueError(f"index.corpora needs either path or corpora, got {got}")
    return open_indexes(
        folders,
        modalities=modalities,
        download=download,
        kv_ram=kv_ram,
        kv_disk=kv_disk,
        scope=scope,
    )


def local_model(
    *,
    model: str = "smollm2-135m",
    dtype: DtypeName = "auto",
    download: bool = False,
    placed_bytes: Annotated[int, Bounds(low=0)] = RAM_BYTES // 2,
    adapter: str = "auto",
) -> LocalModel:
    """A language model from an installed package, a folder or file, or the hub.

    Args:
        model: `smollm2-135m`, a folder in Hugging Face layout, a `.gguf` file, or a hub id.
        dtype: of the forward pass; `auto` is bfloat16 where that is fast, else float32.
        download: let a name without `/` reach the hub too.
        placed_bytes: RAM for passages in the form that attention reads.
        adapter: for reading cached passages: `auto` is the one that comes with Dovetail for this
            model, or none; `none`; or a folder that `dovetail adapt` wrote.
    """
    return LocalModel.open(model, dtype, download, placed_bytes, adapter)


def openai_compatible(
    *,
    model: str,
    base_url: str,
    api: Api = "chat",
    api_key_env: str = "OPENAI_API_KEY",
    timeout_s: Annotated[float, Bounds(low=0, open_low=True)] = 120.0,
    retries: Annotated[int, Bounds(low=0)] = 3,
    concurrency: Annotated[int, Bounds(low=1)] = 4,
    token_logprobs: bool = True,
    extra_body: Mapping[str, Any] | None = None,
    insecure_http: bool = False,
) -> OpenAICompatibleModel:
    """A language model that a service runs: OpenAI, vLLM, llama.cpp, Ollama, and many others.

    Prompts and passages are sent there as text; no KV is reused.

    Args:
        model: as the service calls it.
        base_url: where the service is, as `http://127.0.0.1:8000/v1`; `http` goes to this machine
            and its network only.
        api: `chat` sends a prompt as one message; `completions` has it continued as it is, which
            base models do best.
        api_key_env: name of the environment variable that holds the key; if it is not set, none is
            sent.
        timeout_s: the longest to wait for a connection, and for each piece of an answer.
        retries: how often to try again after a failed connection, 429 and 5xx.
        concurrency: prompts that are asked at the same time.
        token_logprobs: ask for log-probabilities of tokens, which judges of confidence read; a
            service that refuses because of that is asked without.
        extra_body: fields that every request gets, such as `{reasoning_effort: low}`; `null` leaves
            one out.
        insecure_http: allow `http` to any host.
    """
    return OpenAICompatibleModel(
        model,
        base_url,
        api=api,
        api_key_env=api_key_env,
        timeout_s=timeout_s,
        retries=retries,
        concurrency=concurrency,
        token_logprobs=token_logprobs,
        extra_body=extra_body,
        insecure_http=insecure_http,
    )


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
