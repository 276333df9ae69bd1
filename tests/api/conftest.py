from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache

from quotas.models import Membership, Workspace
from tests.factories import UserFactory, WorkspaceFactory, auditor, member_of, operator

ROLES = ("stranger", "viewer", "editor", "owner", "staff", "auditor", "operator", "superuser")


@pytest.fixture(autouse=True)
def fresh_throttles() -> None:
    cache.clear()


@pytest.fixture
def workspace(db: None) -> Workspace:
    made: Workspace = WorkspaceFactory()
    return made


@pytest.fixture
def person(workspace: Workspace) -> Callable[[str], Any]:
    """Makes somebody who stands to the workspace as one of ROLES says."""

    def make(role: str) -> Any:
        if role == "staff":
            return UserFactory(is_staff=True)
        if role == "auditor":
            return auditor()
        if role == "operator":
            return operator()
        if role == "superuser":
            return UserFactory(is_staff=True, is_superuser=True)
        if role == "stranger":
            return UserFactory()
        return member_of(workspace, Membership.Role(role))

    return make
