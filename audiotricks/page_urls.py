"""Addresses of the pages about oneself: signing in and out, the account, API tokens, the language."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.i18n import set_language

sign_in = LoginView.as_view(template_name="sign_in.html", redirect_authenticated_user=True)

urlpatterns = [
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("language/", set_language, name="set_language"),
]
