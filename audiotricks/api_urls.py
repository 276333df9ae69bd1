from django.urls import path

from audiotricks import tokens

urlpatterns = [
    path("tokens/", tokens.TokenList.as_view(), name="api-tokens"),
    path("tokens/<uuid:pk>/", tokens.TokenDetail.as_view(), name="api-token"),
]
