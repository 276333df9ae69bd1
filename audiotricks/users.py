from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework.request import Request


def user_of(request: HttpRequest | Request) -> User:
    """The user who is signed in; for views that let nobody else in."""
    user = request.user
    assert isinstance(user, User)
    return user
