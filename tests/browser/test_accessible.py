"""axe-core on every page as people meet it: full, empty, refused, asking; light and dark, wide and narrow."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Person, Site, check_accessible
from uploads.demo import FOLDER

SignedIn = Callable[..., Page]
LOOKS = (("light", 1280), ("dark", 390))


def check_looks(page: Page, address: str | None = None) -> None:
    """The page that is open, or the one at the address, in light and dark, wide and narrow."""
    if address:
        page.goto(address)
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800})
        check_accessible(page)


def send(page: Page, address: str, button: str, **fields: str) -> None:
    """Send a form of this page with these fields filled, whatever the browser thinks of them."""
    page.goto(address)
    page.locator("form").evaluate_all("forms => forms.forEach(form => { form.noValidate = true })")
    for name, value in fields.items():
        page.locator(f"main [name={name}]").fill(value)
    page.locator("main").get_by_role("button", name=button, exact=True).click()


@pytest.fixture(scope="package")
def failed(site: Site) -> str:
    """The path of the page of a file whose audio ends early."""
    return site.upload("cut-off.flac", (FOLDER / "cut-off.flac").read_bytes(), until="failed")


def test_pages_for_strangers_and_what_they_get_wrong(open_page: SignedIn) -> None:
    page = open_page(refusals=(404, 403))
    for address in ("/sign-in/", "/password/forgotten/", "/password/new/nobody/nothing/", "/nothing/"):
        check_looks(page, address)
    send(page, "/sign-in/", "Sign in", username="nobody", password="nothing")
    expect(page.get_by_role("alert")).to_be_visible()
    check_looks(page)
    page.context.clear_cookies()
    page.get_by_label("Password", exact=True).fill("nothing")
    page.locator("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("403")).to_be_visible()
    check_looks(page)


def test_every_page_of_files(signed_in: SignedIn, addresses: list[str], failed: str) -> None:
    page = signed_in(refusals=(400, 404, 405, 415))
    for address in (*addresses, failed, f"{failed}delete/"):
        check_looks(page, address)

    page.goto(addresses[3])
    page.get_by_role("button", name="Make a link").click()
    expect(page.locator("#link-address")).to_be_visible()
    check_looks(page)
    send(page, addresses[3], "Rename", name="")
    expect(page.locator(".errors")).to_be_visible()
    check_looks(page)

    page.goto("/trash/")
    page.locator("tbody").get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Delete ticked files for good").click()
    expect(page.get_by_role("heading", name="Delete 1 file for good?")).to_be_visible()
    check_looks(page)
    page.goto("/trash/")
    page.get_by_role("link", name="Empty the trash of").first.click()
    expect(page.get_by_role("heading", name="Empty the trash of")).to_be_visible()
    check_looks(page)

    page.goto("/upload/")
    page.get_by_text("Upload one file with a picture").click()
    notes = {"name": "notes.mp3", "mimeType": "audio/mpeg", "buffer": b"hello world " * 500}
    page.get_by_label("Audio file").set_input_files(notes)  # type: ignore[arg-type]
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    check_looks(page)


def test_every_page_of_workspaces(signed_in: SignedIn, colleague: Person) -> None:
    page = signed_in(refusals=(400, 409))
    send(page, "/workspaces/new/", "Make the workspace", name="", slug="Not Short")
    expect(page.locator(".errors").first).to_be_visible()
    check_looks(page)
    send(page, "/workspaces/new/", "Make the workspace", name="Looked at")
    expect(page.get_by_role("heading", name="Looked at")).to_be_visible()
    here = page.url
    page.get_by_text("What counts").click()
    check_looks(page)

    check_looks(page, f"{here}members/")
    send(page, f"{here}members/", "Add", username="nobody")
    expect(page.locator(".errors").first).to_be_visible()
    check_looks(page)
    page.get_by_label("Username").fill(colleague.name)
    page.get_by_label("Viewer").check()
    page.get_by_role("button", name="Add").click()
    page.get_by_role("link", name=f"Change {colleague.name}").click()
    check_looks(page)
    page.get_by_role("link", name="Remove from the workspace").click()
    expect(page.get_by_role("heading", name=f"Remove {colleague.name}?")).to_be_visible()
    check_looks(page)

    check_looks(page, f"{here}settings/")
    page.get_by_label("Days until files expire").fill("5")
    page.get_by_label("Move expired files to the trash").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check_looks(page)


def test_every_page_about_oneself(open_page: SignedIn, colleague: Person) -> None:
    """Somebody new: the lists are empty too."""
    page = open_page(storage_state=colleague.cookies)
    for address in ("/", "/trash/", "/account/tokens/"):
        check_looks(page, address)
    for address, button in (("/account/", "Save"), ("/account/password/", "Change the password")):
        send(page, address, button)
        expect(page.get_by_role("alert")).to_be_visible()
        check_looks(page)
    send(page, "/account/tokens/", "Make the token", name="")
    expect(page.get_by_role("alert")).to_be_visible()
    check_looks(page)
    send(page, "/account/tokens/", "Make the token", name="looked at", current_password=colleague.password)
    expect(page.get_by_role("row", name="looked at")).to_be_visible()
    check_looks(page)
    page.get_by_role("link", name="Revoke looked at").click()
    expect(page.get_by_role("heading", name="looked at")).to_be_visible()
    check_looks(page)


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_administration(staff: SignedIn, failed: str, scheme: str, width: int) -> None:
    page = staff(color_scheme=scheme, viewport={"width": width, "height": 800})
    change = f"/admin/uploads/audioupload/{failed.split('/')[2]}/change/"
    for address in ("/admin/", "/admin/uploads/audioupload/", "/admin/uploads/audioupload/?q=nothing-like-it", change):
        page.goto(address)
        check_administration(page)
    page.get_by_role("button", name="Process again…").click()
    expect(page.get_by_role("heading", name="Process 1 file again?")).to_be_visible()
    check_administration(page)
    page.goto(change)
    page.get_by_role("button", name="Verify the stored bytes…").click()
    page.get_by_role("button", name="Verify the stored bytes", exact=True).click()
    expect(page.get_by_text("It has begun: this page shows how far it is.")).to_be_visible()
    check_administration(page)


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_lists_and_forms_of_the_administration(staff: SignedIn, scheme: str, width: int) -> None:
    page = staff(color_scheme=scheme, viewport={"width": width, "height": 800})
    for table in ("quotas/workspace", "auth/user", "audiotricks/apitoken", "django_celery_beat/periodictask"):
        page.goto(f"/admin/{table}/")
        check_administration(page)
        page.locator("#result_list tbody a").first.click()
        page.wait_for_url("**/change/**")
        check_administration(page)


#: What is not ours, on the pages of one workspace and of one user. select-name and aria-input-field-name: in rows of
#: members the theme labels the column and not the field, and the list that Django unfolds for a person (select2) is
#: called by whom one chose, so by nothing before. aria-prohibited-attr: Django's own two lists of permissions.
NOT_OURS = ("[data-inline-type=tabular] select", "[data-inline-type=tabular] .select2-container", ".help-tooltip")
#: The page of a bulk action is loaded again while one is under way (meta-refresh): it holds nothing to fill in.
RELOADED = 'meta[http-equiv="refresh"]'


def check_administration(page: Page) -> None:
    check_accessible(page, without=(*NOT_OURS, RELOADED))
