"""What is asked of every page: it fits, loads whole, holds still, and is light or dark as the reader wishes."""

from collections.abc import Callable

from playwright.sync_api import Page, expect


def assert_it_fits(page: Page, *widths: int) -> None:
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, (page.url, width)


def test_it_fits_its_screen_and_loads_whole(signed_in: Callable[..., Page], addresses: list[str]) -> None:
    page = signed_in(refusals=(404,))
    failed: list[str] = []
    # What a page that is left did not wait for is no failure.
    page.on(
        "requestfailed",
        lambda request: failed.append(request.url) if request.failure != "net::ERR_ABORTED" else None,
    )
    for address in addresses:
        page.goto(address)
        assert_it_fits(page, 1600, 1280, 390)
        assert page.locator("h1").count() == 1, address
        unlabelled = page.locator("main input:not([type=hidden]), main select").evaluate_all(
            "fields => fields.filter(field => !field.hidden && !field.labels.length).map(field => field.name)"
        )
        assert unlabelled == [], address
    assert failed == []


def test_the_administration_and_the_documents_fit_and_load_whole(staff: Callable[..., Page]) -> None:
    page = staff()
    for address in ("/admin/", "/admin/uploads/audioupload/", "/api/docs/"):
        page.goto(address)
        assert_it_fits(page, 1280, 390)
    expect(page.locator(".opblock").first).to_be_visible()


# The inside of the browser's own player is not ours: its timeline makes room for the length.
NOTE_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const shift of list.getEntries())
    if (shift.sources.some(({ node }) => document.contains(node))) window.shifts.push(shift.value);
}).observe({ type: "layout-shift", buffered: true });
"""


def test_nothing_on_a_page_moves_once_it_is_painted(signed_in: Callable[..., Page], addresses: list[str]) -> None:
    # With nothing in its cache, each picture and font comes late.
    page = signed_in(refusals=(404,), alone=True)
    page.add_init_script(NOTE_SHIFTS)
    for address in addresses:
        page.goto(address, wait_until="networkidle")
        # A tenth of what counts as good (Core Web Vitals): a slow server's page may grow while it comes.
        assert page.evaluate("window.shifts.reduce((sum, each) => sum + each, 0)") < 0.01, address


def test_the_ground_is_dark_where_that_is_wished_for(open_page: Callable[..., Page]) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        page.goto("/sign-in/")
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["light"] == "rgb(246, 247, 249)"
    assert grounds["dark"] == "rgb(18, 22, 29)"
