import pytest
from django.core.cache import cache

from tests.factories import UserFactory


@pytest.mark.django_db
def test_the_sign_in_page_lets_nobody_try_passwords_without_end(client, monkeypatch) -> None:
    monkeypatch.setattr("audiotricks.authentication.SignInThrottle.get_rate", lambda self: "3/min")
    cache.clear()
    user = UserFactory()
    for _ in range(3):
        assert client.post("/sign-in/", {"username": user.username, "password": "wrong"}).status_code == 200

    refused = client.post("/sign-in/", {"username": user.username, "password": "correct horse battery"})

    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    cache.clear()
