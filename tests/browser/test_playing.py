"""Listening: the player of a file's page, and files that are opened by themselves."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.audio import make_jpeg, make_mp3, make_wav
from tests.browser.site import Site
from tests.servers import wait_until


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


def test_a_player_whose_address_has_ended_asks_for_its_recording_anew(
    signed_in: Callable[..., Page], site: Site
) -> None:
    """One who was sent to a storage, paused for long and goes on, as the browser sees it: no answer any more."""
    path = site.upload("paused.wav", make_wav(seed=13, seconds=600, rate=8000))
    page = signed_in(offline=True)
    asked: list[str] = []

    def answer(route: Route) -> None:
        span = route.request.headers.get("range", "")
        asked.append(span)
        if asked.count("bytes=0-") < 2 and span != "bytes=0-":
            route.abort()
        else:
            route.continue_()

    page.route("**/content/", answer)
    page.goto(path)
    audio = page.locator("audio")
    wait_until(lambda: audio.evaluate("audio => audio.readyState >= 1"), what="the length")
    audio.evaluate("audio => { audio.currentTime = 500 }")
    audio.focus()
    page.keyboard.press("Space")
    wait_until(lambda: audio.evaluate("audio => audio.currentTime > 500.3"), what="the sound")
    assert audio.evaluate("audio => [audio.paused, audio.error]") == [False, None]
    assert asked.count("bytes=0-") == 2 and len(asked) > 3


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
