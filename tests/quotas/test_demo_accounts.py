"""The demo's accounts: made in an empty database, and in no other."""

import json
import stat
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from quotas.demo import login_file, prepare_demo
from quotas.models import Membership
from tests.quotas.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_empty_database_gets_them_and_the_login_is_kept(tmp_path: Path) -> None:
    login = prepare_demo(tmp_path)
    assert login is not None
    assert json.loads(login_file(tmp_path).read_text()) == vars(login)
    assert stat.S_IMODE(login_file(tmp_path).stat().st_mode) == 0o600
    admin, user = User.objects.get(username="admin"), User.objects.get(username="demo")
    assert admin.is_superuser and admin.check_password(login.admin_password)
    assert not user.is_staff and user.check_password(login.user_password)
    assert Membership.objects.get(user=user, workspace__slug="demo").role == "owner"


@pytest.mark.parametrize("change", ["renamed", "removed", "switched off"])
def test_an_admin_who_is_gone_does_not_come_back(tmp_path: Path, change: str) -> None:
    prepare_demo(tmp_path)
    admin = User.objects.filter(username="admin")
    if change == "renamed":
        admin.update(username="ruth")
    elif change == "removed":
        admin.delete()
    else:
        admin.update(is_active=False)
    before = list(User.objects.values_list("pk", "username", "password", "is_active"))
    assert prepare_demo(tmp_path) is None
    assert list(User.objects.values_list("pk", "username", "password", "is_active")) == before


def test_where_somebody_has_an_account_nothing_is_made(tmp_path: Path) -> None:
    User.objects.create_user("somebody")
    assert prepare_demo(tmp_path) is None
    assert User.objects.count() == 1 and list(tmp_path.iterdir()) == []


def test_a_new_database_beside_a_kept_login_has_its_passwords(tmp_path: Path) -> None:
    first = prepare_demo(tmp_path)
    User.objects.all().delete()
    second = prepare_demo(tmp_path)
    assert first is not None and second is not None
    assert (first.admin_password, first.user_password) == (second.admin_password, second.user_password)


@pytest.mark.race
def test_of_several_at_once_one_makes_them(tmp_path: Path) -> None:
    outcomes = at_once(*[lambda: prepare_demo(tmp_path)] * 4)
    assert sum(outcome is not None for outcome in outcomes) == 1
    (made,) = [outcome for outcome in outcomes if outcome is not None]
    assert User.objects.count() == 2
    assert json.loads(login_file(tmp_path).read_text()) == vars(made)
