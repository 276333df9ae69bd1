"""The administration's lists and pages with 10,000 and with 1,000,000 files on PostgreSQL.

Each page is asked for through the whole of Django, without a socket. Both databases lie on one server, and requests to
them take turns. A filter finds one file in a hundred, spread over all of them, unless its line says otherwise.
"""

import statistics
import sys
import tempfile
import time
from typing import Any

from benchmarks import rows
from benchmarks.figures import Figure, median_ratio, report
from benchmarks.listing import client_of, counted_queries
from tests.servers import running_postgres

SIZES = {"small": 10_000, "large": 1_000_000}
ROUNDS = 9
AT_MOST = 2
FILES = "/admin/uploads/audioupload/"
EVENTS = "/admin/uploads/uploadevent/"
AUDIT = "/admin/audiotricks/auditevent/"
#: All names begin alike, so that an index of their parts must look through all of them: told, without a target.
ALIKE = "files by a name whose beginning all have"
#: The oldest files are those of this workspace, which has the fewest.
FEW = "little"
HISTORY = ("uploaded", "completed")

PREPARE = (
    # One file in a hundred is something else, and knows its twin and its checksum.
    "CREATE TEMP TABLE odd_ones AS SELECT id FROM audio_uploads WHERE hashtext(id::text) % 100 = 0",
    "UPDATE audio_uploads SET file_type = 'flac', checksum_md5 = md5(id::text), legal_hold = status = 'completed', "
    "duplicate_of_id = (SELECT min(id::text)::uuid FROM odd_ones) WHERE id IN (SELECT id FROM odd_ones)",
    "UPDATE audio_uploads SET error_code = CASE WHEN hashtext(id::text) % 10 = 1 THEN 'truncated_audio' "
    "ELSE 'undecodable_audio' END WHERE status = 'failed'",
)
WRITE_HISTORY = (
    "INSERT INTO upload_events "
    '(upload_id, workspace_id, action, from_status, to_status, "right", reason, details, created_at) '
    "SELECT id, workspace_id, action, '', '', '', '', '{}', created_at "
    "FROM audio_uploads, unnest(%s::text[]) AS action ORDER BY created_at"
)

# As many events as files. One in a hundred is of a rare kind, by another user, of another subject, from elsewhere.
WRITE_AUDIT = """
    INSERT INTO audit_events
    (created_at, kind, actor_id, actor_name, subject_kind, subject_id, subject_name, address, user_agent, "right",
    details)
    SELECT now() - interval '1 second' * (%(count)s - number),
    CASE WHEN number %% 100 = 7 THEN 'role_changed' ELSE 'signed_in' END,
    number %% 1000, CASE WHEN number %% 100 = 7 THEN 'rare' ELSE 'often' END,
    'user', number %% 1000, CASE WHEN number %% 100 = 7 THEN 'rare subject' ELSE 'subject ' || number %% 1000 END,
    CASE WHEN number %% 100 = 7 THEN '192.0.2.7' ELSE '192.0.2.1' END::inet, 'A browser', '', '{}'
    FROM generate_series(1, %(count)s) AS number
"""


def main() -> int:
    with running_postgres() as url, tempfile.TemporaryDirectory() as var:
        rows.prepare(url, var)
        pages = {name: prepared(name, count) for name, count in SIZES.items()}
        clients = {name: staff_of(name) for name in SIZES}
        figures = [page_figure(words, pages, clients) for words in pages["large"]]
        rows.use_database("postgres")
        return report(figures)


def prepared(name: str, count: int) -> dict[str, str]:
    """Make a database of so many files, each with a history; returns the addresses to measure, by their words."""
    from django.db import connection

    rows.make_database(name, count)
    with connection.cursor() as cursor:
        for statement in PREPARE:
            cursor.execute(statement)
        with rows.indexes_made_afterwards("upload_events"):
            cursor.execute(WRITE_HISTORY, [list(HISTORY)])
        with rows.indexes_made_afterwards("audit_events"):
            cursor.execute(WRITE_AUDIT, {"count": count})
        cursor.execute("VACUUM ANALYZE")
    return addresses()


def addresses() -> dict[str, str]:
    from django.utils import timezone

    from quotas.models import Workspace
    from uploads.models import AudioUpload

    few = Workspace.objects.get(slug=FEW)
    known = AudioUpload.objects.filter(status="completed", file_type="flac").order_by("uploaded_at").first()
    day = AudioUpload.objects.filter(workspace=few).latest("uploaded_at").uploaded_at.date()
    days = f"uploaded_at_from={day}&uploaded_at_to={day}"
    lists = {
        "": "files",
        "?p=100": "page 100",
        "?status__exact=completed": "files by state: most of them",
        "?status__exact=failed": "files by state: a fifth of them",
        "?status__exact=deleted": "files by state: a twentieth of them",
        "?error=truncated_audio": "files by why they failed",
        f"?workspace__id__exact={few.pk}": "files of a workspace with few",
        f"?owner__id__exact={few.memberships.get().user_id}": "files of an owner of few",
        "?file_type=flac": "files by format",
        "?storage_provider=local": "files by storage: all of them",
        "?held=yes": "files on hold",
        "?duplicate=yes": "duplicates",
        f"?{days}": "files of a day with few",
        "?file_type=flac&status__exact=completed": "files by format and state",
        f"?q={known.checksum_sha256}": "one file by SHA-256",
        f"?q={known.checksum_md5}": "one file by MD5",
        f"?q={known.pk}": "one file by id",
        f"?q={known.storage_path}": "one file by its storage path",
        "?q=g+8765.mp3": "files by a part of the name that few have",
        "?q=recording+8765.mp3": ALIKE,
        "?q=recording+12": "files by a part of the name that one in a hundred has",
        "?q=recording": "files by a part of the name that all have",
        "?q=nobody+called+it+so": "files by a name that none has",
    }
    found = {words: FILES + query for query, words in lists.items()}
    found["the page of a file"] = f"{FILES}{known.pk}/change/"
    events = {
        "": "events",
        "?action=completed": "events by action",
        f"?workspace__id__exact={few.pk}": "events of a workspace with few",
        f"?q={known.pk}": "events of a file",
        f"?created_at_from={day}&created_at_to={day}": "events of a day with few",
    }
    found |= {words: EVENTS + query for query, words in events.items()}
    today = timezone.now().date()
    audit = {
        "": "audit events",
        "?p=100": "page 100 of the audit events",
        "?kind__exact=role_changed": "audit events of a kind: one in a hundred",
        "?kind__exact=signed_in": "audit events of a kind: most of them",
        "?actor_name=rare": "audit events by a user: one in a hundred",
        "?actor_name=nobody": "audit events by a user: none",
        "?subject_name=rare+subject": "audit events about a subject: one in a hundred",
        "?address=192.0.2.7": "audit events from an address: one in a hundred",
        f"?created_at_from={today}&created_at_to={today}": "audit events of today",
        "?kind__exact=signed_in&actor_name=rare": "audit events of a kind by a user: none",
        "?q=rare": "audit events by the whole name of one in a hundred",
        "?q=often": "audit events by the whole name of most",
        "?q=nobody": "audit events by a name that none has",
    }
    return found | {words: AUDIT + query for query, words in audit.items()}


def staff_of(database: str) -> Any:
    rows.use_database(database)
    return client_of("staff")


def page_figure(words: str, pages: dict[str, dict[str, str]], clients: dict[str, Any]) -> Figure:
    seconds: dict[str, list[float]] = {name: [] for name in SIZES}
    queries, shown = {}, {}
    for _ in range(ROUNDS):
        for database, taken in seconds.items():
            rows.use_database(database)
            client, address = clients[database], pages[database][words]
            client.get(address)
            with counted_queries() as spent:
                began = time.perf_counter()
                answer = client.get(address)
                taken.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise RuntimeError(f"{address}: {answer.status_code} {answer.content[:500]!r}")
            queries[database] = len(spent)
            shown[database] = answer.content.count(b"/change/")
    if queries["small"] != queries["large"]:
        raise RuntimeError(f"{words}: {queries} queries")
    if shown["small"] != shown["large"]:
        raise RuntimeError(f"{words}: {shown} links to rows")
    took = f"{1000 * statistics.median(seconds['large']):.0f} ms, {queries['large']} queries"
    ratio = median_ratio(seconds["large"], seconds["small"])
    return Figure(
        f"administration, 1,000,000 files to 10,000: {words}", took, ratio, at_most=None if words == ALIKE else AT_MOST
    )


if __name__ == "__main__":
    sys.exit(main())
