from django.urls import path

from tests.plugged.shown import page

urlpatterns = [path("plugged/", page, name="plugged-api")]
