"""Streamed CSV, with formulas neutralised."""

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.http import StreamingHttpResponse

from audiotricks.web.disposition import content_disposition

#: Without it, spreadsheets read UTF-8 in a local encoding.
BYTE_ORDER_MARK = "\ufeff"
#: The beginnings of a formula, narrow and wide, after characters that a spreadsheet drops.
FORMULA = r"[\s\x00-\x1f\x7f\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]"
RUNS_AS_FORMULA = re.compile(rf"[\t\r\n\0]|{FORMULA}")
#: A spreadsheet that splits at ``;`` or tabs ignores all quotes but those of a line's first field.
BEGINS_A_CELL_ELSEWHERE = re.compile(rf"(?<=[;\t\r\n])(?={FORMULA})")


def csv_response(filename: str, rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """``rows``, the heading first, must not hold a database connection between two rows."""
    disposition = content_disposition(filename, as_attachment=True)
    return StreamingHttpResponse(
        csv_lines(rows), content_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition}
    )


def csv_lines(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)
    yield BYTE_ORDER_MARK
    for row in rows:
        yield writer.writerow([harmless(cell) for cell in row])


def harmless(cell: Any) -> Any:
    """With an apostrophe before a formula. Numbers stay; times become UTC text."""
    if cell is None or isinstance(cell, int | float | Decimal):
        return cell
    if isinstance(cell, datetime):
        return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    text = BEGINS_A_CELL_ELSEWHERE.sub("'", str(cell))
    return f"'{text}" if RUNS_AS_FORMULA.match(text) else text


class _Echo:
    """A file whose ``write`` returns the line, for ``csv.writer``."""

    def write(self, line: str) -> str:
        return line
