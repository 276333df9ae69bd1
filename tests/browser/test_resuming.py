"""Uploads that are paused, cut off or left, and resumed: bytes that have arrived are not sent again."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.audio import make_mp3, make_wav
from tests.browser.line import line_to
from tests.browser.sending import choose, reserved_bytes, row, slow_down, write
from tests.browser.site import Site, check_accessible, drop
from tests.servers import wait_until

UploadPage = Callable[..., Page]


class Log:
    """The tus requests of a page: ``POST``, ``HEAD``, or the offset of a PATCH."""

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        page.on("request", lambda request: self.requests.append(request) if "/tus/" in request.url else None)

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    def offsets(self) -> list[int]:
        return [int(each.headers["upload-offset"]) for each in self.requests if each.method == "PATCH"]


def progress_of(upload: Locator) -> float:
    return float(upload.locator("progress").evaluate("bar => bar.value"))


def wait_for_progress(upload: Locator, above: float = 0.1) -> None:
    wait_until(lambda: progress_of(upload) > above, what=f"progress above {above}")


def sent_whole(site: Site, name: str, path: Path) -> bool:
    """Whether the newest file is this one, byte for byte."""
    found = next(each for each in site.get("uploads/?workspace=demo")["results"] if each["original_filename"] == name)
    return bool(site.content(found["id"]) == path.read_bytes())


@pytest.fixture(autouse=True)
def nothing_left(site: Site) -> Iterator[None]:
    """Each test ends what it left unfinished."""
    yield
    for session in site.get("upload-sessions/")["results"]:
        headers = {"Tus-Resumable": "1.0.0", **site.headers}
        answer = requests.delete(urljoin(site.address, session["url"]), headers=headers, timeout=10)
        # The page may have ended it at the same time.
        assert answer.status_code in (204, 410)


@pytest.fixture
def long_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return write(tmp_path / "long.wav", make_wav(seconds=120, seed=abs(hash(request.node.name)) % 10_000))


@contextmanager
def left_half_way(upload_page: UploadPage, path: Path, **options: Any) -> Iterator[Page]:
    """The page, opened anew after the file was sent in part."""
    page = upload_page(**options)
    page.on("dialog", lambda dialog: dialog.accept())
    slow_down(page)
    choose(page, path)
    wait_for_progress(row(page, path.name), 0.3)
    page.reload()
    slow_down(page, -1)
    yield page


def test_a_paused_upload_resumes_where_it_stood(upload_page: UploadPage, site: Site, long_file: Path) -> None:
    page = upload_page()
    log = Log(page)
    slow_down(page)
    choose(page, long_file)
    upload = row(page, "long.wav")
    wait_for_progress(upload)
    upload.get_by_role("button", name="Pause long.wav").click()
    expect(upload).to_contain_text("Paused at")
    expect(upload.get_by_role("button", name="Resume long.wav")).to_be_focused()
    check_accessible(page)
    stood = progress_of(upload)
    slow_down(page, -1)
    page.keyboard.press("Enter")
    expect(upload).to_contain_text("Done")
    first, second = log.offsets()
    assert (first, log.count("POST")) == (0, 1) and 0 < second <= stood * long_file.stat().st_size
    assert sent_whole(site, "long.wav", long_file)


def test_a_network_that_was_cut_is_waited_for_and_nothing_that_arrived_is_sent_again(
    upload_page: UploadPage, site: Site, long_file: Path
) -> None:
    with line_to(site.address) as line:
        page = upload_page(offline=True, base_url=line.address)
        log = Log(page)
        slow_down(page)
        choose(page, long_file)
        upload = row(page, "long.wav")
        wait_for_progress(upload, 0.3)
        line.cut()
        expect(upload).to_contain_text("The server does not answer: trying again")
        expect(page.locator("main > [role=status]").last).to_contain_text("long.wav: The server does not answer")
        slow_down(page, -1)
        line.mend()
        expect(upload).to_contain_text("Done")
    assert log.count("POST") == 1 and log.offsets()[-1] > 0
    assert sent_whole(site, "long.wav", long_file)


def test_an_upload_of_an_earlier_visit_resumes_with_the_file_chosen_again_and_with_no_other(
    upload_page: UploadPage, site: Site, long_file: Path, tmp_path: Path
) -> None:
    with left_half_way(upload_page, long_file) as page:
        log = Log(page)
        upload = row(page, "long.wav")
        expect(upload).to_contain_text("Choose the file again to resume.")
        expect(page.get_by_text("Unfinished uploads: 1")).to_be_visible()
        check_accessible(page)
        again = upload.get_by_role("button", name="Choose the file again: long.wav")
        for path in (write(tmp_path / "other" / "long.wav", make_wav(seconds=119, seed=4)), long_file):
            with page.expect_file_chooser() as chooser:
                again.click()
            chooser.value.set_files(path)
            if path != long_file:
                expect(upload).to_contain_text("That is another file.")
        expect(upload).to_contain_text("Done")
        expect(page.get_by_text("Unfinished uploads")).to_be_hidden()
        assert log.count("POST") == 0 and log.offsets()[0] > 0
        assert sent_whole(site, "long.wav", long_file)


def test_a_file_that_is_dropped_again_resumes_by_itself(upload_page: UploadPage, site: Site, long_file: Path) -> None:
    with left_half_way(upload_page, long_file) as page:
        log = Log(page)
        expect(row(page, "long.wav")).to_contain_text("Unfinished")
        drop(page, long_file)
        expect(row(page, "long.wav")).to_contain_text("Done")
        expect(page.locator("#sending li")).to_have_count(1)
        assert log.count("POST") == 0


def test_a_file_that_was_dropped_is_known_to_the_browser_on_the_next_visit(
    upload_page: UploadPage, long_file: Path
) -> None:
    page = upload_page()
    page.on("dialog", lambda dialog: dialog.accept())
    slow_down(page)
    drop(page, long_file)
    wait_for_progress(row(page, "long.wav"))
    page.reload()
    expect(row(page, "long.wav").get_by_role("button", name="Resume long.wav")).to_be_visible()
    row(page, "long.wav").get_by_role("button", name="Discard long.wav").click()


def test_one_click_resumes_where_the_browser_kept_the_handle_of_the_file(
    upload_page: UploadPage, site: Site, long_file: Path
) -> None:
    """The browser's own folder stands for one of the desktop, whose dialogue nobody can answer here."""
    page = upload_page()
    page.on("dialog", lambda dialog: dialog.accept())
    slow_down(page)
    page.evaluate(
        """async content => {
            const folder = await navigator.storage.getDirectory();
            const handle = await folder.getFileHandle("long.wav", { create: true });
            const writable = await handle.createWritable();
            await writable.write(Uint8Array.from(atob(content), sign => sign.charCodeAt(0)));
            await writable.close();
            window.showOpenFilePicker = async () => [handle];
        }""",
        b64encode(long_file.read_bytes()).decode(),
    )
    page.get_by_role("button", name="Choose files").click()
    wait_for_progress(row(page, "long.wav"), 0.3)
    page.reload()
    slow_down(page, -1)
    log = Log(page)
    row(page, "long.wav").get_by_role("button", name="Resume long.wav").click()
    expect(row(page, "long.wav")).to_contain_text("Done")
    assert log.count("POST") == 0 and log.offsets()[0] > 0
    assert sent_whole(site, "long.wav", long_file)


def test_an_unfinished_upload_that_is_discarded_leaves_nothing(
    upload_page: UploadPage, site: Site, long_file: Path
) -> None:
    with left_half_way(upload_page, long_file) as page:
        assert reserved_bytes(site) > 0
        row(page, "long.wav").get_by_role("button", name="Discard long.wav").click()
        expect(page.locator("#sending li")).to_have_count(0)
        expect(page.get_by_role("button", name="Choose files")).to_be_focused()
        wait_until(lambda: reserved_bytes(site) == 0, what="its bytes to be given back")
        page.reload()
        expect(page.get_by_role("button", name="Choose files")).to_be_visible()
        expect(page.locator("#sending li")).to_have_count(0)


def test_an_answer_that_was_lost_is_asked_for_again_and_the_file_stored_once(
    upload_page: UploadPage, site: Site
) -> None:
    page = upload_page(offline=True)
    session = page.context.new_cdp_session(page)
    answers: list[int] = []

    def lose_the_first(event: dict[str, Any]) -> None:
        request = {"requestId": event["requestId"]}
        if event["request"]["method"] == "PATCH":
            answers.append(event["responseStatusCode"])
            if len(answers) == 1:
                session.send("Fetch.failRequest", {**request, "errorReason": "ConnectionReset"})
                return
        session.send("Fetch.continueRequest", request)

    session.on("Fetch.requestPaused", lose_the_first)
    session.send("Fetch.enable", {"patterns": [{"urlPattern": "*/tus/?*", "requestStage": "Response"}]})
    choose(page, {"name": "once.mp3", "mimeType": "audio/mpeg", "buffer": make_mp3(seed=25)})
    expect(row(page, "once.mp3")).to_contain_text("Done")
    assert answers[0] == 204 and site.names(workspace="demo").count("once.mp3") == 1
    assert reserved_bytes(site) == 0


def test_a_server_that_is_away_for_a_moment_is_asked_again_where_the_upload_stands(
    upload_page: UploadPage, site: Site, long_file: Path
) -> None:
    """A proxy answers for it: tus-js-client alone would begin a new upload."""
    page = upload_page(refusals=(502,))
    log = Log(page)
    slow_down(page)
    choose(page, long_file)
    upload = row(page, "long.wav")
    wait_for_progress(upload, 0.3)
    away: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method != "HEAD" or len(away) == 2:
            return route.fallback()
        away.append(route.request.url)
        return route.fulfill(status=502)

    page.route("**/tus/*", answer)
    upload.get_by_role("button", name="Pause long.wav").click()
    upload.get_by_role("button", name="Resume long.wav").click()
    expect(upload).to_contain_text("The server does not answer: trying again")
    slow_down(page, -1)
    expect(upload).to_contain_text("Done")
    assert log.count("POST") == 1 and len(away) == 2


def test_what_the_server_has_dropped_meanwhile_is_told_and_sent_again_by_hand(
    upload_page: UploadPage, site: Site, long_file: Path
) -> None:
    page = upload_page(refusals=(404, 410))
    log = Log(page)
    slow_down(page)
    choose(page, long_file)
    upload = row(page, "long.wav")
    wait_for_progress(upload)
    upload.get_by_role("button", name="Pause long.wav").click()
    headers = {"Tus-Resumable": "1.0.0", **site.headers}
    assert page.request.delete(log.requests[-1].url, headers=headers).status == 204
    slow_down(page, -1)
    upload.get_by_role("button", name="Resume long.wav").click()
    expect(upload).to_contain_text("The server no longer has the part that was sent")
    upload.get_by_role("button", name="Try again: long.wav").click()
    expect(upload).to_contain_text("Done")
    assert log.count("POST") == 2


def test_a_session_that_ends_half_way_is_told_and_the_upload_resumes_after_signing_in_again(
    upload_page: UploadPage, site: Site, long_file: Path
) -> None:
    page = upload_page(refusals=(401, 403))
    log = Log(page)
    slow_down(page)
    choose(page, long_file)
    upload = row(page, "long.wav")
    wait_for_progress(upload, 0.3)
    upload.get_by_role("button", name="Pause long.wav").click()
    (cookie,) = [cookie for cookie in page.context.cookies() if cookie["name"] == "sessionid"]
    page.context.clear_cookies(name="sessionid")
    slow_down(page, -1)
    upload.get_by_role("button", name="Resume long.wav").click()
    expect(upload).to_contain_text("You are signed out. Sign in again in another tab")
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    upload.get_by_role("button", name="Try again: long.wav").click()
    expect(upload).to_contain_text("Done")
    assert log.count("POST") == 1 and log.offsets()[-1] > 0
    assert sent_whole(site, "long.wav", long_file)


def test_a_file_that_changes_while_it_is_sent_is_told(upload_page: UploadPage, site: Site, long_file: Path) -> None:
    page = upload_page(offline=True)
    slow_down(page)
    choose(page, long_file)
    upload = row(page, "long.wav")
    wait_for_progress(upload)
    upload.get_by_role("button", name="Pause long.wav").click()
    long_file.write_bytes(make_wav(seconds=121, seed=5))
    upload.get_by_role("button", name="Resume long.wav").click()
    expect(upload).to_contain_text("The browser can no longer read this file")
    wait_until(lambda: reserved_bytes(site) == 0, what="its bytes to be given back")


def test_unfinished_uploads_fit_a_telephone_and_the_dark(upload_page: UploadPage, tmp_path: Path) -> None:
    name = "a-name-that-is-far-too-long-for-one-line-of-a-telephone" * 3
    path = write(tmp_path / f"{name}.wav", make_wav(seconds=120, seed=43))
    options = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    with left_half_way(upload_page, path, **options) as page:
        discard = row(page, name).get_by_role("button", name="Discard")
        expect(discard).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        check_accessible(page)
        discard.click()
