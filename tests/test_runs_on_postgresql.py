import pytest
from django.db import connection


@pytest.mark.django_db
def test_the_suite_runs_on_postgresql_as_production_does() -> None:
    assert connection.vendor == "postgresql"
