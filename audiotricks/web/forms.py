from django.forms.renderers import TemplatesSetting


class FieldRenderer(TemplatesSetting):
    """``{{ form.name.as_field_group }}`` renders label, help, field and errors."""

    field_template_name = "forms/field.html"
