"""What HTTPS_ONLY promises to browsers."""

import json
import sys

import pytest

from tests.running.programs import environment, ran


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0, False, False]),
        ({"HTTPS_ONLY": "true"}, [31_536_000, False, False]),
        ({"HTTPS_ONLY": "true", "HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_PRELOAD": "true"}, [31_536_000, True, True]),
    ],
)
def test_other_hosts_and_preload_lists_are_asked_for_by_name(
    given: dict[str, str], expected: list[object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = (
        "import json, audiotricks.settings as s; "
        "print(json.dumps([s.SECURE_HSTS_SECONDS, s.SECURE_HSTS_INCLUDE_SUBDOMAINS, s.SECURE_HSTS_PRELOAD]))"
    )
    env = environment(VAR_DIR=str(tmp_path_factory.mktemp("https")), **given)
    read = ran([sys.executable, "-c", code], env)
    assert json.loads(read.stdout) == expected, read.stderr
