import json
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.forms.models import ModelForm
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize, time_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from audiotricks.admin.base import ReadOnlyAdmin, VaultAdmin, confirmation, link_to, moment
from audiotricks.celery import send_on_commit
from audiotricks.models import TaskRun
from audiotricks.plug import periodic_tasks

OUTCOME_COLOURS = {
    TaskRun.Outcome.RUNNING: "info",
    TaskRun.Outcome.DONE: "success",
    TaskRun.Outcome.FAILED: "danger",
    TaskRun.Outcome.LOST: "warning",
}
RUNS_SHOWN = 10
LONGEST_INTERVAL = timedelta(days=366)


def in_short(run: TaskRun) -> str | None:
    """The result on one line: ``purged: 3``."""
    if run.error or not run.result:
        return run.error or None
    if isinstance(run.result, dict):
        return ", ".join(f"{name.replace('_', ' ')}: {localize(value)}" for name, value in run.result.items())
    return json.dumps(run.result, ensure_ascii=False)


def took(run: TaskRun) -> str | None:
    if run.seconds is None:
        return None
    return gettext("%(seconds)s s") % {"seconds": localize(round(run.seconds, 1 if run.seconds < 60 else 0))}


def interval_in_words(interval: IntervalSchedule) -> str:
    """``every hour`` for 3,600 seconds."""
    seconds = interval.every * timedelta(**{interval.period: 1}).total_seconds()
    if seconds % 86_400 == 0:
        days = int(seconds // 86_400)
        return ngettext("every day", "every %(count)d days", days) % {"count": days}
    if seconds % 3600 == 0:
        hours = int(seconds // 3600)
        return ngettext("every hour", "every %(count)d hours", hours) % {"count": hours}
    if seconds % 60 == 0:
        minutes = int(seconds // 60)
        return ngettext("every minute", "every %(count)d minutes", minutes) % {"count": minutes}
    return gettext("every %(seconds)s seconds") % {"seconds": localize(seconds)}


def crontab_in_words(crontab: CrontabSchedule) -> str:
    """A daily time in the viewer's language; other crontabs in the library's English."""
    days = {crontab.day_of_week, crontab.day_of_month, crontab.month_of_year}
    if days != {"*"} or not (crontab.hour.isdecimal() and crontab.minute.isdecimal()):
        return str(crontab.human_readable)
    at = time(int(crontab.hour), int(crontab.minute))
    words = {"time": time_format(at), "zone": crontab.timezone}
    return gettext("every day at %(time)s (%(zone)s)") % words


def named_task(task: str) -> str:
    return next((name for name, (path, _) in periodic_tasks() if path == task), task)


class TaskFilter(admin.SimpleListFilter):
    title = _("task")
    parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(task, name) for name, (task, _) in periodic_tasks()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TaskRun]) -> QuerySet[TaskRun]:
        return queryset.filter(task=self.value()) if self.value() else queryset


class OutcomeFilter(admin.SimpleListFilter):
    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("done", _("Done")), ("failed", _("Failed")), ("open", _("Not ended"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TaskRun]) -> QuerySet[TaskRun]:
        outcomes: dict[str | None, dict[str, Any]] = {
            "done": {"succeeded": True},
            "failed": {"succeeded": False},
            "open": {"succeeded": None},
        }
        return queryset.filter(**outcomes.get(self.value(), {}))


@admin.register(TaskRun)
class TaskRunAdmin(ReadOnlyAdmin):
    list_display = ("name", "outcome", "started_at", "took", "in_short")
    list_filter = (TaskFilter, OutcomeFilter)
    fields = ("name", "ended", "started_at", "finished_at", "took", "result", "error")

    @display(description=_("Task"))
    def name(self, run: TaskRun) -> str:
        return named_task(run.task)

    @display(description=_("Outcome"), label=OUTCOME_COLOURS)
    def outcome(self, run: TaskRun) -> tuple[str, str]:
        return run.outcome, str(run.outcome.label)

    @display(description=_("Outcome"))
    def ended(self, run: TaskRun) -> str:
        return str(run.outcome.label)

    @display(description=_("Took"))
    def took(self, run: TaskRun) -> str | None:
        return took(run)

    @display(description=_("What came of it"))
    def in_short(self, run: TaskRun) -> str | None:
        return in_short(run)


class PeriodicTaskForm(ModelForm):  # type: ignore[type-arg]
    task = forms.ChoiceField(label=_("What it does"), widget=UnfoldAdminSelectWidget())

    class Meta:
        model = PeriodicTask
        fields = ("name", "task", "enabled", "description", "interval", "crontab")
        labels = {"name": _("Name"), "interval": _("Every"), "crontab": _("Or at these times")}
        widgets = {"description": UnfoldAdminTextareaWidget(attrs={"rows": 3})}
        help_texts = {
            "name": "",
            "description": "",
            "enabled": _("Off, it is not sent until it is switched on again."),
            "interval": _("Choose one of the two."),
            "crontab": _("Choose one of the two."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        task: Any = self.fields["task"]
        names = sorted(
            (named_task(path), path)
            for path in {path for _, (path, _) in periodic_tasks()} | {self.instance.task} - {""}
        )
        task.choices = [(path, name) for name, path in names]
        # Without the right to change, the form has no such fields.
        interval: Any = self.fields.get("interval")
        if interval is not None:
            interval.label_from_instance = interval_in_words

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if bool(cleaned.get("interval")) == bool(cleaned.get("crontab")):
            self.add_error("interval", _("Choose either an interval or times of day."))
            # The package's own check concerns kinds of schedules that are not offered.
            self._validate_unique = False
        return cleaned


class PeriodicTaskAdmin(VaultAdmin):
    """The scheduler picks up changes within seconds."""

    form = PeriodicTaskForm
    list_display = ("name", "enabled", "schedule", "last_run", "last_result", "next_run", "times_sent")
    list_filter = ("enabled",)
    ordering = ("name",)
    actions = ("run_now", "enable", "disable")
    actions_detail = ("run_this",)
    readonly_fields = ("sent_at", "next_run", "times_sent", "last_runs")
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled", "description")}),
        (_("When"), {"fields": (("interval", "crontab"), ("sent_at", "next_run"), "times_sent")}),
        (_("Last runs"), {"fields": ("last_runs",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[PeriodicTask]:
        newest = TaskRun.objects.filter(task=OuterRef("task")).values("pk")[:1]
        tasks: QuerySet[Any] = super().get_queryset(request)
        with_run: QuerySet[Any] = tasks.annotate(newest_run=Subquery(newest))
        return with_run.select_related("interval", "crontab")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        runs = TaskRun.objects.in_bulk([task.newest_run for task in changelist.result_list if task.newest_run])
        for task in changelist.result_list:
            task.run = runs.get(task.newest_run)
        return changelist

    @display(description=_("When"))
    def schedule(self, task: Any) -> str:
        return interval_in_words(task.interval) if task.interval else crontab_in_words(task.crontab)

    @display(description=_("Last run"), label=OUTCOME_COLOURS)
    def last_run(self, task: Any) -> tuple[str, str] | None:
        return (task.run.outcome, str(task.run.outcome.label)) if task.run else None

    @display(description=_("What came of it"))
    def last_result(self, task: Any) -> str | None:
        return in_short(task.run) if task.run else None

    @display(description=_("Next run"))
    def next_run(self, task: PeriodicTask) -> SafeString | None:
        return moment(next_run_of(task))

    @display(description=_("Last sent"))
    def sent_at(self, task: PeriodicTask) -> SafeString | None:
        return moment(task.last_run_at)

    @display(description=_("Times sent"))
    def times_sent(self, task: PeriodicTask) -> int:
        return int(task.total_run_count)

    @display(description="")
    def last_runs(self, task: PeriodicTask) -> SafeString:
        runs = TaskRun.objects.filter(task=task.task)[:RUNS_SHOWN]
        rows = [[link_to(run, moment(run.started_at)), run.outcome.label, took(run), in_short(run)] for run in runs]
        headers = [gettext("Started"), gettext("Outcome"), gettext("Took"), gettext("What came of it")]
        return render_to_string("admin/runs.html", {"table": {"headers": headers, "rows": rows}, "task": task.task})

    @admin.action(description=_("Run now"), permissions=["change"])
    def run_now(self, request: HttpRequest, tasks: QuerySet[PeriodicTask]) -> None:
        paths = sorted(set(tasks.values_list("task", flat=True)))
        for path in paths:
            send_on_commit(path)
        message = ngettext(
            "%(count)d task was sent to the workers. Reload this page to see what came of it.",
            "%(count)d tasks were sent to the workers. Reload this page to see what came of them.",
            len(paths),
        )
        self.message_user(request, message % {"count": len(paths)})

    @action(description=_("Run now"), url_path="run", permissions=["change"])
    def run_this(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        task = self.get_object(request, object_id)
        if task is None:
            raise Http404
        page = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
        explanation = gettext("“%(name)s” is given to the workers now, beside its schedule.") % {"name": task.name}
        answer = confirmation(
            self, request, title=gettext("Run now"), explanation=explanation, button=gettext("Run now"), back=page
        )
        if answer is None:
            self.run_now(request, PeriodicTask.objects.filter(pk=task.pk))
        return answer or redirect(page)

    @admin.action(description=_("Switch on"), permissions=["change"])
    def enable(self, request: HttpRequest, tasks: QuerySet[PeriodicTask]) -> None:
        count = tasks.filter(enabled=False).update(enabled=True)
        PeriodicTasks.update_changed()
        message = ngettext("%(count)d task was switched on.", "%(count)d tasks were switched on.", count)
        self.message_user(request, message % {"count": count})

    @admin.action(description=_("Switch off"), permissions=["change"])
    def disable(self, request: HttpRequest, tasks: QuerySet[PeriodicTask]) -> None:
        count = tasks.filter(enabled=True).update(enabled=False, last_run_at=None)
        PeriodicTasks.update_changed()
        message = ngettext("%(count)d task was switched off.", "%(count)d tasks were switched off.", count)
        self.message_user(request, message % {"count": count})


def next_run_of(task: PeriodicTask) -> datetime | None:
    """None when the task is off or has no further time."""
    if not task.enabled or (task.interval is None and task.crontab is None):
        return None
    last: datetime = task.last_run_at or task.date_changed
    try:
        due, seconds = task.schedule.is_due(last)
        return timezone.now() + timedelta(seconds=0 if due else seconds)
    except OverflowError:
        return None


class ScheduleAdmin(VaultAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        schedules: QuerySet[Any] = super().get_queryset(request)
        return schedules.prefetch_related("periodictask_set")

    @display(description=_("Used by"))
    def used_by(self, schedule: Any) -> SafeString | None:
        tasks = schedule.periodictask_set.all()
        return format_html_join(", ", "{}", ((link_to(task, task.name),) for task in tasks)) or None


class IntervalForm(ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        """An interval beyond the end of the calendar would end the scheduler."""
        cleaned: dict[str, Any] = super().clean() or {}
        unit, every = cleaned.get("period"), cleaned.get("every")
        if unit and every and every > LONGEST_INTERVAL / timedelta(**{unit: 1}):
            self.add_error("every", _("An interval is at most a year."))
        return cleaned


class IntervalAdmin(ScheduleAdmin):
    form = IntervalForm
    list_display = ("in_words", "used_by")
    ordering = ("period", "every")
    fields = ("every", "period")

    @display(description=_("Interval"))
    def in_words(self, interval: IntervalSchedule) -> str:
        return interval_in_words(interval)


class CrontabAdmin(ScheduleAdmin):
    list_display = ("in_words", "__str__", "used_by")
    fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year", "timezone")

    @display(description=_("When"))
    def in_words(self, crontab: CrontabSchedule) -> str:
        return crontab_in_words(crontab)


for unused in (SolarSchedule, ClockedSchedule):
    admin.site.unregister(unused)
for table, table_admin in (
    (PeriodicTask, PeriodicTaskAdmin),
    (IntervalSchedule, IntervalAdmin),
    (CrontabSchedule, CrontabAdmin),
):
    admin.site.unregister(table)
    admin.site.register(table, table_admin)
