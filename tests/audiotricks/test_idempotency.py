import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from rest_framework.test import APIClient

from audiotricks.api import idempotency
from audiotricks.api.idempotency import (
    IdempotencyInProgress,
    IdempotencyLeaseLost,
    IdempotencyMismatch,
    fingerprint,
    take_key,
)
from audiotricks.models import EncryptionKey, IdempotencyKey
from tests.factories import UserFactory
from tests.servers import wait_until

MARK = "f" * 64


def make(client: APIClient, name: str, key: str | None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/api/v1/make/", {"name": name}, format="json", headers=headers)


def made() -> list[str]:
    return sorted(EncryptionKey.objects.values_list("key_reference", flat=True))


def expire(**which: Any) -> None:
    assert IdempotencyKey.objects.filter(**which).update(expires_at=Now() - timedelta(seconds=1)) == 1


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run the work in threads that begin together; what each returned or raised."""
    barrier = threading.Barrier(count)
    outcomes: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = work(number)
        except Exception as error:
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_the_same_request_again_gets_the_same_answer_and_makes_nothing(api: APIClient) -> None:
    """Promise 29. The same status, body and Location, and a mark that it is the first answer again."""
    first, second = make(api, "one", "k"), make(api, "one", "k")
    assert (first.status_code, first.json(), first["Location"]) == (201, {"name": "one"}, "/one")
    assert (second.status_code, second.json(), second["Location"]) == (201, {"name": "one"}, "/one")
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert made() == ["one"]


def test_without_a_key_each_request_is_its_own(api: APIClient) -> None:
    make(api, "one", None)
    make(api, "two", None)
    assert made() == ["one", "two"]
    assert not IdempotencyKey.objects.exists()


def test_another_request_with_the_same_key_is_a_422(api: APIClient) -> None:
    """Promise 29. Other fields, another query or another address are another request."""
    make(api, "one", "k")
    answer = make(api, "two", "k")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    other_query = api.post("/api/v1/make/?x=1", {"name": "one"}, format="json", headers={"Idempotency-Key": "k"})
    assert (other_query.status_code, other_query.json()["code"]) == (422, "idempotency_mismatch")
    assert made() == ["one"]


def test_a_request_that_is_being_worked_on_is_a_409_that_says_when_to_ask_again(api: APIClient, user: Any) -> None:
    """Promise 29."""
    take_key(user, "k", "POST", "/api/v1/make/")
    answer = make(api, "one", "k")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")
    assert int(answer["Retry-After"]) > 0
    assert made() == []


def test_a_key_belongs_to_one_user(api: APIClient) -> None:
    """Promise 29."""
    other = APIClient()
    other.force_authenticate(UserFactory())
    assert make(api, "one", "k").status_code == make(other, "two", "k").status_code == 201
    assert made() == ["one", "two"]


@pytest.mark.parametrize("name", ["fail", "crash"])
def test_a_request_that_failed_stores_nothing_and_frees_its_key(api: APIClient, name: str) -> None:
    assert make(api, name, "k").status_code in (400, 409)
    assert not IdempotencyKey.objects.exists()
    assert made() == []
    assert make(api, "one", "k").status_code == 201


@pytest.mark.parametrize("key", ["", " ", '""', "x" * 256, "a\tb", "ü", "a\x7f"])
def test_a_key_that_is_no_plain_text_is_a_400(api: APIClient, key: str) -> None:
    answer = make(api, "one", key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
    assert made() == []


def test_a_key_is_the_same_with_the_quotes_of_the_draft_and_without(api: APIClient) -> None:
    make(api, "one", '"k"')
    assert make(api, "one", "k")["Idempotency-Replayed"] == "true"
    assert make(api, "longest", "x" * 255).status_code == 201


def test_an_answer_is_forgotten_after_its_time(api: APIClient) -> None:
    make(api, "one", "k")
    expire(key="k")
    assert make(api, "two", "k").status_code == 201
    assert made() == ["one", "two"]


def test_the_lease_of_a_dead_process_can_be_taken_over_and_the_late_one_cannot_complete(user: Any) -> None:
    """Promise 29. The later holder's answer stands; the earlier one's transaction fails."""
    late = take_key(user, "k", "POST", "/p")
    expire(key="k")
    holder = take_key(user, "k", "POST", "/p")
    with pytest.raises(IdempotencyLeaseLost):
        late.complete(MARK, 201, {})
    late.abandon()
    holder.complete(MARK, 201, {"by": "holder"})
    stored = take_key(user, "k", "POST", "/p").answer_for(MARK)
    assert stored.body == {"by": "holder"}


@pytest.mark.django_db(transaction=True)
def test_a_key_is_held_for_as_long_as_its_request_is_worked_on(settings: Any) -> None:
    settings.IDEMPOTENCY_CLAIM_SECONDS = 1
    user = UserFactory()
    held = take_key(user, "k", "POST", "/p")
    begun = IdempotencyKey.objects.get().expires_at
    with held.kept():
        wait_until(lambda: IdempotencyKey.objects.filter(expires_at__gt=begun + timedelta(seconds=1)).exists())
        with pytest.raises(IdempotencyInProgress):
            take_key(user, "k", "POST", "/p")


def test_a_stored_answer_is_for_its_fingerprint_only(user: Any) -> None:
    first = take_key(user, "k", "POST", "/p")
    assert not first.replayable
    first.complete(MARK, 201, {"id": uuid.UUID(int=1)}, {"Location": "/1", "Set-Cookie": "x"})
    again = take_key(user, "k", "POST", "/p")
    assert again.replayable
    with pytest.raises(IdempotencyMismatch):
        again.answer_for("0" * 64)
    stored = again.answer_for(MARK)
    assert (stored.status, stored.body, stored.headers) == (201, {"id": str(uuid.UUID(int=1))}, {"Location": "/1"})


def test_another_path_is_refused_before_its_body_is_read(user: Any) -> None:
    take_key(user, "k", "POST", "/p").complete(MARK, 201, {})
    with pytest.raises(IdempotencyMismatch):
        take_key(user, "k", "POST", "/other")


def test_the_fingerprint_is_of_what_was_asked_and_not_of_how_it_was_framed(user: Any) -> None:
    """Promise 29. The order of the fields is not part of it; each of the rest is."""
    base = fingerprint(user, "POST", "/p", {"a": "1", "b": "2"}, {"file": ("x.mp3", "00")})
    assert base == fingerprint(user, "POST", "/p", {"b": "2", "a": "1"}, {"file": ("x.mp3", "00")})
    others = {
        fingerprint(UserFactory(), "POST", "/p", {"a": "1", "b": "2"}, {"file": ("x.mp3", "00")}),
        fingerprint(user, "PUT", "/p", {"a": "1", "b": "2"}, {"file": ("x.mp3", "00")}),
        fingerprint(user, "POST", "/q", {"a": "1", "b": "2"}, {"file": ("x.mp3", "00")}),
        fingerprint(user, "POST", "/p", {"a": "1", "b": "3"}, {"file": ("x.mp3", "00")}),
        fingerprint(user, "POST", "/p", {"a": "1", "b": "2"}, {"file": ("y.mp3", "00")}),
        fingerprint(user, "POST", "/p", {"a": "1", "b": "2"}, {"file": ("x.mp3", "01")}),
        fingerprint(user, "POST", "/p", {"a": "1", "b": "2"}, {}),
        base,
    }
    assert len(others) == 8
    assert len(base) == 64


def test_an_action_that_streams_its_body_is_left_to_look_after_its_key(api: APIClient) -> None:
    headers = {"Idempotency-Key": "k"}
    streamed = api.post("/api/v1/stream/", b"raw", content_type="application/octet-stream", headers=headers)
    assert (streamed.status_code, streamed.json()) == (201, {"read": "raw"})
    assert not IdempotencyKey.objects.exists()
    for replayed in (False, True):
        answer = api.post("/api/v1/rename/", {"name": "x"}, format="json", headers=headers)
        assert ("Idempotency-Replayed" in answer) == replayed
        assert answer.json() == {"name": "x"}


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_requests_at_once_with_one_key_make_one_thing() -> None:
    """Promise 29. Each of the others is told that it is being worked on, or gets the one answer."""
    user = UserFactory()

    def post(number: int) -> Any:
        client = APIClient()
        client.force_authenticate(user)
        return make(client, "one", "k")

    for round_number in range(5):
        IdempotencyKey.objects.all().delete()
        EncryptionKey.objects.all().delete()
        answers = at_once(12, post)
        statuses = [answer.status_code for answer in answers]
        assert made() == ["one"], round_number
        assert set(statuses) <= {201, 409}
        fresh = [a for a in answers if a.status_code == 201 and "Idempotency-Replayed" not in a]
        assert len(fresh) == 1


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_one_of_many_takes_an_expired_claim_over() -> None:
    """Promise 29."""
    user = UserFactory()
    for _ in range(5):
        IdempotencyKey.objects.all().delete()
        take_key(user, "k", "POST", "/p")
        expire(key="k")
        outcomes = at_once(12, lambda number: take_key(user, "k", "POST", "/p"))
        winners = [outcome for outcome in outcomes if isinstance(outcome, idempotency.KeyLease)]
        assert len(winners) == 1
        assert all(isinstance(outcome, IdempotencyInProgress) for outcome in outcomes if outcome not in winners)


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_claims_and_failures_at_once_end_in_one_answer() -> None:
    """Promise 29. A key that is freed again and again is held by one request at any time."""
    user = UserFactory()
    holding = threading.Semaphore(1)

    def take_and_give_back(number: int) -> str:
        for _ in range(15):
            try:
                held = take_key(user, "k", "POST", "/p")
            except IdempotencyInProgress:
                continue
            assert holding.acquire(blocking=False), "two requests hold the key"
            holding.release()
            held.abandon()
        return "done"

    assert at_once(8, take_and_give_back) == ["done"] * 8
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_answer_is_stored_only_with_what_it_tells_of() -> None:
    """Promise 29. What rolls back takes its stored answer along."""
    user = UserFactory()
    held = take_key(user, "k", "POST", "/p")
    with pytest.raises(RuntimeError, match="power"), transaction.atomic():
        EncryptionKey.objects.create(provider="test", key_reference="one")
        held.complete(MARK, 201, {})
        raise RuntimeError("the power fails")
    assert made() == []
    with pytest.raises(IdempotencyInProgress):
        take_key(user, "k", "POST", "/p")
