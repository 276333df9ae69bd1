from django.urls import path

from accounts.api import views

urlpatterns = [
    path("tokens/", views.TokenList.as_view(), name="api-tokens"),
    path("tokens/<uuid:pk>/", views.TokenDetail.as_view(), name="api-token"),
]
