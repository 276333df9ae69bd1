"""What people do here, from end to end: by mouse, and by keyboard alone."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.audio import make_jpeg, make_mp3, make_wav
from tests.browser.hands import Hand, Keys, Mouse
from tests.browser.site import Person, Site
from tests.servers import wait_until

SignedIn = Callable[..., Page]


@pytest.fixture(params=[Mouse, Keys], ids=["mouse", "keys"])
def hand(request: pytest.FixtureRequest) -> Hand:
    made: Hand = request.param()
    return made


@pytest.fixture
def seed(hand: Hand) -> int:
    """Other recordings for each hand, so that none is there already."""
    return 700 if isinstance(hand, Mouse) else 800


def go(hand: Hand, page: Page, name: str) -> None:
    """By the links at the top of every page."""
    hand.press(page.get_by_role("navigation").get_by_role("link", name=name, exact=True))
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def test_signing_in_uploading_and_signing_out(
    hand: Hand, open_page: SignedIn, site: Site, seed: int, tmp_path: Path
) -> None:
    name = f"given {seed}.mp3"
    (tmp_path / name).write_bytes(make_mp3(seed=seed))
    page = open_page()
    page.goto("/upload/")
    hand.write(page.get_by_label("Username"), site.login["user"])
    hand.write(page.get_by_label("Password", exact=True), site.login["user_password"])
    hand.press(page.locator("main").get_by_role("button", name="Sign in"))
    expect(page.get_by_role("heading", name="Upload", level=1)).to_be_visible()

    hand.choose(page.get_by_label("Workspace"), "Demo")
    hand.give(page, tmp_path / name)
    row = page.locator("#sending li", has_text=name)
    expect(row).to_contain_text("Done")
    hand.press(row.get_by_role("link", name=f"Open {name}"))
    expect(page.get_by_role("heading", name=name)).to_be_visible()

    hand.press(page.get_by_role("button", name="Sign out"))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_first_step_of_the_keyboard_leads_past_what_stands_on_every_page(signed_in: SignedIn) -> None:
    page = signed_in()
    page.goto("/trash/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_uploading_by_the_form(hand: Hand, signed_in: SignedIn, seed: int, tmp_path: Path) -> None:
    name = f"sent {seed}.mp3"
    (tmp_path / name).write_bytes(make_mp3(seed=seed + 1))
    (tmp_path / "cover.jpg").write_bytes(make_jpeg())
    page = signed_in()
    page.goto("/upload/")
    hand.press(page.get_by_text("Upload one file with a picture"))
    for field, path in (("Picture", tmp_path / "cover.jpg"), ("Audio file", tmp_path / name)):
        with page.expect_file_chooser() as chooser:
            hand.press(page.get_by_label(field))
        chooser.value.set_files(path)
    hand.press(page.get_by_role("button", name="Upload", exact=True))
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Completed")
    expect(page.locator("img.artwork")).to_be_visible()


def test_listening_from_the_second_half(hand: Hand, signed_in: SignedIn, site: Site, seed: int) -> None:
    page = signed_in()
    page.goto(site.upload(f"long {seed}.wav", make_wav(seconds=30, rate=8000, seed=seed)))
    audio = page.locator("audio")
    wait_until(lambda: audio.evaluate("audio => audio.readyState >= 1"), what="the length")
    hand.seek(audio)
    wait_until(lambda: audio.evaluate("audio => !audio.seeking && audio.readyState >= 3"), what="the seek")
    begin = audio.evaluate("audio => audio.currentTime")
    assert begin > 15
    hand.play(audio)
    wait_until(lambda: audio.evaluate("audio => audio.currentTime") > begin + 0.3, what="the sound")
    hand.play(audio)
    wait_until(lambda: audio.evaluate("audio => audio.paused"), what="the pause")


def test_renaming_throwing_away_and_taking_back(hand: Hand, signed_in: SignedIn, site: Site, seed: int) -> None:
    old, new = f"take one {seed}.mp3", f"take two {seed}.mp3"
    site.upload(old, make_mp3(seed=seed + 2), workspace=(None, "demo"))
    page = signed_in()
    page.goto("/")
    hand.press(page.get_by_role("link", name=old, exact=True))
    hand.write(page.locator("main").get_by_role("textbox", name="Name"), new)
    hand.press(page.get_by_role("button", name="Rename"))
    expect(page.get_by_role("heading", name=new, level=1)).to_be_visible()

    hand.press(page.get_by_role("button", name="Move to the trash"))
    expect(page.get_by_text("1 file is in the trash now.")).to_be_visible()
    assert new not in site.names()

    go(hand, page, "Trash")
    hand.tick(page.get_by_label(f"Tick {new}"))
    hand.press(page.get_by_role("button", name="Take ticked files out"))
    expect(page.get_by_role("link", name=new)).to_have_count(0)
    go(hand, page, "Files")
    hand.write(page.get_by_label("Name contains"), new)
    hand.press(page.get_by_role("button", name="Show", exact=True))
    expect(page.get_by_role("row", name=new)).to_contain_text("Completed")


def test_a_token_is_made_shown_once_used_and_revoked(hand: Hand, signed_in: SignedIn, site: Site, seed: int) -> None:
    name = f"studio {seed}"
    page = signed_in()
    page.goto("/account/")
    hand.press(page.get_by_role("link", name="Make and revoke tokens"))
    hand.write(page.get_by_label("Name"), name)
    hand.choose(page.get_by_label("Expires"), "in 7 days")
    hand.write(page.get_by_label("Current password"), site.login["user_password"])
    hand.press(page.get_by_role("button", name="Make the token"))
    made = page.get_by_role("status", name=name)
    secret = made.locator("code").first.inner_text()

    def answer() -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return requests.get(f"{site.address}/api/v1/uploads/", headers=headers, timeout=10).status_code

    assert answer() == 200
    page.goto("/account/tokens/")
    expect(page.get_by_role("row", name=name)).to_contain_text("Works")
    assert secret not in page.content()

    hand.press(page.get_by_role("link", name=f"Revoke {name}"))
    hand.press(page.get_by_role("button", name="Revoke the token"))
    expect(page.get_by_role("heading", name="API tokens")).to_be_visible()
    expect(page.get_by_role("row", name=name)).to_have_count(0)
    assert answer() == 401


def test_a_member_is_added_sees_the_files_and_gets_another_role(
    hand: Hand, signed_in: SignedIn, open_page: SignedIn, site: Site, colleague: Person, seed: int
) -> None:
    workspace, name = f"Choir {seed}", f"rehearsal {seed}.mp3"
    page = signed_in()
    page.goto("/")
    go(hand, page, "Workspaces")
    hand.press(page.get_by_role("link", name="New workspace"))
    hand.write(page.get_by_label("Name", exact=True), workspace)
    hand.press(page.get_by_role("button", name="Make the workspace"))
    expect(page.get_by_role("heading", name=workspace, level=1)).to_be_visible()
    path = site.upload(name, make_mp3(seed=seed + 3), workspace=(None, workspace.lower().replace(" ", "-")))

    other = open_page(storage_state=colleague.cookies, refusals=(404,))
    other.goto("/workspaces/")
    expect(other.get_by_role("heading", name="Workspaces", level=1)).to_be_visible()
    expect(other.get_by_role("link", name=workspace)).to_have_count(0)
    other.goto(path)
    expect(other.get_by_role("heading", name=name)).to_have_count(0)

    hand.press(page.get_by_role("link", name="Add a member"))
    hand.write(page.get_by_label("Username"), colleague.name)
    hand.tick(page.get_by_label("Viewer"))
    hand.press(page.get_by_role("button", name="Add"))
    expect(page.get_by_role("row", name=colleague.name)).to_contain_text("Viewer")
    other.goto(path)
    expect(other.get_by_role("heading", name=name)).to_be_visible()
    expect(other.get_by_role("button", name="Rename")).to_have_count(0)

    hand.press(page.get_by_role("link", name=f"Change {colleague.name}"))
    hand.tick(page.get_by_label("Editor"))
    hand.press(page.get_by_role("button", name="Save"))
    expect(page.get_by_role("row", name=colleague.name)).to_contain_text("Editor")
    other.reload()
    expect(other.get_by_role("button", name="Rename")).to_be_visible()

    hand.press(page.get_by_role("link", name=f"Change {colleague.name}"))
    hand.press(page.get_by_role("link", name="Remove from the workspace"))
    hand.press(page.get_by_role("button", name="Remove"))
    expect(page.get_by_role("row", name=colleague.name)).to_have_count(0)
    other.reload()
    expect(other.get_by_role("heading", name=name)).to_have_count(0)


def test_going_back_shows_the_filters_that_the_list_was_made_with(signed_in: SignedIn) -> None:
    page = signed_in()
    page.goto("/?q=first")
    page.locator("select[name=file_type]").select_option("mp3")
    page.get_by_role("searchbox").fill("second")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile("second"))
    page.go_back()
    expect(page).to_have_url(re.compile("first$"))
    expect(page.get_by_role("searchbox")).to_have_value("first")
    expect(page.locator("select[name=file_type]")).to_have_value("")
