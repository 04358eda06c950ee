"""Vector stores to test against: in memory, and real ones where their packages are installed."""

import tempfile
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import pytest

DIM = 8


class VectorEncoder:
    """Gives every text a random unit vector of its own; queries are encoded like passages."""

    name = fingerprint = "vectors"
    dim = DIM

    def __init__(self):
        self.encoded = 0

    def encode(self, texts, *, progress=None):
        self.encoded += len(texts)
        rows = [np.random.default_rng(list(text.encode())).normal(size=DIM) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, DIM)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode


@contextmanager
def _in_memory(tmp_path, encoder):
    from langchain_core.vectorstores import InMemoryVectorStore

    from rag.interop.langchain import as_embeddings
    from retrievers.stores.store import VectorStoreSearch

    yield VectorStoreSearch(InMemoryVectorStore(as_embeddings(encoder)), encoder)


@contextmanager
def _qdrant(tmp_path, encoder):
    from retrievers.stores.qdrant import open_qdrant

    search = open_qdrant(str(tmp_path / "qdrant"), "passages", encoder)
    with search:
        yield search


@contextmanager
def _milvus(tmp_path, encoder):
    from retrievers.stores.milvus import open_milvus

    with open_milvus(str(tmp_path / "milvus.db"), "passages", encoder) as search:
        yield search


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL of our own, on a unix socket.

    Run as root, pgserver opens the folders above its data for another user: so not pytest's own.
    """
    if find_spec("pgserver") is None or find_spec("langchain_postgres") is None:
        pytest.skip("needs pgserver and langchain-postgres")
    import pgserver

    server = pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@contextmanager
def _pgvector(tmp_path, encoder, url):
    from retrievers.stores.pgvector import open_pgvector

    table = "t" + "".join(c for c in tmp_path.name.lower() if c.isalnum())[-40:]
    with open_pgvector(url, table, encoder) as search:
        yield search


KINDS = [
    "in_memory",
    "pgvector",
    pytest.param("qdrant", marks=pytest.mark.slow),
    pytest.param("milvus", marks=pytest.mark.slow),
]


@pytest.fixture
def encoder():
    return VectorEncoder()


@pytest.fixture(params=KINDS)
def search(request, tmp_path, encoder):
    """An empty store of each kind."""
    if request.param == "pgvector":
        with _pgvector(tmp_path, encoder, request.getfixturevalue("postgres")) as opened:
            yield opened
        return
    needed = {"qdrant": "langchain_qdrant", "milvus": "langchain_milvus"}.get(request.param)
    if needed is not None and find_spec(needed) is None:
        pytest.skip(f"needs the package {needed}")
    opens = {"in_memory": _in_memory, "qdrant": _qdrant, "milvus": _milvus}[request.param]
    with opens(tmp_path, encoder) as opened:
        yield opened
