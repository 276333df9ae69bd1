"""Lifecycle rules of an Azure storage account: its management policy.

https://learn.microsoft.com/azure/storage/blobs/lifecycle-management-overview. The policy is one document for all
containers of the account. It belongs to Azure Resource Manager, which takes a credential from azure-identity but no
account key. Uncommitted blocks vanish after a week without a rule.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, HeadersPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest, HttpResponse
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from ..capabilities import LifecycleRules
from ..errors import LifecycleByHand, LifecycleChanged
from ..names import PREFIXES
from ..rules import (
    ARCHIVE_DAYS,
    ARCHIVE_PREFIX,
    COOL_DAYS,
    DEEP_ARCHIVE_DAYS,
    RULE_NAME,
    Effect,
    LifecyclePlan,
    Rule,
    make_plan,
    mean_the_same,
)
from .client import azure_errors

MANAGEMENT_URL = "https://management.azure.com"
API_VERSION = "2023-05-01"
NOT_FOUND = 404
#: A policy's actions on current blobs and the tier of each: https://aka.ms/azlifecycle.
TIERS = {"tierToHot": "Hot", "tierToCool": "Cool", "tierToCold": "Cold", "tierToArchive": "Archive"}
UNREADABLE = "Archive"
AFTER = "daysAfterModificationGreaterThan"


class Account(Protocol):
    account_name: str
    azure_container: str
    folder: str
    subscription_id: str
    resource_group: str

    @property
    def credential(self) -> TokenCredential: ...


def place_of(storage: Account) -> str:
    return f"{storage.azure_container}/{storage.folder}".rstrip("/")


class AzureRules(LifecycleRules):
    def __init__(self, account: Account) -> None:
        self._account = account

    def plan(self) -> LifecyclePlan:
        """See LifecycleRules. Raises LifecycleByHand if subscription or resource group are unknown."""
        with azure_errors("read_rules"):
            return plan_for(fetch_rules(self._account), place_of(self._account))

    def apply(self, plan: LifecyclePlan) -> None:
        """See LifecycleRules. Raises LifecycleChanged if the policy changed since the plan was made."""

        def read(raw: Mapping[str, Any]) -> Rule:
            return read_rule(raw, place_of(self._account))

        with azure_errors("write_rules"):
            now = fetch_rules(self._account)
            if mean_the_same(now, plan.after, read):
                return
            if not mean_the_same(now, plan.before, read):
                raise LifecycleChanged
            ask(self._account, "PUT", {"properties": {"policy": {"rules": list(plan.after)}}}).raise_for_status()


def plan_for(before: Sequence[Mapping[str, Any]], container: str) -> LifecyclePlan:
    return make_plan(before, wanted_rules(container), lambda raw: read_rule(raw, container))


def wanted_rules(container: str) -> list[Mapping[str, Any]]:
    def rule(name: str, prefixes: Sequence[str], **days: int) -> Mapping[str, Any]:
        return {
            "enabled": True,
            "name": name,
            "type": "Lifecycle",
            "definition": {
                "actions": {"baseBlob": {action: {AFTER: number} for action, number in days.items()}},
                "filters": {
                    "blobTypes": ["blockBlob"],
                    "prefixMatch": [f"{container}/{prefix}" for prefix in prefixes],
                },
            },
        }

    cool, archive = our_names(container)
    return [
        rule(cool, PREFIXES, tierToCool=COOL_DAYS),
        rule(archive, [ARCHIVE_PREFIX], tierToCold=ARCHIVE_DAYS, tierToArchive=DEEP_ARCHIVE_DAYS),
    ]


def our_names(container: str) -> tuple[str, str]:
    """Unique in the account, where other containers may be vaults too."""
    plain = container.replace("/", "-")
    return f"{RULE_NAME}-cool-{plain}", f"{RULE_NAME}-archive-{plain}"


def read_rule(raw: Mapping[str, Any], container: str) -> Rule:
    definition = raw.get("definition", {})
    filters = definition.get("filters") or {}
    # Our objects have no index tags.
    applies = raw.get("enabled", True) and not filters.get("blobIndexMatch")
    return Rule(
        name=raw["name"],
        is_ours=raw["name"] in our_names(container),
        prefixes=prefixes_in(container, filters.get("prefixMatch") or [""]),
        effects=effects_of(definition.get("actions", {}).get("baseBlob") or {}) if applies else [],
        raw=raw,
        meaning=without_empty(raw),
    )


def prefixes_in(container: str, prefixes: Sequence[str]) -> list[str]:
    """Prefixes in this container, without its name."""
    whole = f"{container}/"
    inside = [prefix.removeprefix(whole) for prefix in prefixes if prefix.startswith(whole)]
    return inside + ["" for prefix in prefixes if whole.startswith(prefix) and prefix != whole]


def effects_of(actions: Mapping[str, Any]) -> list[Effect]:
    effects = [
        Effect("move", (actions[action] or {}).get(AFTER), tier, readable=tier != UNREADABLE)
        for action, tier in TIERS.items()
        if action in actions
    ]
    if delete := actions.get("delete"):
        effects.append(Effect("remove", delete.get(AFTER)))
    return effects


def without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: without_empty(item) for key, item in value.items() if item not in (None, [], {})}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    return value


def by_hand(storage: Account) -> LifecycleByHand:
    return LifecycleByHand(
        _(
            "The rules of an Azure account are written by Azure's management: set AZURE_SUBSCRIPTION_ID and "
            "AZURE_RESOURCE_GROUP."
        ),
        rules=wanted_rules(place_of(storage)),
        command=(
            f"az storage account management-policy create --account-name {storage.account_name} "
            "--resource-group RESOURCE_GROUP --policy @policy.json"
        ),
    )


def fetch_rules(storage: Account) -> list[Mapping[str, Any]]:
    response = ask(storage, "GET")
    # A missing account, group or subscription has the same status, with another code.
    if response.status_code == NOT_FOUND and error_code(response) == "ManagementPolicyNotFound":
        return []
    response.raise_for_status()
    rules: list[Mapping[str, Any]] = response.json()["properties"]["policy"]["rules"]
    return rules


def error_code(response: HttpResponse) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def ask(storage: Account, method: str, body: Mapping[str, Any] | None = None) -> HttpResponse:
    if not (storage.subscription_id and storage.resource_group):
        raise by_hand(storage)
    path = (
        f"/subscriptions/{quote(storage.subscription_id)}/resourceGroups/{quote(storage.resource_group)}"
        f"/providers/Microsoft.Storage/storageAccounts/{quote(storage.account_name)}/managementPolicies/default"
    )
    request = HttpRequest(method, MANAGEMENT_URL + path, params={"api-version": API_VERSION}, json=body)
    timeout = settings.STORAGE_TIMEOUT_SECONDS
    policies = [
        HeadersPolicy(),
        UserAgentPolicy(),
        BearerTokenCredentialPolicy(storage.credential, f"{MANAGEMENT_URL}/.default"),
    ]
    with PipelineClient[Any, Any](MANAGEMENT_URL, policies=policies) as client:
        response: HttpResponse = client.send_request(request, connection_timeout=timeout, read_timeout=timeout)
        response.read()
    return response
