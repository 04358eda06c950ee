"""PostgreSQL with the pgvector extension as a vector store."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from rag.protocols import Encoder
from retrievers.stores.extras import need, shown
from retrievers.stores.store import VectorStoreSearch

_WIDTH = """
SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = 'embedding' AND NOT a.attisdropped
"""


def open_pgvector(
    url: str, table: str, encoder: Encoder, *, schema: str = "public", **options: Any
) -> VectorStoreSearch:
    """Open a table of PostgreSQL; it is made if there is none, and so is the extension.

    Without an index every search compares every vector, which is exact. Needs the extra `pgvector`.

    Args:
        url: `postgresql://user:password@host/database`, as libpq takes it.
        table: its name: letters, digits and underscores, not a digit first.
        encoder: makes the vectors.
        schema: where the table is, named likewise.
        options: of `VectorStoreSearch`: `top_k`, `depth`, `where`, `within`.

    Raises:
        MissingExtraError: if psycopg or langchain-postgres is not installed.
        ValueError: if url or a name is none of that, or the table has other vectors.
        ConnectionError: if the server cannot be reached, or refuses; the message has no secrets.
    """
    for name, value in (("table", table), ("schema", schema)):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(f"{name} must be letters, digits and underscores, got {value!r}")
    found = re.match(r"(postgresql|postgres)(\+psycopg)?://", url)
    if not found:
        raise ValueError(f"url must begin with postgresql://, got {shown(url)!r}")
    rest = url[found.end() :]
    psycopg, langchain = need("pgvector", "psycopg", "langchain_postgres")
    from rag.interop.langchain import as_embeddings

    try:
        with psycopg.connect(f"postgresql://{rest}") as connection:
            row = connection.execute(_WIDTH, (schema, table)).fetchone()
        if row is not None and row[0] != f"vector({encoder.dim})":
            raise ValueError(
                f"table {table!r} must hold vector({encoder.dim}) in 'embedding', got {row[0]}"
            )
        engine = langchain.PGEngine.from_connection_string(f"postgresql+psycopg://{rest}")
        if row is None:
            engine.init_vectorstore_table(table, encoder.dim, schema_name=schema)
    except psycopg.Error as error:
        raise ConnectionError(
            f"PostgreSQL at {shown(url)} cannot be used: {type(error).__name__}"
        ) from None
    store = langchain.PGVectorStore.create_sync(
        engine, as_embeddings(encoder), table, schema_name=schema
    )
    return VectorStoreSearch(store, encoder, closing=lambda: asyncio.run(engine.close()), **options)
