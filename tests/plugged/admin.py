from django.contrib import admin
from django.contrib.contenttypes.models import ContentType

from audiotricks.admin.base import ReadOnlyAdmin

admin.site.register(ContentType, ReadOnlyAdmin)
