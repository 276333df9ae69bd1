"""The product as people run it, and what a browser's page is asked in the tests of this folder."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from playwright.sync_api import Page, expect

from tests.prepared import migrated_sqlite
from tests.running.programs import ROOT, Program, environment, started
from tests.servers import free_port, wait_until

AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
#: How long a page may take for what a person waits for: a worker, mostly.
PATIENCE = 30_000


@dataclass(frozen=True)
class Site:
    """A running AudioTricks: its address, and the logins that it printed (``demo-login.json``)."""

    address: str
    login: dict[str, str]
    program: Program

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login['token']}"}

    def get(self, path: str) -> Any:
        """What the API answers the demo user."""
        answer = requests.get(f"{self.address}/api/v1/{path}", headers=self.headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def content(self, upload: str) -> bytes:
        answer = requests.get(f"{self.address}/api/v1/uploads/{upload}/content/", headers=self.headers, timeout=10)
        answer.raise_for_status()
        return answer.content

    def upload(self, name: str, data: bytes, *, until: str = "completed", **more: Any) -> str:
        """The path of its page, once it is in that state."""
        files = {**more, "file": (name, data)}
        answer = requests.post(f"{self.address}/api/v1/uploads/", headers=self.headers, files=files, timeout=30)
        assert answer.status_code == 201, answer.text
        upload = answer.json()["id"]
        wait_until(lambda: self.get(f"uploads/{upload}/")["status"] == until, what=f"{name} to be {until}")
        return f"/files/{upload}/"

    def names(self, **query: str) -> list[str]:
        """The names of the files that the demo user can see, newest first."""
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return [row["original_filename"] for row in self.get(f"uploads/?page_size=100&{words}")["results"]]

    @contextmanager
    def resting_worker(self) -> Iterator[None]:
        """What arrives meanwhile waits to be looked into."""
        worker = self.program.children()["worker"]
        processes = [worker, *worker.children(recursive=True)]

        def rests() -> bool:
            for process in processes:
                process.suspend()
            wait_until(lambda: all(each.status() == psutil.STATUS_STOPPED for each in processes), what="its standstill")
            if not self.database_is_locked():
                return True
            for process in processes:
                process.resume()
            return False

        wait_until(rests, what="a moment at which the worker holds no lock")
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def database_is_locked(self) -> bool:
        database = Path(self.program.env["VAR_DIR"]) / "audiotricks.sqlite3"
        with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            return False


@dataclass(frozen=True)
class Person:
    """Somebody with an account, and the cookies of one who has signed in with it."""

    name: str
    password: str
    cookies: Any


@contextmanager
def running_site(folder: Path, **settings: str) -> Iterator[Site]:
    env = environment(VAR_DIR=migrated_sqlite(folder / "var"), PORT=str(free_port()), **settings)
    with started([sys.executable, "manage.py", "run"], env, folder / "log") as program:
        program.wait_for("ctrl-C stops it")
        login = json.loads((folder / "var" / "demo-login.json").read_text())
        yield Site(f"http://127.0.0.1:{env['PORT']}", login, program)


def sign_in(page: Page, name: str, password: str) -> Page:
    page.goto("/sign-in/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.locator("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


def check_accessible(page: Page, *, without: tuple[str, ...] = ()) -> None:
    """Fails on anything that axe-core calls serious or critical, by the rules of WCAG 2.2 AA and its best practices.

    ``without`` are selectors of what is not looked at.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    # Of rules that are kept, axe would describe every element that it looked at.
    run = "async exclude => (await axe.run({ exclude }, { resultTypes: ['violations'] })).violations"
    found = page.evaluate(run, list(without))
    faults = [
        f"{fault['id']} ({fault['impact']}): {fault['help']}\n"
        + "\n".join(f"    {node['html'][:200]}\n    {node['failureSummary']}" for node in fault["nodes"])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert not faults, f"{page.url}:\n" + "\n".join(faults)


def drop(page: Page, *paths: Path) -> None:
    """Drop files or folders of this machine onto the middle of the page, as the desktop does it."""
    session = page.context.new_cdp_session(page)
    size = page.viewport_size or {"width": 1280, "height": 720}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": size["width"] // 2, "y": size["height"] // 2}
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    session.detach()
