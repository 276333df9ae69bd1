"""Look-ups that ignore case do so for every letter, on SQLite as on PostgreSQL."""

import pytest
from django.db import connection
from django.db.utils import ConnectionHandler

MATCHES = [
    ("Tonstudio Süd", "%SÜD%", True),
    ("ÅNGSTRÖM", "ångström", True),
    ("ŽLUŤOUČKÝ", "%žluťoučký%", True),
    ("Tonstudio Süd", "%Nord%", False),
    ("100% Süd", "100\\% SÜD", True),
    ("100 x Süd", "100\\% SÜD", False),
    ("a_b", "%A\\_B%", True),
    ("axb", "%a\\_b%", False),
    ("back\\slash", "%BACK\\\\slash%", True),
    ("two\nlines", "%TWO%lines%", True),
    ("[a].*", "%[A].*%", True),
    ("ab", "[A].*", False),
    (None, "%", None),
]


@pytest.mark.django_db
@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
@pytest.mark.parametrize(("text", "pattern", "expected"), MATCHES)
def test_the_case_of_letters_beyond_ascii_is_ignored(
    vendor: str, text: str | None, pattern: str, expected: bool | None
) -> None:
    sqlite = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})["default"]
    used = sqlite if vendor == "sqlite" else connection
    left = "UPPER(%s)" if vendor == "postgresql" else "%s"
    with used.cursor() as cursor:
        cursor.execute(f"SELECT {left} {used.operators['icontains']}", [text, pattern])
        (found,) = cursor.fetchone()
    assert found == expected
    sqlite.close()
