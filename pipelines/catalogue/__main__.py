"""Writes the generated files: `python -m pipelines.catalogue`, which `make fix` runs."""

import json
from pathlib import Path

from pipelines.catalogue.table import TABLE, catalogue, generated

SCHEMA = Path(__file__).parents[1] / "pipeline.schema.json"


def main() -> None:
    """Write the catalogue's table and the schema of pipeline files."""
    from pipelines.definition.schema import schema

    TABLE.write_text(generated(), encoding="utf-8")
    catalogue.cache_clear()
    text = json.dumps(schema(catalogue()), indent=1, ensure_ascii=False) + "\n"
    SCHEMA.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
