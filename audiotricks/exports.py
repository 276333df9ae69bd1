"""Lists as CSV that spreadsheets open: streamed, and with nothing in it that they would run."""

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

#: Without it, spreadsheets take UTF-8 for the alphabet of their own country.
BYTE_ORDER_MARK = "\ufeff"
#: What makes a spreadsheet run a cell, in narrow and wide letters, and what it may drop in front of that.
FORMULA = re.compile(r"[\t\r\n\0]|[\s\x00-\x1f\x7f\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def csv_response(filename: str, rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """The rows, the first being the heading, as a file to save. They are taken as fast as the client reads.

    Whoever gives rows out of the database must not hold a connection between them.
    """
    disposition = content_disposition_header(True, filename)
    assert disposition is not None
    return StreamingHttpResponse(
        csv_lines(rows), content_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition}
    )


def csv_lines(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield BYTE_ORDER_MARK
    for row in rows:
        yield writer.writerow([harmless(cell) for cell in row])


def harmless(cell: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front, and is text again.

    So does whatever becomes text when it is written: a row of a table by its name. Numbers stay what they are;
    moments are written in UTC, as spreadsheets read them.
    """
    if cell is None or isinstance(cell, int | float | Decimal):
        return cell
    if isinstance(cell, datetime):
        return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    text = str(cell)
    return f"'{text}" if FORMULA.match(text) else text


class _Echo:
    """What ``csv.writer`` writes a line to; ``writerow`` returns what this returns."""

    def write(self, line: str) -> str:
        return line
