import json
import re
import sys
from pathlib import Path

import yaml

from tests.running.programs import ROOT, environment, names_in_settings, ran

# What a first reader needs; the rest stands in .env.example.
MAIN = {
    "SECRET_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "ALLOWED_HOSTS",
    "PORT",
    "AUDIO_STORAGE",
    "AUDIO_STORAGE_PATH",
    "AUDIO_STORAGE_LAYOUT",
    "DEFAULT_MAX_STORAGE_BYTES",
    "TRASH_DAYS",
    "HTTPS_ONLY",
    "BEHIND_PROXY",
    "WEB_WORKERS",
    "WEB_THREADS",
    "LOG_LEVEL",
    "LOG_FORMAT",
}
ONLY_COMPOSE = {"MEMORY_LIMIT", "POSTGRES_PASSWORD", "PUBLISH", "REDIS_PASSWORD"}
# In a container these follow from the image and the volumes, or are for `make run` alone.
FIXED_BY_THE_IMAGE = {"DEBUG", "TEMP_AUDIO_DIR", "CELERY_BROKER_URL", "DEMO_ACCOUNTS"}


def names_in_example() -> list[str]:
    return re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_every_setting_stands_in_the_example_once_and_nothing_else_does() -> None:
    listed = names_in_example()
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == names_in_settings() | ONLY_COMPOSE


def test_the_defaults_of_the_example_are_those_of_the_settings(tmp_path: Path) -> None:
    """All of it, taken as it stands, gives the settings that no variable at all gives."""
    code = (
        "import json, audiotricks.settings as s; "
        "print(json.dumps({k: str(v) for k, v in vars(s).items() if k.isupper() and k != 'SECRET_KEY'}))"
    )
    lines = re.findall(r"^# ([A-Z][A-Z0-9_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    common = {"VAR_DIR": str(tmp_path), "SECRET_KEY": "x", "LOG_FORMAT": "json"}
    example = {name: value.replace("var/", f"{tmp_path}/") for name, value in lines if value and "://" not in value}
    bare = ran([sys.executable, "-c", code], environment(**common))
    full = ran([sys.executable, "-c", code], environment(**{**example, **common}))
    assert bare.returncode == full.returncode == 0, full.stderr
    assert json.loads(full.stdout) == json.loads(bare.stdout)


def test_the_readme_shows_the_main_settings_and_none_that_does_not_exist() -> None:
    shown = set(re.findall(r"^\| `([A-Z][A-Z0-9_]*)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown >= MAIN
    assert shown <= names_in_settings()


def test_compose_passes_every_setting_on() -> None:
    environment = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["web"]["environment"]
    assert set(environment) == names_in_settings() - FIXED_BY_THE_IMAGE
