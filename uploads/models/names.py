from typing import Any

from django.db import models

from uploads.models.folding import fold


class FoldedNameField(models.TextField):  # type: ignore[type-arg]
    """Written with the row and by the queryset's ``update``."""

    def pre_save(self, model_instance: Any, add: bool) -> str:
        folded = fold(model_instance.original_filename)
        setattr(model_instance, self.attname, folded)
        return folded
