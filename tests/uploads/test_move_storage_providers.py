"""``move_storage`` between this machine and real servers of every provider."""

import io
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from django.core.management import call_command

from objectstore import get_storage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_wav
from tests.factories import UserFactory, client_for
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.quotas.threads import at_once
from tests.running.programs import ran, started
from tests.uploads.life import arrive, complete, counted, environment_of_this_test
from tests.uploads.moved import assert_all_lies_in, assert_all_readable, move, read
from uploads.lifecycle.trash import delete_upload
from uploads.models import AudioUpload
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.upkeep.moving import Outcome

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


#: More than one part.
LONG = make_wav() + bytes(range(256)) * 50_000


def test_from_disk_through_every_provider_and_back(
    s3_server: ObjectServer, gcs_server: ObjectServer, azure_server: ObjectServer, settings: Any, workspace: Workspace
) -> None:
    """Promise 1, Promise 28. Bytes, pictures, metadata and books are the same at the end of each leg."""
    for server in (s3_server, gcs_server, azure_server):
        configure(settings, server)
    long = complete(workspace, LONG, filename="Füße  lang ß.wav", thumbnail=make_jpeg())
    first, second = (complete(workspace, make_wav(seed=1), thumbnail=make_jpeg(width=width)) for width in (20, 30))
    delete_upload(second, actor=None)
    assert first.storage_path == second.storage_path
    data = {upload.pk: read(upload) for upload in (long, first, second)}
    books = counted(workspace)
    for source, target in (("local", "s3"), ("s3", "gcs"), ("gcs", "azure"), ("azure", "local")):
        assert {result.outcome for result in move(source, target, parallel=2)} == {Outcome.MOVED}
        assert_all_lies_in(target, but_not_in=source)
        storage = get_storage(target)
        for upload in AudioUpload.objects.all():
            assert read(upload) == data[upload.pk]
            assert (upload.storage_provider, upload.storage_region) == (target, storage.region)
            assert upload.storage_url == storage.location_of(upload.storage_path)
            assert upload.storage_class == storage.stat(upload.storage_path).storage_class
        if target != "local":
            stat = storage.stat(long.storage_path)
            assert stat.content_type == "audio/wav"
            assert stat.metadata["original_filename"] == "Füße  lang ß.wav"
            assert stat.metadata["audio_id"] == str(long.pk)
            assert stat.metadata["checksum_sha256"] == long.checksum_sha256
            assert (stat.metadata["file_size"], stat.metadata["has_thumbnail"]) == (str(long.file_size), "true")
            assert storage.stat(long.thumbnail_path).content_type == "image/jpeg"
        assert counted(workspace) == books


@pytest.mark.parametrize("alias", ["s3", "gcs", "azure"])
def test_a_signed_url_of_before_leads_to_whole_bytes_until_it_runs_out(
    alias: str, request: pytest.FixtureRequest, settings: Any, workspace: Workspace
) -> None:
    """Promise 51, Promise 57. The source is in its grace period, which is longer."""
    configure(settings, request.getfixturevalue(f"{alias}_server"))
    settings.AUDIO_STORAGE = alias
    upload = complete(workspace)
    url = get_storage(alias).signer.sign(upload.storage_path, seconds=settings.SIGNED_URL_SECONDS)
    assert [result.outcome for result in move(alias, "local")] == [Outcome.MOVED]
    sweep_orphaned_objects()
    with urlopen(url) as answer:
        assert answer.read() == make_wav()
    assert_all_lies_in("local", but_not_in=alias)


def test_listeners_hear_whole_files_while_they_move_to_a_provider_and_back(
    s3_server: ObjectServer, settings: Any, workspace: Workspace
) -> None:
    """Promise 15. Redirected to the provider or served by us: every answer has all the bytes."""
    configure(settings, s3_server)
    uploads = {str(complete(workspace, make_wav(seed=seed)).pk): make_wav(seed=seed) for seed in range(5)}
    user, ended = UserFactory(is_staff=True, is_superuser=True), threading.Event()
    heard = {200: 0, 302: 0}

    def listen() -> None:
        client = client_for(user)
        while not ended.is_set():
            for pk, data in uploads.items():
                answer = client.get(f"/api/v1/uploads/{pk}/content/")
                if answer.status_code == 302:
                    with urlopen(answer["Location"]) as redirected:
                        body = redirected.read()
                else:
                    body = b"".join(answer.streaming_content)
                assert body == data
                heard[answer.status_code] += 1

    def move_to_and_fro() -> None:
        try:
            for source, target in (("local", "s3"), ("s3", "local")):
                assert {result.outcome for result in move(source, target, parallel=2)} == {Outcome.MOVED}
        finally:
            ended.set()

    assert at_once(move_to_and_fro, *[listen] * 3) == [None] * 4
    assert heard[200] > 0 and heard[302] > 0
    assert_all_readable()


def test_a_file_that_arrived_on_disk_is_carried_over_after_the_setting_changed(
    s3_server: ObjectServer, settings: Any, workspace: Workspace, audio_root: Path
) -> None:
    old = complete(workspace, make_wav(seed=1))
    configure(settings, s3_server)
    settings.AUDIO_STORAGE = "s3"
    new = complete(workspace, make_wav(seed=2))
    assert (old.storage_provider, new.storage_provider) == ("local", "s3")
    client = client_for(UserFactory(is_staff=True, is_superuser=True))
    answer = client.get(f"/api/v1/uploads/{old.pk}/content/")
    assert b"".join(answer.streaming_content) == make_wav(seed=1)
    call_command("move_storage", source="local", target="s3", stdout=io.StringIO())
    assert_all_lies_in("s3", but_not_in="local")
    settings.SIGNED_URL_SECONDS = 60
    answer = client.get(f"/api/v1/uploads/{old.pk}/content/")
    with urlopen(answer["Location"]) as redirected:
        assert redirected.read() == make_wav(seed=1)


def test_ctrl_c_ends_with_whole_objects_and_the_next_run_goes_on(
    s3_server: ObjectServer,
    settings: Any,
    workspace: Workspace,
    audio_root: Path,
    tmp_path: Path,
) -> None:
    """Promise 15. As a process of its own, with the settings that an operator has."""
    bucket = s3_server.empty_bucket()
    settings.STORAGES = {**settings.STORAGES, "s3": s3_server.entry(bucket)}
    for seed in range(60):
        arrive(workspace, make_wav(seed=seed))
    env = environment_of_this_test(audio_root, **s3_server.environment(bucket))
    command = [sys.executable, "manage.py", "move_storage", "--from", "local", "--to", "s3", "-v2", "--parallel", "2"]
    with started(command, env, tmp_path / "log") as program:
        program.wait_for("moved: ")
        code = program.signal_and_wait(signal.SIGINT)
        output = program.output()
    assert code == 130, output
    assert "Stopped before the end. Run this again to go on." in output and "Traceback" not in output
    assert_all_readable()
    assert 0 < AudioUpload.objects.filter(storage_provider="local").count() < 60
    done = ran(command, env)
    assert done.returncode == 0, done.stderr
    assert_all_lies_in("s3", but_not_in="local")
