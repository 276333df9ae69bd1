"""The pages in a real browser, before the real web server and worker: without JavaScript, by keyboard, on a phone."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, FileChooser, Page, expect, sync_playwright

from tests.audio import make_jpeg, make_mp3, make_wav
from tests.running.programs import environment, started
from tests.servers import free_port, wait_until

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SECONDS = 30


@dataclass(frozen=True)
class Site:
    address: str
    login: dict[str, str]

    def upload(self, name: str, data: bytes, **more: Any) -> str:
        """The path of its page, once it is completed."""
        headers = {"Authorization": f"Bearer {self.login['token']}"}
        files = {**more, "file": (name, data)}
        answer = requests.post(f"{self.address}/api/v1/uploads/", headers=headers, files=files, timeout=30)
        row = f"{self.address}/api/v1/uploads/{answer.json()['id']}/"
        wait_until(
            lambda: requests.get(row, headers=headers, timeout=10).json()["status"] == "completed", what="the worker"
        )
        return f"/files/{answer.json()['id']}/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    port = free_port()
    env = environment(VAR_DIR=str(folder / "var"), PORT=str(port))
    with started([sys.executable, "manage.py", "run"], env, folder / "log") as program:
        program.wait_for("ctrl-C stops it")
        yield Site(f"http://127.0.0.1:{port}", json.loads((folder / "var" / "demo-login.json").read_text()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium on this machine, so the pages were not opened in a browser")
    assert program, "CI needs Chromium: install it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Makes a page of a fresh profile; in the end none may have complained of anything but a status that was asked for.

    What breaks a Content-Security-Policy is a complaint too.
    """
    complaints: list[str] = []
    contexts = []

    def make(*, refusals: tuple[int, ...] = (), **options: Any) -> Page:
        context = browser.new_context(base_url=site.address, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type in ("error", "warning")
                and not any(f"a status of {status}" in message.text for status in refusals)
                else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, name: str, password: str) -> Page:
    page.goto("/sign-in/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


@pytest.fixture
def signed_in(open_page: Callable[..., Page], site: Site) -> Callable[..., Page]:
    return lambda **options: sign_in(open_page(**options), site.login["user"], site.login["user_password"])


def test_without_javascript_a_file_is_uploaded_processed_thrown_away_and_taken_back(
    signed_in: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "song.mp3").write_bytes(make_mp3(seconds=3, tags=(("title", "A song"), ("artist", "A singer"))))
    (tmp_path / "cover.jpg").write_bytes(make_jpeg())
    page = signed_in(java_script_enabled=False)
    page.get_by_role("link", name="Upload", exact=True).click()
    page.get_by_label("Workspace").select_option(label="Demo")
    page.get_by_label("Picture").set_input_files(tmp_path / "cover.jpg")
    page.get_by_label("Audio file").set_input_files(tmp_path / "song.mp3")
    page.get_by_role("button", name="Upload").click()

    expect(page.get_by_role("heading", name="song.mp3")).to_be_visible()
    # The page looks again by itself.
    expect(page.get_by_text("Completed", exact=True)).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_text("A song, A singer")).to_be_visible()
    expect(page.locator("dl")).to_contain_text("0:03")
    assert page.locator("img.artwork").evaluate("image => image.complete && image.naturalWidth") == 64

    page.get_by_role("button", name="Move to the trash").click()
    page.get_by_role("navigation").get_by_role("link", name="Trash").click()
    page.get_by_role("link", name="song.mp3").click()
    page.get_by_role("button", name="Take out of the trash").click()
    page.get_by_role("navigation").get_by_role("link", name="Files").click()
    expect(page.get_by_role("link", name="song.mp3")).to_be_visible()


def test_without_javascript_a_refused_file_is_told_in_words(signed_in: Callable[..., Page]) -> None:
    page = signed_in(java_script_enabled=False, refusals=(415,))
    page.goto("/upload/")
    notes = {"name": "notes.mp3", "mimeType": "audio/mpeg", "buffer": b"hello world " * 500}
    page.get_by_label("Audio file").set_input_files(notes)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("this is a text file")


def test_a_file_plays_and_can_be_sought_in(signed_in: Callable[..., Page], site: Site) -> None:
    path = site.upload("long.wav", make_wav(seconds=60, rate=8000))
    page = signed_in()
    answers: list[tuple[int, str]] = []
    page.on(
        "response",
        lambda answer: (
            answers.append((answer.status, answer.headers.get("content-range", "")))
            if answer.url.endswith("/content/")
            else None
        ),
    )
    page.goto(path)
    audio = page.locator("audio")
    wait_until(lambda: audio.evaluate("audio => audio.readyState >= 1"), what="the length")
    assert audio.evaluate("audio => [audio.duration, audio.seekable.end(0)]") == pytest.approx([60, 60], abs=0.1)

    audio.evaluate("audio => { audio.currentTime = 45 }")
    wait_until(lambda: audio.evaluate("audio => !audio.seeking && audio.readyState >= 3"), what="the seek")
    assert audio.evaluate("audio => audio.currentTime") == pytest.approx(45, abs=0.1)

    audio.focus()
    page.keyboard.press("Space")
    wait_until(lambda: audio.evaluate("audio => audio.currentTime > 45.3"), what="the sound")
    assert audio.evaluate("audio => audio.error") is None
    assert answers and {status for status, _ in answers} == {206}
    assert all(span.startswith("bytes ") for _, span in answers)


def focus_by_tab(page: Page, selector: str) -> None:
    """Tab until the element has the focus, which must be seen."""
    for _ in range(40):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")


def test_all_of_it_goes_by_keyboard_alone(open_page: Callable[..., Page], site: Site, tmp_path: Path) -> None:
    (tmp_path / "keys.mp3").write_bytes(make_mp3(seed=7))
    page = open_page()
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.goto("/upload/")
    page.keyboard.type(site.login["user"])
    page.keyboard.press("Tab")
    page.keyboard.type(site.login["user_password"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Upload a file")).to_be_visible()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    focus_by_tab(page, "input[name=file]")
    page.keyboard.press("Enter")
    wait_until(lambda: page.title() and choosers, what="the browser's dialogue")
    choosers[0].set_files(tmp_path / "keys.mp3")
    focus_by_tab(page, "main button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keys.mp3")).to_be_visible()
    expect(page.get_by_text("Completed", exact=True)).to_be_visible(timeout=SECONDS * 1000)

    focus_by_tab(page, "nav button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.fixture(scope="module")
def addresses(site: Site) -> list[str]:
    """Every page, with files that are hard to show."""
    name = "a-recording-with-a-name-that-is-so-long-that-it-cannot-stand-on-one-line-of-any-telephone" * 3
    shown = site.upload(f"{name}.mp3", make_mp3(seed=1), thumbnail=("cover.jpg", make_jpeg()))
    thrown_away = site.upload(f"thrown-away-{name}.mp3", make_mp3(seed=2))
    requests.delete(
        f"{site.address}/api/v1/uploads{thrown_away.removeprefix('/files')}",
        headers={"Authorization": f"Bearer {site.login['token']}"},
        timeout=10,
    ).raise_for_status()
    admin = ["/admin/", "/admin/uploads/audioupload/"]
    return ["/", "/upload/", shown, "/trash/", thrown_away, "/nothing/", *admin, "/api/docs/"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_its_screen_and_loads_whole(
    open_page: Callable[..., Page], site: Site, addresses: list[str], width: int, scheme: str
) -> None:
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme, refusals=(404,))
    failed: list[str] = []
    # What a page that is left did not wait for is no failure.
    page.on(
        "requestfailed",
        lambda request: failed.append(request.url) if request.failure != "net::ERR_ABORTED" else None,
    )
    sign_in(page, site.login["admin"], site.login["admin_password"])
    for address in addresses:
        page.goto(address)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, address
        unlabelled = page.locator("main input:not([type=hidden]), main select").evaluate_all(
            "fields => fields.filter(field => !field.labels.length).map(field => field.name)"
        )
        assert address.startswith(("/admin/", "/api/")) or unlabelled == [], address
    expect(page.locator(".opblock").first).to_be_visible()
    assert failed == []


def test_the_ground_is_dark_where_that_is_wished_for(signed_in: Callable[..., Page]) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = signed_in(color_scheme=scheme)
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["light"] == "rgb(246, 247, 249)"
    assert grounds["dark"] == "rgb(18, 22, 29)"


def test_a_stored_name_runs_nothing(signed_in: Callable[..., Page], site: Site) -> None:
    name = "<img src=x onerror=alert(1)>.mp3"
    path = site.upload(name, make_mp3(seed=11))
    page = signed_in()
    opened: list[str] = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    page.goto("/")
    expect(page.get_by_role("link", name=name)).to_be_visible()
    page.goto(path)
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    assert opened == []


def test_a_file_and_its_picture_can_be_opened_by_themselves(signed_in: Callable[..., Page], site: Site) -> None:
    """Promise 42. What keeps scripts from running in them keeps neither from being heard or seen."""
    path = site.upload("alone.mp3", make_mp3(seed=12, seconds=2), thumbnail=("cover.jpg", make_jpeg()))
    page = signed_in()
    page.goto(f"/api/v1/uploads{path.removeprefix('/files')}content/")
    media = page.locator("video, audio")
    wait_until(lambda: media.evaluate("media => media.readyState >= 1"), what="the length")
    assert media.evaluate("media => media.duration") == pytest.approx(2, abs=0.2)
    page.goto(f"/api/v1/uploads{path.removeprefix('/files')}thumbnail/")
    assert page.locator("img").evaluate("image => image.naturalWidth") == 64
