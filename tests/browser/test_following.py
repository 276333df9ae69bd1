"""Pages that follow what moves, without being loaded again."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.audio import make_mp3
from tests.browser.site import Site
from tests.servers import wait_until

#: Gone when the page is loaded again.
MARK = "window.stillTheSamePage = true"


def arrived(site: Site, name: str, seed: int) -> str:
    """A file that nobody has looked into yet; the path of its page."""
    return site.upload(name, make_mp3(seed=seed, seconds=2), until="uploaded")


def test_a_files_page_follows_its_state_and_says_so_to_a_screen_reader(
    signed_in: Callable[..., Page], site: Site
) -> None:
    page = signed_in()
    with site.resting_worker():
        page.goto(arrived(site, "moving.mp3", seed=41))
        expect(page.locator("#status")).to_contain_text("Uploaded")
        page.evaluate(MARK)
    expect(page.locator("#status")).to_contain_text("Completed")
    expect(page.locator("#facts")).to_contain_text("0:02")
    expect(page.locator("main > [role=status]").last).to_contain_text("Completed")
    assert page.evaluate(MARK.split(" =")[0])


def test_what_holds_the_focus_is_left_alone_until_it_is_left(signed_in: Callable[..., Page], site: Site) -> None:
    page = signed_in()
    with site.resting_worker():
        page.goto(arrived(site, "touched.mp3", seed=42))
        page.locator("#facts a").focus()
    expect(page.locator("#status")).to_contain_text("Completed")
    expect(page.locator("#facts a")).to_be_focused()
    expect(page.locator("#facts")).not_to_contain_text("0:02")
    page.keyboard.press("Tab")
    expect(page.locator("#facts")).to_contain_text("0:02")


def test_audio_that_was_begun_is_never_taken_away(signed_in: Callable[..., Page], site: Site) -> None:
    page = signed_in()
    with site.resting_worker():
        page.goto(arrived(site, "listening.mp3", seed=51))
        page.evaluate("document.querySelector('#facts').append(document.querySelector('audio'))")
        page.locator("audio").evaluate("audio => { audio.currentTime = 1 }")
    expect(page.locator("#status")).to_contain_text("Completed")
    expect(page.locator("#facts")).not_to_contain_text("0:02")
    page.locator("audio").evaluate("audio => { audio.currentTime = 0 }")
    expect(page.locator("#facts")).to_contain_text("0:02")


def test_the_list_follows_each_file_and_keeps_what_was_ticked(signed_in: Callable[..., Page], site: Site) -> None:
    page = signed_in()
    with site.resting_worker():
        arrived(site, "listed.mp3", seed=43)
        page.goto("/?q=listed.mp3")
        row = page.locator("tr", has_text="listed.mp3")
        expect(row).to_contain_text("Uploaded")
        row.get_by_role("checkbox").check()
        page.get_by_label("Name contains").focus()
    expect(row).to_contain_text("Completed")
    expect(row.get_by_role("checkbox")).to_be_checked()
    expect(page.get_by_label("Name contains")).to_be_focused()
    expect(page.locator("main > [role=status]").last).to_have_text("listed.mp3: Completed")


def test_nothing_is_asked_for_while_nobody_looks_or_nothing_moves(signed_in: Callable[..., Page], site: Site) -> None:
    still = site.upload("still.mp3", make_mp3(seed=44))
    page = signed_in(alone=True)
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.resource_type == "fetch" else None)
    page.goto(still)
    page.clock.run_for(60_000)
    with site.resting_worker():
        page.goto(arrived(site, "unseen.mp3", seed=45))
        page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
        page.clock.run_for(60_000)
        assert asked == []
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        wait_until(lambda: page.title() and asked, what="a look at once")


def test_a_server_that_is_away_for_a_while_is_asked_again_quietly(signed_in: Callable[..., Page], site: Site) -> None:
    page = signed_in(offline=True)
    page.clock.install()
    with site.resting_worker():
        page.goto(arrived(site, "patient.mp3", seed=46))
        page.context.set_offline(True)
        page.clock.run_for(30_000)
        page.context.set_offline(False)

    def completed() -> bool:
        page.clock.run_for(10_000)
        return "Completed" in page.locator("#status").inner_text()

    wait_until(completed, what="the page to be up to date")


def test_times_are_shown_in_the_readers_zone(signed_in: Callable[..., Page], site: Site) -> None:
    path = site.upload("timed.mp3", make_mp3(seed=47))
    shown = {}
    for zone in ("Asia/Tokyo", "America/New_York"):
        page = signed_in(timezone_id=zone)
        page.goto("/")
        page.goto(path)
        moment = page.locator("#facts time")
        shown[zone] = moment.get_attribute("datetime") or ""
        hour = moment.evaluate("time => new Date(time.dateTime).toLocaleTimeString('en', { hour: 'numeric' })")
        assert re.sub(r"\D.*", "", hour) in moment.inner_text()
    assert shown["Asia/Tokyo"].endswith("+09:00")
    assert shown["America/New_York"][-6:] in ("-04:00", "-05:00")


def test_one_box_ticks_all_of_its_table(signed_in: Callable[..., Page], site: Site) -> None:
    for seed in (48, 49):
        site.upload(f"ticked-{seed}.mp3", make_mp3(seed=seed))
    page = signed_in()
    page.goto("/?q=ticked-")
    both = page.get_by_label("Tick all files of this page")
    boxes = page.locator("tbody").get_by_role("checkbox")
    both.check()
    expect(boxes.nth(0)).to_be_checked()
    expect(boxes.nth(1)).to_be_checked()
    boxes.nth(0).uncheck()
    assert both.evaluate("box => [box.checked, box.indeterminate]") == [False, True]
    boxes.nth(1).uncheck()
    assert both.evaluate("box => [box.checked, box.indeterminate]") == [False, False]


def test_a_link_is_copied_with_one_button(signed_in: Callable[..., Page], site: Site) -> None:
    path = site.upload("shared.mp3", make_mp3(seed=50))
    page = signed_in(permissions=["clipboard-read", "clipboard-write"])
    page.goto(path)
    page.get_by_role("button", name="Make a link").click()
    button = page.get_by_role("button", name="Copy the link")
    button.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#link-address").inner_text()
    expect(button).to_be_visible()
