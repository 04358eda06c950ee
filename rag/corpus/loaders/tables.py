"""Tables (.csv, .xlsx): one line a row, which names its columns and so stands alone."""

import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rag.corpus.loaders.decoding import decode
from rag.corpus.loaders.outline import Outline
from rag.corpus.loaders.silence import silent
from rag.errors import MissingExtraError
from rag.records import Document

_DELIMITERS = ",;\t|"
_SAMPLE = 50  # rows that the delimiter is judged by


def load_csv(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a delimited text file: lines `Header: value; Header: value.`.

    The delimiter is the one among comma, semicolon, tab and bar that gives most rows the same
    number of cells, above one. The first row is the header; a row before it with a single cell is
    a caption.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title.

    Raises:
        CorpusError: for binary content.
    """
    text, encoding = decode(data)
    outline = Outline()
    _add_table(outline, list(csv.reader(io.StringIO(text), delimiter=_delimiter(text))))
    return [outline.document(source, name, {"modality": "table", "encoding": encoding})]


def load_xlsx(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a workbook: a section a sheet, rows as in `load_csv`.

    Formulas are read as the values that the program which saved the file had computed.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title.

    Raises:
        MissingExtraError: if openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError(
            'reading .xlsx needs openpyxl: pip install "dovetail-rag[docs]"'
        ) from None
    outline = Outline()
    with silent("openpyxl"):
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            for sheet in book.worksheets:
                values = sheet.iter_rows(values_only=True)
                rows = [[_cell(value) for value in row] for row in values]
                if any(any(row) for row in rows):
                    outline.heading(sheet.title, 1)
                    _add_table(outline, rows)
        finally:
            book.close()
    return [outline.document(source, name, {"modality": "table"})]


def _delimiter(text: str) -> str:
    """Return the delimiter that most rows agree on; the earlier in the list on a tie."""

    def agreement(delimiter: str) -> int:
        lines = io.StringIO(text)
        rows = csv.reader(lines, delimiter=delimiter)
        widths = Counter(len(row) for row, _ in zip(rows, range(_SAMPLE), strict=False) if row)
        width, count = widths.most_common(1)[0] if widths else (0, 0)
        return count if width > 1 else 0

    return max(_DELIMITERS, key=agreement)


def _cell(value: object) -> str:
    """Return a workbook's value as a person would write it."""
    match value:
        case None:
            return ""
        case float() if value.is_integer():
            return str(int(value))
        case dt.datetime() if value.time() == dt.time():
            return value.date().isoformat()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case _:
            return str(value)


def _add_table(outline: Outline, rows: Iterable[Sequence[str]]) -> None:
    """Add the rows of one table below its heading."""
    filled = [cells for row in rows if any(cells := [" ".join(cell.split()) for cell in row])]
    width = max((sum(map(bool, cells)) for cells in filled), default=0)
    captions: list[str] = []
    while width > 1 and len(filled) > 1 and sum(map(bool, filled[0])) == 1:
        captions.append("".join(filled.pop(0)))
    alone = ["; ".join(filter(None, row)) for row in filled]
    outline.table(_lines(filled) if len(filled) > 1 else alone, captions=captions)


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows below the header as lines that name their columns."""
    header = rows[0]
    for cells in rows[1:]:
        names = [*header, *[""] * (len(cells) - len(header))]
        pairs = [
            f"{name or f'column {column}'}: {cell}"
            for column, (name, cell) in enumerate(zip(names, cells, strict=False), 1)
            if cell
        ]
        line = "; ".join(pairs)
        yield line if line[-1] in ".!?" else f"{line}."
