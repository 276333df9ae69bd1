"""Pages in a real browser, before the real web server, worker and scheduler, which share one SQLite file."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.audio import make_jpeg, make_mp3
from tests.browser.site import AXE, PATIENCE, Person, Site, running_site, sign_in
from tests.running.programs import ROOT

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Fewer programs: pages of one profile share one, and nothing is drawn on a graphics card.
    "--process-per-site",
    "--in-process-gpu",
]
WIDE = {"width": 1280, "height": 720}
# Colours that are still on their way to others would be looked at half way.
CALM = {"reduced_motion": "reduce"}
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    built = ROOT / "audiotricks" / "static" / "audiotricks" / "build" / "pages.js"
    assert built.exists() and AXE.exists(), "the browser code is not built: run `make build`"
    # All tries at a password come from one address here.
    with running_site(tmp_path_factory.mktemp("site"), THROTTLE_SIGN_IN="1000/min") as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium on this machine, so the pages were not opened in a browser")
    assert program, "CI needs Chromium: install it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Profiles:
    """A profile for each person, shared by the tests: a new one costs half a second of a core, and its pages more."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.address = address
        self.made: dict[str, BrowserContext] = {}

    def of(self, cookies: Any) -> BrowserContext:
        """With the cookies of this person, or with none."""
        person = json.dumps(cookies)
        if person not in self.made:
            self.made[person] = self.browser.new_context(base_url=self.address, **CALM)
            # While a page is open, the program that shows the profile's pages stays.
            self.made[person].new_page().goto("/robots.txt")
        context = self.made[person]
        context.clear_cookies()
        if cookies:
            context.add_cookies(cookies["cookies"])
        return context


@pytest.fixture(scope="package")
def profiles(browser: Browser, site: Site) -> Profiles:
    return Profiles(browser, site.address)


@pytest.fixture
def open_page(browser: Browser, site: Site, profiles: Profiles) -> Iterator[Callable[..., Page]]:
    """Makes a page; in the end none may have complained of anything but what was expected.

    ``refusals`` are statuses that the page is meant to get, ``offline`` is for a page whose server goes away. What
    breaks a Content-Security-Policy is a complaint too. The profile is fresh where the page is ``alone``, which one
    must be that changes more of it than cookies, and wherever ``options`` say what a profile is like.
    """
    complaints: list[str] = []
    opened: list[Page | BrowserContext] = []

    def make(
        *,
        refusals: tuple[int, ...] = (),
        offline: bool = False,
        alone: bool = False,
        storage_state: Any = None,
        color_scheme: Any = "light",
        viewport: Any = WIDE,
        **options: Any,
    ) -> Page:
        expected = [f"a status of {status}" for status in refusals] + (["net::ERR_"] if offline else [])
        if alone or offline or options:
            own = {"base_url": site.address, **CALM, "storage_state": storage_state, **options}
            context = browser.new_context(**own)
            opened.append(context)
            page = context.new_page()
        else:
            page = profiles.of(storage_state).new_page()
            opened.append(page)
        page.emulate_media(color_scheme=color_scheme)
        page.set_viewport_size(viewport)
        # Playwright answers the dialogue of a file field, but not this one.
        page.add_init_script("delete window.showOpenFilePicker")
        page.set_default_timeout(PATIENCE)

        def note(message: Any) -> None:
            if message.type in ("error", "warning") and not any(words in message.text for words in expected):
                complaints.append(f"{message.text} ({page.url})")

        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(f"{error} ({page.url})"))
        return page

    yield make
    for each in opened:
        each.close()
    assert complaints == []


@pytest.fixture(scope="package")
def sessions(browser: Browser, site: Site) -> dict[str, Any]:
    """The cookies of the demo user and of the administrator: passwords are slow to check on purpose."""
    cookies = {}
    for name in ("user", "admin"):
        page = sign_in(browser.new_page(base_url=site.address), site.login[name], site.login[f"{name}_password"])
        cookies[name] = page.context.storage_state()
        page.close()
    return cookies


@pytest.fixture(scope="package")
def colleague(browser: Browser, site: Site, sessions: dict[str, Any]) -> Person:
    """Somebody without a workspace in common with the demo user; the administrator makes the account."""
    name, password = "colleague", "a violin and a cello"
    page = browser.new_page(base_url=site.address, storage_state=sessions["admin"])
    page.goto("/admin/auth/user/add/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("Password confirmation").fill(password)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.close()
    page = sign_in(browser.new_page(base_url=site.address), name, password)
    cookies = page.context.storage_state()
    page.close()
    return Person(name, password, cookies)


@pytest.fixture(scope="package")
def addresses(site: Site) -> list[str]:
    """Every page of ours that somebody who has signed in can open, with files that are hard to show."""
    name = "a-recording-with-a-name-that-is-so-long-that-it-cannot-stand-on-one-line-of-any-telephone" * 3
    shown = site.upload(f"{name}.mp3", make_mp3(seed=1), thumbnail=("cover.jpg", make_jpeg()))
    thrown_away = site.upload(f"thrown-away-{name}.mp3", make_mp3(seed=2))
    requests.delete(
        f"{site.address}/api/v1/uploads{thrown_away.removeprefix('/files')}", headers=site.headers, timeout=10
    ).raise_for_status()
    demo = next(each for each in site.get("workspaces/")["results"] if each["slug"] == "demo")["id"]
    files = ["/", "/?q=nothing-like-it", "/upload/", shown, "/trash/", thrown_away, "/nothing/"]
    workspaces = ["/workspaces/", "/workspaces/new/", f"/workspaces/{demo}/"]
    return [*files, *workspaces, "/account/", "/account/password/", "/account/tokens/"]


@pytest.fixture
def signed_in(open_page: Callable[..., Page], sessions: dict[str, Any]) -> Callable[..., Page]:
    """Makes a page on which the demo user is signed in."""
    return lambda **options: open_page(storage_state=sessions["user"], **options)


@pytest.fixture
def staff(open_page: Callable[..., Page], sessions: dict[str, Any]) -> Callable[..., Page]:
    """Makes a page on which the administrator is signed in."""
    return lambda **options: open_page(storage_state=sessions["admin"], **options)


@pytest.fixture
def upload_page(signed_in: Callable[..., Page]) -> Callable[..., Page]:
    """Makes an upload page with the demo workspace chosen, in a profile that knows of no unfinished upload."""

    def make(**options: Any) -> Page:
        page = signed_in(alone=True, **options)
        page.goto("/upload/")
        page.get_by_label("Workspace").select_option(label="Demo")
        return page

    return make
