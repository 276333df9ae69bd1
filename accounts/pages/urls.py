from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.i18n import set_language

from accounts.pages import views

urlpatterns = [
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("language/", set_language, name="set_language"),
    path("password/forgotten/", views.ForgottenPassword.as_view(), name="forgotten-password"),
    path("password/new/<uidb64>/<token>/", views.NewPassword.as_view(), name="new-password"),
    path("account/", views.account, name="account"),
    path("account/password/", views.ChangePassword.as_view(), name="change-password"),
    path("account/tokens/", views.tokens, name="tokens"),
    path("account/tokens/<uuid:pk>/revoke/", views.revoke, name="revoke-token"),
]
