"""The rules by which providers move objects themselves: what ours are, that others' stay, what the command says."""

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.core.management import CommandError

from objectstore.base import AudioStorage
from objectstore.errors import CredentialsRefused, LifecycleChanged, LifecycleUnsupported
from objectstore.gcs import rules as gcs_rules
from objectstore.rules import mean_the_same, unfinished_days
from objectstore.s3 import rules as s3_rules
from objectstore.s3.requests import Bucket
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.moto import running_moto
from tests.object_servers.providers import SWIFT, running_as
from tests.uploads.configuring import run

# Amazon S3

S3_FOREIGN: list[dict[str, Any]] = [
    {
        "ID": "their logs",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "keep", "Value": "no"}]}},
        "Expiration": {"Days": 10},
    },
    {
        "ID": "their versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 3},
    },
]


@pytest.fixture(scope="module")
def moto() -> Iterator[ObjectServer]:
    with running_moto() as server:
        yield server


@pytest.fixture
def s3(settings: Any, moto: ObjectServer) -> AudioStorage:
    return configure(settings, moto)


def s3_now(storage: Any) -> list[dict[str, Any]]:
    return storage.requests.client.get_bucket_lifecycle_configuration(Bucket=storage.bucket_name)["Rules"]


def put_s3(storage: Any, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns them as the server has them."""
    storage.requests.client.put_bucket_lifecycle_configuration(
        Bucket=storage.bucket_name, LifecycleConfiguration={"Rules": rules}
    )
    return s3_now(storage)


def test_s3_gets_our_rules_and_keeps_those_of_others(s3: AudioStorage) -> None:
    others = put_s3(s3, S3_FOREIGN)
    said, complaints = run(storage="s3")
    assert complaints == ""
    now = s3_now(s3)
    assert now[:2] == others
    assert {rule["ID"]: rule.get("Transitions") for rule in now[2:]} == {
        "AudioTricksLifecycle": None,
        "AudioTricksLifecycle-audio": [{"Days": 30, "StorageClass": "STANDARD_IA"}],
        "AudioTricksLifecycle-uploads": [{"Days": 30, "StorageClass": "STANDARD_IA"}],
        "AudioTricksLifecycle-archive": [
            {"Days": 90, "StorageClass": "GLACIER"},
            {"Days": 365, "StorageClass": "DEEP_ARCHIVE"},
        ],
    }
    assert {rule["ID"]: rule["Filter"]["Prefix"] for rule in now[2:]} == {
        "AudioTricksLifecycle": "",
        "AudioTricksLifecycle-audio": "audio/",
        "AudioTricksLifecycle-uploads": "uploads/",
        "AudioTricksLifecycle-archive": "archive/",
    }
    assert now[2]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 8}
    assert "s3: + AudioTricksLifecycle-archive (archive/): to GLACIER after 90 days; to DEEP_ARCHIVE after 365" in said
    assert "s3: + AudioTricksLifecycle (everywhere): removes unfinished parts after 8 days" in said
    assert "s3: 2 rules of others stay as they are." in said
    assert "s3: the rules are in place." in said


def test_a_second_run_finds_nothing_to_do(s3: AudioStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    put_s3(s3, S3_FOREIGN)
    run(storage="s3")
    monkeypatch.setattr(s3.rules, "apply", lambda *args: pytest.fail("written"))
    said, _ = run(storage="s3")
    assert "nothing to do" in said
    assert "+" not in said and "- " not in said


def test_a_dry_run_says_the_same_and_changes_nothing(s3: AudioStorage) -> None:
    others = put_s3(s3, S3_FOREIGN)
    said, _ = run(storage="s3", dry_run=True)
    assert said.count("s3: + AudioTricksLifecycle") == 4
    assert "dry run" in said
    assert s3_now(s3) == others


def test_old_rules_of_ours_are_replaced_where_they_stand(s3: AudioStorage) -> None:
    old = [
        {**S3_FOREIGN[0]},
        {
            "ID": "AudioTricksLifecycle-audio",
            "Status": "Enabled",
            "Filter": {"Prefix": "audio/"},
            "Transitions": [{"Days": 60, "StorageClass": "GLACIER"}],
        },
        {
            "ID": "AudioTricksLifecycle-once",
            "Status": "Enabled",
            "Filter": {"Prefix": "once/"},
            "Expiration": {"Days": 1},
        },
        {**S3_FOREIGN[1]},
    ]
    before = put_s3(s3, old)
    said, complaints = run(storage="s3")
    now = s3_now(s3)
    assert [rule["ID"] for rule in now[:3]] == ["their logs", "AudioTricksLifecycle-audio", "their versions"]
    assert [now[0], now[2]] == [before[0], before[3]]
    assert now[1]["Transitions"] == [{"Days": 30, "StorageClass": "STANDARD_IA"}]
    assert "s3: - AudioTricksLifecycle-audio (audio/): to GLACIER after 60 days" in said
    assert "s3: + AudioTricksLifecycle-audio (audio/): to STANDARD_IA after 30 days" in said
    assert "s3: - AudioTricksLifecycle-once (once/): removes objects after 1 day" in said
    assert complaints == ""


def test_beside_rules_of_the_older_form_ours_have_it_too(s3: AudioStorage) -> None:
    """S3 refuses a set in which some rules have ``Prefix`` and others ``Filter``."""
    put_s3(s3, [{"ID": "old", "Status": "Enabled", "Prefix": "tmp/", "Expiration": {"Days": 1}}])
    run(storage="s3")
    assert all("Prefix" in rule and "Filter" not in rule for rule in s3_now(s3))
    assert "nothing to do" in run(storage="s3")[0]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, "removes objects after 30 days"),
        ({"Filter": {"Prefix": "aud"}, "Expiration": {"Date": "2030-01-01T00:00:00Z"}}, "removes objects"),
        ({"Filter": {"Prefix": "archive/"}, "Expiration": {"Days": 9}}, "removes objects after 9 days"),
        (
            {"Filter": {"Prefix": "audio/0"}, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]},
            "to GLACIER after 1 day",
        ),
    ],
)
def test_rules_of_others_that_take_files_away_are_told_loudly(
    s3: AudioStorage, rule: dict[str, Any], words: str
) -> None:
    others = put_s3(s3, [{"ID": "tidy up", "Status": "Enabled", **rule}])
    for options, code in (({"dry_run": True}, 0), ({}, 1)):
        _, complaints = run(storage="s3", code=code, **options)
        assert "DANGER" in complaints
        assert "tidy up" in complaints and words in complaints
    assert s3_now(s3)[0] == others[0]


@pytest.mark.parametrize(
    "rule",
    [
        {"Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}},
        {"Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}},
        {"Status": "Enabled", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 30}},
        {"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
        {
            "Status": "Enabled",
            "Filter": {"Prefix": "archive/"},
            "Transitions": [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}],
        },
        {
            "Status": "Enabled",
            "Filter": {"Prefix": "audio/"},
            "Transitions": [{"Days": 1, "StorageClass": "GLACIER_IR"}],
        },
    ],
)
def test_rules_of_others_that_do_no_harm_are_not_complained_about(s3: AudioStorage, rule: dict[str, Any]) -> None:
    put_s3(s3, [{"ID": "theirs", **rule}])
    assert run(storage="s3")[1] == ""


def test_rules_that_somebody_changes_meanwhile_are_not_written_over(s3: AudioStorage) -> None:
    plan = s3.rules.plan()
    assert plan is not None
    others = put_s3(s3, S3_FOREIGN)
    with pytest.raises(LifecycleChanged):
        s3.rules.apply(plan)
    assert s3_now(s3) == others


def test_a_plan_whose_answer_was_lost_can_be_applied_again(s3: AudioStorage) -> None:
    plan = s3.rules.plan()
    assert plan is not None
    s3.rules.apply(plan)
    written = s3_now(s3)
    s3.rules.apply(plan)
    assert s3_now(s3) == written


def test_the_limit_of_size_that_an_operator_chose_stays() -> None:
    asked: dict[str, Any] = {}

    class Client:
        def get_bucket_lifecycle_configuration(self, Bucket: str) -> Mapping[str, Any]:
            return {"Rules": [], "TransitionDefaultMinimumObjectSize": "varies_by_storage_class"}

        def put_bucket_lifecycle_configuration(self, **parameters: Any) -> None:
            asked.update(parameters)

    rules = s3_rules.S3Rules(Bucket("bucket", "", Client))
    rules.apply(rules.plan())
    assert asked["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
    assert len(asked["LifecycleConfiguration"]["Rules"]) == 4


def test_a_server_that_moves_nothing_by_itself_says_so(settings: Any, s3_server: ObjectServer) -> None:
    """SeaweedFS knows rules that expire objects, and none that move them."""
    storage = configure(settings, s3_server)
    _, complaints = run(storage="s3", code=1)
    assert "does not move objects between classes by itself" in complaints
    plan = storage.rules.plan()
    assert plan is not None and list(plan.before) == []
    with pytest.raises(LifecycleUnsupported):
        storage.rules.apply(plan)


def test_any_other_refusal_comes_out_as_it_is() -> None:
    class Client:
        def get_bucket_lifecycle_configuration(self, Bucket: str) -> Mapping[str, Any]:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetBucketLifecycleConfiguration")

    with pytest.raises(CredentialsRefused):
        s3_rules.S3Rules(Bucket("bucket", "", Client)).plan()


def test_parts_are_kept_as_long_as_a_client_may_send(settings: Any) -> None:
    settings.DIRECT_UPLOAD_SECONDS, settings.ORPHAN_GRACE_HOURS = 86_400, 24
    assert unfinished_days() == 8
    settings.DIRECT_UPLOAD_SECONDS = 604_800
    assert unfinished_days() == 9


# Google Cloud Storage

GCS_FOREIGN: list[dict[str, Any]] = [
    {"action": {"type": "Delete"}, "condition": {"age": 5, "matchesPrefix": ["logs/"]}},
    {"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 9, "isLive": True}},
    {"action": {"type": "SomethingNew"}, "condition": {"numNewerVersions": 3}},
]


def gcs_put(storage: Any, rules: list[dict[str, Any]]) -> None:
    bucket = storage.google_bucket
    bucket.reload()
    bucket._patch_property("lifecycle", {"rule": rules})
    bucket.patch()


def gcs_now(storage: Any) -> Any:
    bucket = storage.google_bucket
    bucket.reload()
    return gcs_rules.rules_of(bucket)


def test_google_gets_our_rules_and_keeps_those_of_others(settings: Any, gcs_server: ObjectServer) -> None:
    storage: Any = configure(settings, gcs_server)
    old = {
        "action": {"type": "SetStorageClass", "storageClass": "COLDLINE"},
        "condition": {"age": 10, "matchesPrefix": ["archive/"]},
    }
    gcs_put(storage, [*GCS_FOREIGN, old])
    said, complaints = run(storage="gcs")
    assert complaints == ""
    now = gcs_now(storage)
    assert now[:3] == GCS_FOREIGN
    assert sorted(map(json.dumps, now[3:])) == sorted(map(json.dumps, gcs_rules.wanted_rules()))
    assert [rule["condition"] for rule in gcs_rules.wanted_rules()] == [
        {"age": 8},
        {"age": 30, "matchesPrefix": ["audio/", "uploads/"]},
        {"age": 90, "matchesPrefix": ["archive/"]},
        {"age": 365, "matchesPrefix": ["archive/"]},
    ]
    assert "gcs: - SetStorageClass COLDLINE archive/ (archive/): to COLDLINE after 10 days" in said
    assert "gcs: + SetStorageClass COLDLINE archive/ (archive/): to COLDLINE after 90 days" in said
    assert "nothing to do" in run(storage="gcs")[0]


def test_google_refuses_rules_that_somebody_changed_meanwhile(settings: Any, gcs_server: ObjectServer) -> None:
    storage: Any = configure(settings, gcs_server)
    plan = storage.rules.plan()
    gcs_put(storage, GCS_FOREIGN)
    with pytest.raises(LifecycleChanged):
        storage.rules.apply(plan)
    assert gcs_now(storage) == GCS_FOREIGN


def test_google_is_asked_to_write_only_over_what_was_read() -> None:
    """The emulator does not know this condition."""
    asked: dict[str, Any] = {}
    bucket = SimpleNamespace(
        _properties={}, metageneration=41, reload=lambda: None, patch=lambda **options: asked.update(options)
    )
    storage: Any = SimpleNamespace(
        google_bucket=bucket, folder="", ask=lambda action, name, call, missing, **options: call(**options)
    )
    rules = gcs_rules.GCSRules(storage)
    rules.apply(rules.plan())
    assert asked == {"if_metageneration_match": 41}
    assert bucket.lifecycle_rules == gcs_rules.wanted_rules()


@pytest.mark.parametrize(
    ("condition", "is_danger"),
    [
        ({"age": 5}, True),
        ({"age": 5, "matchesPrefix": ["logs/", "uploads/1/"]}, True),
        ({"createdBefore": "2020-01-01"}, True),
        ({"age": 5, "matchesPrefix": ["logs/"]}, False),
        ({"age": 5, "isLive": False}, False),
        ({"daysSinceCustomTime": 5}, False),
    ],
)
def test_what_deletes_on_google_is_told(condition: dict[str, Any], is_danger: bool) -> None:
    rule = {"action": {"type": "Delete"}, "condition": condition}
    plan = gcs_rules.plan_for([rule])
    assert bool(plan.threats) is is_danger
    assert plan.after[0] == rule


# All of them


def test_a_folder_has_no_rules_and_needs_none() -> None:
    assert run() == ("local: has no rules of this kind.\n", "")


def test_a_storage_that_nobody_set_up_is_wrong_usage() -> None:
    with pytest.raises(CommandError) as refused:
        run(storage="s3")
    assert refused.value.returncode == 2


# Other servers


def test_rules_that_come_back_in_another_order_are_the_same() -> None:
    """Ceph keeps rules and their transitions in maps, and gives them back sorted."""
    ours = s3_rules.wanted_rules()
    back = [
        {**rule, **({"Transitions": rule["Transitions"][::-1]} if "Transitions" in rule else {})} for rule in ours[::-1]
    ]
    assert not s3_rules.plan_for(back).changes
    assert mean_the_same(back, ours, s3_rules.read_rule)
    assert not mean_the_same(back[1:], ours, s3_rules.read_rule)


def test_a_server_that_knows_no_rules_at_all_says_so(settings: Any, s3_server: ObjectServer) -> None:
    """Swift answers 501 to the question already."""
    with running_as(SWIFT, s3_server) as (server, _proxy):
        storage = configure(settings, server, encryption="none")
        with pytest.raises(LifecycleUnsupported):
            storage.rules.plan()
