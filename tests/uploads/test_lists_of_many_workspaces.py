"""Lists over several workspaces: the right rows, and no walk through everybody's files to find them."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.api.rows import many_uploads
from tests.factories import MembershipFactory, UserFactory, client_for
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db


def rows_read(plan: dict[str, Any]) -> int:
    """How many rows of audio_uploads a plan touched, those that it threw away included."""
    own = 0
    if plan.get("Relation Name") == "audio_uploads":
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return round(own) + sum(rows_read(part) for part in plan.get("Plans", []))


def test_pages_over_three_workspaces_hold_each_file_once_newest_first() -> None:
    user = UserFactory()
    now = timezone.now()
    expected = []
    for number in range(3):
        workspace = MembershipFactory(user=user).workspace
        for age in range(5):
            # Some share their time, so that the id decides.
            moment = now - timedelta(minutes=age * (number % 2))
            expected += many_uploads(workspace, 1, uploaded_at=moment)
            many_uploads(MembershipFactory().workspace, 1, uploaded_at=moment)
        many_uploads(workspace, 2, status=Status.DELETED)
    client = client_for(user)

    page = client.get("/api/v1/uploads/", {"page_size": 4}).json()
    seen = [row["id"] for row in page["results"]]
    while page["next"]:
        page = client.get(page["next"]).json()
        seen += [row["id"] for row in page["results"]]
    back = [row["id"] for row in page["results"]]
    while page["previous"]:
        page = client.get(page["previous"]).json()
        back = [row["id"] for row in page["results"]] + back

    expected.sort(key=lambda upload: (upload.uploaded_at, upload.pk), reverse=True)
    assert seen == [str(upload.pk) for upload in expected]
    assert back == seen


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.DELETED])
def test_a_few_old_files_are_found_without_walking_the_newer_ones_of_others(status: Status) -> None:
    user = UserFactory()
    now = timezone.now()
    for number in range(3):
        workspace = MembershipFactory(user=user).workspace
        many_uploads(workspace, 20, status=status, uploaded_at=now - timedelta(days=100 + number))
    many_uploads(MembershipFactory().workspace, 5000, status=status, uploaded_at=now)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    found = AudioUpload.objects.visible_to(user).filter(status=status).order_by("-uploaded_at", "-id")

    plan = json.loads(found.first_for(user, 51).explain(analyze=True, format="json"))[0]["Plan"]

    assert len(found.first_for(user, 51)) == 51
    assert rows_read(plan) <= 2 * 3 * 51
