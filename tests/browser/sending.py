"""The upload page as people use it, and the network as it is on a bad day."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from tests.browser.site import Site

#: Bytes a second of a slow line.
SLOW = 150_000


def row(page: Page, name: str) -> Locator:
    return page.locator("#sending li", has_text=name)


def choose(page: Page, *files: Path | dict[str, Any]) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(list(files))  # type: ignore[arg-type]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def slow_down(page: Page, speed: int = SLOW) -> None:
    """``-1`` is as fast as it goes."""
    network = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": speed}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", network)


def reserved_bytes(site: Site) -> int:
    demo = next(each for each in site.get("workspaces/")["results"] if each["slug"] == "demo")
    return int(site.get(f"workspaces/{demo['id']}/quota/")["reserved_bytes"])
