"""Several files by drag and drop: sent, shown, cancelled, refused and sent again. test_resuming.py has what resumes."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Dialog, Page, expect

from tests.audio import make_mp3, make_wav
from tests.browser.sending import choose, reserved_bytes, row, slow_down, write
from tests.browser.site import Site, check_accessible, drop
from tests.servers import wait_until

SignedIn = Callable[..., Page]


def test_files_and_folders_that_are_dropped_anywhere_go_in_and_show_where_they_stand(
    upload_page: SignedIn, site: Site, tmp_path: Path
) -> None:
    one = write(tmp_path / "one.mp3", make_mp3(seed=21))
    folder = write(tmp_path / "album" / "disc" / "two 'ü' (*).mp3", make_mp3(seed=22)).parent.parent
    write(folder / ".DS_Store", b"of the desktop")
    page = upload_page()
    with site.resting_worker():
        drop(page, one, folder)
        expect(row(page, "one.mp3")).to_contain_text("Stored. It is being looked into.")
        expect(row(page, "two 'ü' (*).mp3")).to_contain_text("Stored.")
        check_accessible(page)
    expect(page.locator("#sending li[data-state=completed]")).to_have_count(2)
    expect(page.locator("#sending li")).to_have_count(2)
    expect(page.locator("#total")).to_contain_text("2 of 2 stored")
    expect(page.locator("main > [role=status]").last).to_contain_text("2 of 2 stored")
    assert {"one.mp3", "two 'ü' (*).mp3"} <= set(site.names(workspace="demo"))

    row(page, "one.mp3").get_by_role("link", name="Open one.mp3").click()
    expect(page.get_by_role("heading", name="one.mp3")).to_be_visible()


def test_of_a_folder_only_the_audio_is_taken_and_the_rest_is_counted(
    upload_page: SignedIn, site: Site, tmp_path: Path
) -> None:
    folder = write(tmp_path / "tour" / "10.mp3", make_mp3(seed=41)).parent
    write(folder / "9.mp3", make_mp3(seed=42))
    write(folder / "cover.jpg", b"a picture")
    page = upload_page()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(folder)
    expect(page.locator("#sending li[data-state=completed]")).to_have_count(2)
    assert page.locator("#sending .name").all_text_contents() == ["tour/9.mp3", "tour/10.mp3"]
    expect(page.get_by_text("Files in the folder that are not audio, left out: 1")).to_have_count(2)
    check_accessible(page)
    assert {"9.mp3", "10.mp3"} <= set(site.names(workspace="demo"))


def test_progress_is_shown_and_a_file_that_is_cancelled_half_way_leaves_nothing(
    upload_page: SignedIn, site: Site
) -> None:
    page = upload_page()
    slow_down(page)
    names = ["first.wav", "second.wav"]
    for seed, name in enumerate(names):
        choose(page, {"name": name, "mimeType": "audio/wav", "buffer": make_wav(seconds=120, seed=30 + seed)})
    first, second = (row(page, name) for name in names)
    progress = first.get_by_role("progressbar", name="first.wav")
    wait_until(lambda: 0.05 < float(progress.evaluate("bar => bar.value")) < 0.95, what="some progress")
    expect(first.locator(".words")).to_contain_text("a second")
    expect(page.locator("#total")).to_contain_text("left")
    assert reserved_bytes(site) > 0
    check_accessible(page)

    first.get_by_role("button", name="Cancel first.wav").click()
    expect(first).to_have_count(0)
    expect(second.get_by_role("button", name="Pause second.wav")).to_be_focused()
    second.get_by_role("button", name="Cancel second.wav").click()
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()
    wait_until(lambda: reserved_bytes(site) == 0, what="what was reserved to be given back")
    assert not set(names) & set(site.names())


def test_leaving_while_a_file_is_sent_is_warned_of_and_not_otherwise(upload_page: SignedIn) -> None:
    page = upload_page()
    warnings: list[str] = []

    def stay(dialog: Dialog) -> None:
        warnings.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    slow_down(page)
    choose(page, {"name": "long.wav", "mimeType": "audio/wav", "buffer": make_wav(seconds=120, seed=33)})
    expect(row(page, "long.wav").locator(".words")).to_contain_text("%")
    page.close(run_before_unload=True)
    wait_until(lambda: page.title() and warnings == ["beforeunload"], what="the warning")

    row(page, "long.wav").get_by_role("button", name="Cancel").click()
    page.goto("/trash/")
    assert warnings == ["beforeunload"]


def test_what_cannot_go_is_told_before_a_byte_of_it_is_sent(upload_page: SignedIn, tmp_path: Path) -> None:
    page = upload_page()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/tus/" in request.url else None)
    drop(page, write(tmp_path / "notes.txt", b"words"), write(tmp_path / "empty.mp3", b""))
    expect(row(page, "notes.txt")).to_contain_text("Accepted are: aac, aif")
    expect(row(page, "empty.mp3").locator(".words")).not_to_be_empty()
    expect(page.locator("#sending li[data-state=refused]")).to_have_count(2)
    expect(page.locator("main > [role=status]").last).to_contain_text("notes.txt: ")
    assert sent == []

    row(page, "notes.txt").get_by_role("button", name="Leave out notes.txt").click()
    expect(row(page, "empty.mp3").get_by_role("button", name="Try again: empty.mp3")).to_be_focused()


def test_a_refusal_is_in_the_servers_words_and_can_be_tried_again_by_keyboard(upload_page: SignedIn) -> None:
    page = upload_page(refusals=(415,))
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if answer.request.method == "PATCH" else None)
    choose(page, {"name": "words.mp3", "mimeType": "audio/mpeg", "buffer": b"hello world " * 500})
    refused = row(page, "words.mp3")
    expect(refused).to_contain_text("this is a text file")
    check_accessible(page)
    refused.get_by_role("button", name="Try again: words.mp3").focus()
    page.keyboard.press("Enter")
    wait_until(lambda: page.title() and answers == [415, 415], what="the second refusal")
    expect(refused.get_by_role("button", name="Try again: words.mp3")).to_be_visible()
    assert refused.evaluate("row => row.contains(document.activeElement)")


def test_a_recording_that_is_there_already_is_told_and_may_be_sent_anyway(upload_page: SignedIn, site: Site) -> None:
    data = make_mp3(seed=24)
    path = site.upload("before.mp3", data, workspace=(None, "demo"))
    page = upload_page()
    pieces: list[str] = []
    page.on("request", lambda request: pieces.append(request.url) if request.method == "PATCH" else None)
    choose(page, {"name": "again.mp3", "mimeType": "audio/mpeg", "buffer": data})
    held = row(page, "again.mp3")
    expect(held).to_contain_text("is in the workspace already")
    expect(held.get_by_role("link", name="Open again.mp3")).to_have_attribute("href", path)
    expect(page.locator("main > [role=status]").last).to_contain_text("again.mp3: This recording is in the workspace")
    assert pieces == [] and "again.mp3" not in site.names()
    check_accessible(page)
    held.get_by_role("button", name="Send anyway: again.mp3").click()
    expect(held).to_contain_text("Done")
    assert site.names(workspace="demo")[0] == "again.mp3"


def test_a_server_that_is_away_when_files_are_chosen_is_tried_again_by_hand(upload_page: SignedIn, site: Site) -> None:
    page = upload_page(offline=True)
    page.context.set_offline(True)
    choose(page, {"name": "later.mp3", "mimeType": "audio/mpeg", "buffer": make_mp3(seed=26)})
    later = row(page, "later.mp3")
    expect(later).to_contain_text("The server cannot be reached")
    page.context.set_offline(False)
    later.get_by_role("button", name="Try again: later.mp3").click()
    expect(later).to_contain_text("Stored.")
    assert "later.mp3" in site.names(workspace="demo")


def test_the_page_fits_a_telephone_and_the_dark(upload_page: SignedIn, tmp_path: Path) -> None:
    name = "a-name-that-is-far-too-long-for-one-line-of-a-telephone" * 3
    page = upload_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    drop(page, write(tmp_path / f"{name}.mp3", make_mp3(seed=27)), write(tmp_path / f"{name}.txt", b"words"))
    expect(page.locator("#sending li[data-state=completed]")).to_have_count(1)
    expect(page.locator("#sending li[data-state=refused]")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    small = page.locator("main button, main a, main summary").evaluate_all(
        "all => all.filter(each => each.offsetHeight && Math.min(each.offsetHeight, each.offsetWidth) < 24).length"
    )
    assert small == 0
    check_accessible(page)


def test_a_session_that_ends_before_a_file_is_sent_is_told_and_the_file_goes_after_signing_in_again(
    site: Site, upload_page: SignedIn, tmp_path: Path
) -> None:
    page = upload_page(refusals=(401,))
    cookies = page.context.cookies()
    page.context.clear_cookies(name="sessionid")
    choose(page, write(tmp_path / "after all.mp3", make_mp3(seed=77)))
    expect(row(page, "after all.mp3")).to_contain_text("You are signed out. Sign in again in another tab")
    # Signing in in another tab has changed the token too.
    page.context.add_cookies([cookie for cookie in cookies if cookie["name"] == "sessionid"])
    page.evaluate("document.querySelector('input[name=csrfmiddlewaretoken]').value = 'x'.repeat(64)")
    row(page, "after all.mp3").get_by_role("button", name="Try again: after all.mp3").click()
    expect(row(page, "after all.mp3")).to_contain_text("Done")
