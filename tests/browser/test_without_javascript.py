"""The pages in a browser that runs no script."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.audio import make_jpeg, make_mp3


def test_a_file_is_uploaded_processed_thrown_away_and_taken_back(
    signed_in: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "song.mp3").write_bytes(make_mp3(seconds=3, tags=(("title", "A song"), ("artist", "A singer"))))
    (tmp_path / "cover.jpg").write_bytes(make_jpeg())
    page = signed_in(java_script_enabled=False)
    page.goto("/")
    page.get_by_role("navigation").get_by_role("link", name="Upload", exact=True).click()
    page.get_by_label("Workspace").select_option(label="Demo")
    page.get_by_label("Picture").set_input_files(tmp_path / "cover.jpg")
    page.get_by_label("Audio file").set_input_files(tmp_path / "song.mp3")
    expect(page.get_by_role("button", name="Choose files")).to_be_hidden()
    page.get_by_role("button", name="Upload").click()

    expect(page.get_by_role("heading", name="song.mp3")).to_be_visible()
    # The page looks again by itself.
    expect(page.get_by_text("Completed", exact=True)).to_be_visible()
    expect(page.locator("#facts")).to_contain_text("A singer")
    expect(page.locator("#facts")).to_contain_text("0:03")
    assert page.locator("img.artwork").evaluate("image => image.complete && image.naturalWidth") == 64

    page.get_by_role("button", name="Move to the trash").click()
    page.get_by_role("navigation").get_by_role("link", name="Trash").click()
    page.get_by_role("link", name="song.mp3").click()
    page.get_by_role("button", name="Take out of the trash").click()
    page.get_by_role("navigation").get_by_role("link", name="Files").click()
    expect(page.get_by_role("link", name="song.mp3")).to_be_visible()


def test_a_refused_file_is_told_in_words(signed_in: Callable[..., Page]) -> None:
    page = signed_in(java_script_enabled=False, refusals=(415,))
    page.goto("/upload/")
    notes = {"name": "notes.mp3", "mimeType": "audio/mpeg", "buffer": b"hello world " * 500}
    page.get_by_label("Audio file").set_input_files(notes)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("this is a text file")


def test_with_it_the_plain_form_is_still_there_for_a_picture_of_ones_own(signed_in: Callable[..., Page]) -> None:
    page = signed_in(refusals=(415,))
    page.goto("/upload/")
    expect(page.get_by_label("Picture")).to_be_hidden()
    page.get_by_text("Upload one file with a picture").click()
    page.get_by_label("Picture").set_input_files({"name": "cover.jpg", "mimeType": "image/jpeg", "buffer": make_jpeg()})
    song = make_mp3(seed=62)
    page.get_by_label("Audio file").set_input_files({"name": "a.mp3", "mimeType": "audio/mpeg", "buffer": b"x" * 999})
    page.get_by_role("button", name="Upload").click()
    # The form that was refused is open, so that its words stand above it.
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Audio file").set_input_files({"name": "a.mp3", "mimeType": "audio/mpeg", "buffer": song})
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="a.mp3")).to_be_visible()
