"""The rules of an Azure account: its manager cannot run here, so a server of ours answers as it does."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from django.core.files.storage import storages

from objectstore.azure import rules as azure_rules
from objectstore.base import AudioStorage
from objectstore.errors import LifecycleByHand, LifecycleChanged
from objectstore.rules import LifecyclePlan
from tests.uploads.configuring import run


class Manager(BaseHTTPRequestHandler):
    """What Azure Resource Manager has of a storage account: one policy, or none. It cannot run here."""

    policy: dict[str, Any] | None
    seen: list[tuple[str, str, str | None]]

    def do_GET(self) -> None:
        self.note()
        if self.policy is None:
            self.answer(404, {"error": {"code": "ManagementPolicyNotFound", "message": "none"}})
        else:
            self.answer(200, {"id": "…", "name": "DefaultManagementPolicy", "properties": {"policy": self.policy}})

    def do_PUT(self) -> None:
        self.note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).policy = body["properties"]["policy"]
        self.answer(200, body)

    def note(self) -> None:
        self.seen.append((self.command, self.path, self.headers.get("Authorization")))

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


class Unencrypted(BearerTokenCredentialPolicy[Any, Any]):
    """Sends its token over plain HTTP, as this server has it."""

    def on_request(self, request: Any) -> None:
        request.context["enforce_https"] = False
        super().on_request(request)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Manager]]:
    handler = type("Handler", (Manager,), {"policy": None, "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(azure_rules, "MANAGEMENT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(azure_rules, "BearerTokenCredentialPolicy", Unencrypted)
        yield handler
        server.shutdown()
        thread.join()


class Credential:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        assert scopes == (f"{azure_rules.MANAGEMENT_URL}/.default",)
        return AccessToken("a-token", 4_000_000_000)


@pytest.fixture
def azure(settings: Any) -> AudioStorage:
    options = {
        "account_name": "vault",
        "account_key": "a2V5",
        "azure_container": "recordings",
        "token_credential": Credential(),
        "subscription_id": "sub 1",
        "resource_group": "group",
    }
    settings.STORAGES = {
        **settings.STORAGES,
        "azure": {"BACKEND": "objectstore.azure.AzureStorage", "OPTIONS": options},
    }
    storage = storages["azure"]
    assert isinstance(storage, AudioStorage)
    return storage


def azure_rule(name: str, prefixes: list[str], **actions: Any) -> dict[str, Any]:
    filters = {"blobTypes": ["blockBlob"], **({"prefixMatch": prefixes} if prefixes else {})}
    definition = {"actions": {"baseBlob": actions}, "filters": filters}
    return {"enabled": True, "name": name, "type": "Lifecycle", "definition": definition}


AZURE_FOREIGN = azure_rule("theirs", ["logs/"], delete={"daysAfterModificationGreaterThan": 7})


@pytest.mark.usefixtures("azure")
def test_an_azure_account_gets_our_rules_through_its_manager(manager: type[Manager]) -> None:
    said, complaints = run(storage="azure")
    assert complaints == ""
    assert manager.policy == {"rules": azure_rules.wanted_rules("recordings")}
    path = (
        "/subscriptions/sub%201/resourceGroups/group/providers/Microsoft.Storage/storageAccounts/vault"
        "/managementPolicies/default?api-version=2023-05-01"
    )
    assert manager.seen == [(verb, path, "Bearer a-token") for verb in ("GET", "GET", "PUT")]
    assert "azure: + AudioTricksLifecycle-cool-recordings (audio/, uploads/): to Cool after 30 days" in said
    assert (
        "azure: + AudioTricksLifecycle-archive-recordings (archive/): to Cold after 90 days; to Archive after 365 days"
        in said
    )
    assert "nothing to do" in run(storage="azure")[0]


@pytest.mark.usefixtures("azure")
def test_other_rules_of_the_account_stay_also_those_of_another_vault(manager: type[Manager]) -> None:
    others = [AZURE_FOREIGN, *azure_rules.wanted_rules("another-vault")]
    old = azure_rule("AudioTricksLifecycle-cool-recordings", [], tierToCool={"daysAfterModificationGreaterThan": 90})
    manager.policy = {"rules": [*others, old]}
    said, complaints = run(storage="azure")
    assert complaints == ""
    assert manager.policy["rules"][:3] == others
    assert manager.policy["rules"][3:] == azure_rules.wanted_rules("recordings")
    assert "azure: - AudioTricksLifecycle-cool-recordings (everywhere): to Cool after 90 days" in said
    assert "3 rules of others" in said


@pytest.mark.usefixtures("azure")
def test_what_azure_adds_to_a_rule_is_no_difference(manager: type[Manager]) -> None:
    rules = json.loads(json.dumps(azure_rules.wanted_rules("recordings")))
    rules[0]["definition"]["actions"]["baseBlob"]["delete"] = None
    rules[0]["definition"]["filters"]["blobIndexMatch"] = []
    manager.policy = {"rules": rules}
    assert "nothing to do" in run(storage="azure")[0]


@pytest.mark.parametrize(
    ("prefixes", "actions", "is_danger"),
    [
        ([], {"delete": {"daysAfterModificationGreaterThan": 7}}, True),
        (["rec"], {"delete": {"daysAfterLastAccessTimeGreaterThan": 7}}, True),
        (["recordings/audio/1"], {"tierToArchive": {"daysAfterModificationGreaterThan": 7}}, True),
        (["recordings/archive/"], {"tierToArchive": {"daysAfterModificationGreaterThan": 7}}, False),
        (["recordings/"], {"tierToCold": {"daysAfterModificationGreaterThan": 7}}, False),
        (["recordings-of-others/"], {"delete": {"daysAfterModificationGreaterThan": 7}}, False),
        (["others/", "recordings/logs"], {"delete": {"daysAfterModificationGreaterThan": 7}}, False),
    ],
)
def test_what_takes_files_away_on_azure_is_told(prefixes: list[str], actions: dict[str, Any], is_danger: bool) -> None:
    plan = azure_rules.plan_for([azure_rule("theirs", prefixes, **actions)], "recordings")
    assert bool(plan.threats) is is_danger


def test_an_account_that_is_not_there_is_no_account_without_rules(
    manager: type[Manager], azure: AudioStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        manager, "do_GET", lambda self: self.answer(404, {"error": {"code": "ResourceNotFound", "message": "?"}})
    )
    _, complaints = run(storage="azure", code=1)
    assert complaints.startswith("azure: ")


def test_azure_refuses_rules_that_somebody_changed_meanwhile(manager: type[Manager], azure: AudioStorage) -> None:
    plan = azure.rules.plan()
    assert isinstance(plan, LifecyclePlan)
    manager.policy = {"rules": [AZURE_FOREIGN]}
    with pytest.raises(LifecycleChanged):
        azure.rules.apply(plan)
    assert manager.policy == {"rules": [AZURE_FOREIGN]}


def test_without_an_azure_subscription_the_rules_are_printed_for_a_person(settings: Any, azure: Any) -> None:
    azure.subscription_id = ""
    with pytest.raises(LifecycleByHand):
        azure.rules.plan()
    said, complaints = run(storage="azure", code=1)
    assert "AZURE_SUBSCRIPTION_ID" in complaints and "AZURE_RESOURCE_GROUP" in complaints
    assert "replaces all of it" in complaints
    policy, _, command = said.rpartition("\naz ")
    assert json.loads(policy) == {"rules": azure_rules.wanted_rules("recordings")}
    assert command.startswith("storage account management-policy create --account-name vault")
    run(storage="azure", dry_run=True)
