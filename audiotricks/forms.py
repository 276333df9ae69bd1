"""How fields are laid out on our pages: ``{{ form.name.as_field_group }}`` is label, help, field and errors."""

from django.forms.renderers import TemplatesSetting


class FieldRenderer(TemplatesSetting):
    field_template_name = "forms/field.html"
