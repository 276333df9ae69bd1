import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.running.programs import ROOT, environment, ran, started
from tests.servers import free_port

OF_README = ROOT / "docs" / "screenshots"
SCHEMES = ("light", "dark")
WIDTHS = (1280, 390)
HEIGHT = 800
FLAGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking"]
#: What is shown when a list of the administration holds something: its first row's page.
FIRST_ROW = "#result_list tbody th a, #result_list tbody td a"


@dataclass(frozen=True)
class Site:
    address: str
    login: dict[str, str]


@contextmanager
def demo_site() -> Iterator[Site]:
    """The product as ``make run`` starts it, with the samples of ``seed_demo``, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        var, port = Path(folder) / "var", free_port()
        env = environment(VAR_DIR=str(var), PORT=str(port))
        with started([sys.executable, "manage.py", "run"], env, Path(folder) / "log") as program:
            program.wait_for("ctrl-C stops it", seconds=180)
            seeded = ran([sys.executable, "manage.py", "seed_demo", "--wait"], env)
            if seeded.returncode:
                raise SystemExit(seeded.stderr)
            yield Site(f"http://127.0.0.1:{port}", json.loads((var / "demo-login.json").read_text()))


def signed_in(browser: Browser, site: Site, who: str, *, width: int, scheme: str) -> Page:
    context = browser.new_context(
        base_url=site.address,
        viewport={"width": width, "height": HEIGHT},
        color_scheme=scheme,  # type: ignore[arg-type]
        locale="en",
        timezone_id="UTC",
    )
    page = context.new_page()
    page.goto("/sign-in/")
    page.fill("input[name=username]", site.login[who])
    page.fill("input[name=password]", site.login[f"{who}_password"])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/sign-in/" not in address)
    return page


def settled(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    return page


def page_of(page: Page, name: str) -> str:
    """The address of the page of a file, by its name."""
    return str(settled(page, "/").get_by_role("link", name=name).first.get_attribute("href"))


def photograph_for_readme(browser: Browser, site: Site) -> None:
    OF_README.mkdir(parents=True, exist_ok=True)
    for scheme in SCHEMES:
        page = signed_in(browser, site, "user", width=1280, scheme=scheme)
        file = page_of(page, "Waltz")
        for name, address in (("files", "/"), ("file", file), ("upload", "/upload/")):
            settled(page, address).screenshot(path=OF_README / f"{name}-{scheme}.png")
        staff = signed_in(browser, site, "admin", width=1280, scheme=scheme)
        row = file.removeprefix("/files/")
        for name, address in (
            ("admin-files", "/admin/uploads/audioupload/"),
            ("admin-file", f"/admin/uploads/audioupload/{row}change/"),
        ):
            settled(staff, address).screenshot(path=OF_README / f"{name}-{scheme}.png")


def photograph_everything(browser: Browser, site: Site, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    user = signed_in(browser, site, "user", width=1280, scheme="light")
    workspace = settled(user, "/workspaces/").get_by_role("link", name="Demo", exact=True).first.get_attribute("href")
    pages = [
        *("/", "/?q=nothing-is-called-this", page_of(user, "Waltz"), "/upload/", "/trash/", "/workspaces/"),
        *("/workspaces/new/", str(workspace), "/account/", "/account/password/", "/account/tokens/", "/nothing/"),
    ]
    staff = signed_in(browser, site, "admin", width=1280, scheme="light")
    settled(staff, "/admin/")
    links = staff.locator("a[href^='/admin/']").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    lists = sorted({link for link in links if re.fullmatch(r"/admin/\w+/\w+/", link)})
    changes = []
    for address in lists:
        first = settled(staff, address).locator(FIRST_ROW)
        if first.count():
            changes.append(str(first.first.get_attribute("href")))
    for scheme in SCHEMES:
        for width in WIDTHS:
            for who, addresses in (("user", pages), ("admin", ["/admin/", *lists, *changes])):
                page = signed_in(browser, site, who, width=width, scheme=scheme)
                for address in addresses:
                    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"[0-9a-f-]{36}", "", address)).strip("-") or "files"
                    settled(page, address).screenshot(path=directory / f"{name}-{width}-{scheme}.png", full_page=True)
                page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m screenshots", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, help="photograph everything, into this folder")
    directory = parser.parse_args().directory
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("There is no chromium on this machine: install it (Debian: apt-get install chromium).")
    with demo_site() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        if directory:
            photograph_everything(browser, site, directory)
        else:
            photograph_for_readme(browser, site)
        browser.close()


if __name__ == "__main__":
    main()
