"""A folder of our own in a bucket that others use too (AUDIO_STORAGE_PREFIX)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from django.core.files.base import ContentFile

from objectstore.gcs import rules as gcs_rules
from objectstore.names import PREFIXES
from objectstore.s3 import rules as s3_rules
from tests.object_servers.fixtures import ALIASES, configure
from tests.objectstore.test_remote_contract import send
from tests.objectstore.test_storage_contract import CONTENT, MIB, NAME, OTHER, get, noise
from tests.uploads.test_storage_doctor import doctor_says, outcomes

PREFIX = "shared/vault"
LARGE = noise(6 * MIB)


@pytest.fixture(params=ALIASES)
def storages(request: pytest.FixtureRequest, settings: Any) -> tuple[Any, Any]:
    """The one in a folder, and one that has the same bucket without it."""
    settings.STORAGE_PART_BYTES = 5 * MIB
    server = request.getfixturevalue(f"{request.param}_server")
    inside: Any = configure(settings, server, location=PREFIX)
    options = settings.STORAGES[request.param]["OPTIONS"]
    return inside, type(inside)(**{**options, "location": ""})


def test_everything_lies_in_the_folder_and_nothing_outside_is_seen(storages: tuple[Any, Any]) -> None:
    inside, outside = storages
    outside.save(NAME, ContentFile(b"of others"))
    inside.save(NAME, ContentFile(CONTENT))
    inside.save(OTHER, ContentFile(LARGE))
    inside.copy(NAME, "audio/0b7f/copy.mp3")
    inside.compose([OTHER, NAME], "audio/0b7f/both.mp3")
    names = {NAME, OTHER, "audio/0b7f/copy.mp3", "audio/0b7f/both.mp3"}
    assert {stat.name for stat in inside.list()} == names
    assert {stat.name for stat in inside.list("audio/")} == names | ({OTHER} - names)
    assert {stat.name for stat in outside.list(f"{PREFIX}/")} == {f"{PREFIX}/{name}" for name in names}
    assert [stat.name for prefix in PREFIXES for stat in outside.list(prefix)] == [NAME]
    assert get(inside) == CONTENT
    assert get(inside, "audio/0b7f/both.mp3") == LARGE + CONTENT
    assert inside.stat(NAME).name == NAME
    assert inside.location_of(NAME).endswith(f"/{PREFIX}/{NAME}")
    if (url := inside.signer.sign(NAME, seconds=60)) is not None:
        assert requests.get(url, timeout=30).content == CONTENT
    inside.delete(NAME)
    assert not inside.exists(NAME)
    assert get(outside) == b"of others"
    assert outside.remove_partials(datetime.now(UTC) + timedelta(days=1)) == 0


def test_clients_send_to_the_folder_themselves(storages: tuple[Any, Any]) -> None:
    inside, outside = storages
    direct = inside.direct.begin(NAME, size_bytes=len(LARGE), content_type="audio/wav", metadata=dict, seconds=60)
    send(inside.direct.requests(NAME, direct, size_bytes=len(LARGE), seconds=60), LARGE)
    assert inside.direct.complete(NAME, direct, size_bytes=len(LARGE), metadata=dict).size == len(LARGE)
    assert get(outside, f"{PREFIX}/{NAME}") == LARGE


@pytest.mark.django_db
def test_the_doctor_is_content(storages: tuple[Any, Any]) -> None:
    inside, outside = storages
    said = doctor_says(inside.provider, code=1 if inside.provider == "gcs" else 0)
    # The emulator of Google's; see the tests of the doctor.
    assert set(outcomes(said)) <= {"lifecycle rules", "signed URL", "encryption", "purged for good"}
    assert list(outside.list()) == []


@pytest.mark.parametrize("rules", [s3_rules, gcs_rules])
def test_rules_are_about_the_folder_alone_and_leave_those_of_another_vault(rules: Any) -> None:
    ours, theirs = rules.wanted_rules(f"{PREFIX}/"), rules.wanted_rules("other/")
    alone = rules.wanted_rules()
    plan = rules.plan_for([*alone, *theirs], f"{PREFIX}/")
    assert list(plan.after) == [*alone, *theirs, *ours]
    assert not plan.threats
    assert not rules.plan_for(plan.after, f"{PREFIX}/").changes
    assert not rules.plan_for(plan.after).changes


def test_a_rule_that_reaches_into_the_folder_is_a_threat() -> None:
    def removing(prefix: str) -> dict[str, Any]:
        return {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": 1}}

    for prefix, threatens in (("", True), ("shared/", True), (f"{PREFIX}/audio/", True), ("audio/", False)):
        plan = s3_rules.plan_for([removing(prefix)], f"{PREFIX}/")
        assert bool(plan.threats) is threatens, prefix
