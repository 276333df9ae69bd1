"""Addresses of the pages about oneself: signing in and out, the account, API tokens, the language."""

from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.i18n import set_language

from audiotricks import pages

urlpatterns = [
    path("sign-in/", pages.SignIn.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("language/", set_language, name="set_language"),
    path("password/forgotten/", pages.ForgottenPassword.as_view(), name="forgotten-password"),
    path("password/new/<uidb64>/<token>/", pages.NewPassword.as_view(), name="new-password"),
    path("account/", pages.account, name="account"),
    path("account/password/", pages.ChangePassword.as_view(), name="change-password"),
    path("account/tokens/", pages.tokens, name="tokens"),
    path("account/tokens/<uuid:pk>/revoke/", pages.revoke, name="revoke-token"),
]
