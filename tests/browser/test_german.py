"""The pages in German: for whose browser asks for it, and for who chooses it."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.audio import make_mp3
from tests.browser.site import Site


def language_of(page: Page) -> str | None:
    return page.locator("html").get_attribute("lang")


def test_who_reads_german_signs_in_and_works_in_german(open_page: Callable[..., Page], site: Site) -> None:
    site.upload("lied.mp3", make_mp3(seed=601))
    page = open_page(locale="de-DE")
    page.goto("/")
    expect(page.get_by_role("heading", name="Anmelden", level=1)).to_be_visible()
    page.get_by_label("Benutzername").fill(site.login["user"])
    page.get_by_label("Passwort", exact=True).fill(site.login["user_password"])
    page.locator("main").get_by_role("button", name="Anmelden").click()
    expect(page.get_by_role("heading", name="Dateien", level=1)).to_be_visible()
    expect(page.get_by_role("row", name="lied.mp3")).to_contain_text("Fertig")
    for link, heading in (("Hochladen", "Hochladen"), ("Papierkorb", "Papierkorb"), ("Arbeitsbereiche",) * 2):
        page.get_by_role("navigation").get_by_role("link", name=link, exact=True).click()
        expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
        assert language_of(page) == "de"


def test_the_language_that_is_chosen_stays_for_the_pages_and_the_administration(staff: Callable[..., Page]) -> None:
    page = staff(locale="en-GB")
    page.goto("/")
    assert language_of(page) == "en"
    page.get_by_label("Language").select_option("de")
    page.get_by_role("contentinfo").get_by_role("button", name="Change").click()
    expect(page.get_by_role("heading", name="Dateien", level=1)).to_be_visible()
    page.get_by_role("link", name="Administration").click()
    expect(page.get_by_role("link", name="Audiodateien").first).to_be_visible()
    assert language_of(page) == "de"
    page.goto("/trash/")
    expect(page.get_by_role("heading", name="Papierkorb", level=1)).to_be_visible()
    page.get_by_label("Sprache").select_option("en")
    page.get_by_role("contentinfo").get_by_role("button", name="Ändern").click()
    expect(page.get_by_role("heading", name="Trash", level=1)).to_be_visible()
    assert language_of(page) == "en"
