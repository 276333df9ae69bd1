"""What staff do with one file in the administration."""

import hashlib
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.audio import make_mp3
from tests.browser.site import Site


def event(page: Page, words: str) -> Locator:
    return page.get_by_role("row").filter(has_text=words)


def choose_action(page: Page, action: str) -> None:
    """For the one file of the list."""
    page.get_by_role("checkbox", name="Select record").check()
    page.locator("select[name=action]").select_option(label=action)
    page.get_by_role("button", name="Run").click()


def carry_out(page: Page, action: str, question: str, *, reason: str = "") -> None:
    """With a button of the file's page, and the page that asks."""
    page.get_by_role("button", name=f"{action}…").click()
    expect(page.get_by_role("heading", name=question)).to_be_visible()
    if reason:
        page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name=action, exact=True).click()


def find(page: Page, term: str, name: str) -> None:
    """From anywhere in the administration."""
    page.get_by_role("link", name="Audio uploads").first.click()
    search = page.get_by_role("textbox", name="SHA-256")
    search.fill(term)
    search.press("Enter")
    expect(page.get_by_role("rowheader", name=name)).to_be_visible()
    expect(page.get_by_role("rowheader")).to_have_count(1)


def test_a_file_is_found_held_not_deleted_released_deleted_and_purged(staff: Callable[..., Page], site: Site) -> None:
    name, data, why = "evidence.mp3", make_mp3(seed=901), "A court asks for it"
    path = site.upload(name, data)
    page = staff()
    page.goto("/admin/")
    find(page, hashlib.sha256(data).hexdigest(), name)
    page.get_by_role("link", name=name).click()
    expect(event(page, "demo uploaded the file.")).to_contain_text("Uploaded")
    expect(event(page, "The file is ready.")).to_contain_text("Completed")
    there = page.url

    carry_out(page, "Put on hold", "Put 1 file on hold?", reason=why)
    expect(event(page, "admin put the file on hold.")).to_contain_text(why)
    expect(page.get_by_role("button", name="Move to the trash")).to_have_count(0)

    find(page, hashlib.md5(data).hexdigest(), name)
    expect(page.get_by_role("row", name=name)).to_contain_text("On hold")
    choose_action(page, "Move to the trash")
    expect(page.get_by_role("heading", name="Move 1 file to the trash?")).to_be_visible()
    expect(page.get_by_text("1 of 1 will be refused")).to_be_visible()
    page.get_by_role("button", name="Move to the trash").click()
    expect(page.get_by_text("1 file was refused.")).to_be_visible()
    expect(page.get_by_role("row", name=name)).to_contain_text("The file is on legal hold")
    assert name in site.names()

    page.get_by_role("row", name=name).get_by_role("link", name=name).click()
    carry_out(page, "Release from hold", "Release 1 file from hold?")
    expect(event(page, "admin released the file from hold.")).to_be_visible()
    carry_out(page, "Move to the trash", "Move 1 file to the trash?")
    expect(event(page, "admin moved the file to the trash.")).to_be_visible()
    assert page.url.split("?")[0] == there.split("?")[0]
    assert name not in site.names()

    carry_out(page, "Delete for good", "Delete 1 file for good?")
    expect(page.get_by_text("Done: 1 file.")).to_be_visible()
    # What happened to it is kept, though the file is not.
    upload = path.split("/")[2]
    page.goto(f"/admin/uploads/uploadevent/?q={upload}")
    expect(page.get_by_text("admin deleted the file for good.")).to_be_visible()
    assert name not in site.names(status="deleted")
