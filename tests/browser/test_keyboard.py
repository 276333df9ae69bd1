"""Everything by keyboard alone: no mouse is touched in here."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import FileChooser, Page, expect

from tests.audio import make_mp3
from tests.browser.site import Site, focus_by_tab
from tests.servers import wait_until


def test_signing_in_uploading_reading_and_signing_out(
    open_page: Callable[..., Page], site: Site, tmp_path: Path
) -> None:
    (tmp_path / "keys.mp3").write_bytes(make_mp3(seed=7))
    page = open_page()
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.goto("/upload/")
    focus_by_tab(page, page.get_by_label("Username"))
    page.keyboard.type(site.login["user"])
    focus_by_tab(page, page.get_by_label("Password"))
    page.keyboard.type(site.login["user_password"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Upload")).to_be_visible()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    focus_by_tab(page, page.get_by_role("button", name="Choose files"))
    page.keyboard.press("Enter")
    wait_until(lambda: page.title() and choosers, what="the browser's dialogue")
    choosers[0].set_files(tmp_path / "keys.mp3")
    row = page.locator("#sending li", has_text="keys.mp3")
    expect(row).to_contain_text("Done")
    focus_by_tab(page, row.get_by_role("link", name="Open keys.mp3"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keys.mp3")).to_be_visible()

    focus_by_tab(page, page.get_by_role("button", name="Sign out"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
