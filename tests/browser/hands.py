"""Two ways of using a page: by mouse, and by keyboard alone. Whatever one can do, the other can."""

from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Locator, Page, expect

from tests.browser.site import drop
from tests.servers import wait_until

#: What holds the focus after a press of Tab: whether one sees that it does, whether nothing lies over it, and whether
#: it stands behind what held it before. Null at the end of the page, where the browser's own buttons come.
LOOK_AT_FOCUS = """before => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const { top, left, width, height } = element.getBoundingClientRect();
    const shown = document.elementFromPoint(left + width / 2, top + height / 2);
    const style = getComputedStyle(element);
    return {
        what: element.outerHTML.slice(0, 200),
        isSeen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        isOnTop: width > 0 && height > 0 && (element.contains(shown) || shown?.contains(element)),
        comesLater: !before || before === element || !before.isConnected
            || Boolean(before.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING),
    };
}"""


class Hand(Protocol):
    def press(self, element: Locator) -> None:
        """A link, a button, or the heading of what unfolds."""

    def write(self, element: Locator, text: str) -> None:
        """Into a field, in the place of what stands there."""

    def tick(self, element: Locator) -> None:
        """A box, or one of several choices."""

    def choose(self, element: Locator, label: str) -> None:
        """One of a list that unfolds."""

    def give(self, page: Page, *paths: Path) -> None:
        """Files to the upload page."""

    def play(self, audio: Locator) -> None: ...

    def seek(self, audio: Locator) -> None:
        """Somewhere into the second half."""


class Mouse:
    def press(self, element: Locator) -> None:
        element.click()

    def write(self, element: Locator, text: str) -> None:
        element.fill(text)

    def tick(self, element: Locator) -> None:
        element.check()

    def choose(self, element: Locator, label: str) -> None:
        element.select_option(label=label)

    def give(self, page: Page, *paths: Path) -> None:
        drop(page, *paths)

    def play(self, audio: Locator) -> None:
        audio.click(position={"x": 30, "y": middle_of(audio)})

    def seek(self, audio: Locator) -> None:
        width = audio.evaluate("audio => audio.offsetWidth")
        audio.click(position={"x": width * 0.6, "y": middle_of(audio)})


def middle_of(element: Locator) -> float:
    return float(element.evaluate("element => element.offsetHeight / 2"))


class Keys:
    """Tab, Enter, Space, arrows and letters. Each step of the focus is seen, and goes forward in the page."""

    def press(self, element: Locator) -> None:
        self.reach(element)
        element.page.keyboard.press("Enter")

    def write(self, element: Locator, text: str) -> None:
        self.reach(element)
        element.page.keyboard.press("Control+A")
        element.page.keyboard.type(text)

    def tick(self, element: Locator) -> None:
        """Tab leads to one of several choices, arrows from there to the others."""
        name, value = element.get_attribute("name"), element.get_attribute("value")
        group = element.page.locator(f"input[name='{name}']")
        self.reach(group if element.get_attribute("type") == "radio" else element)
        for _ in range(group.count()):
            if element.evaluate("box => box === document.activeElement"):
                break
            element.page.keyboard.press("ArrowDown")
        if not element.is_checked():
            element.page.keyboard.press("Space")
        assert element.is_checked(), f"{name}={value}"

    def choose(self, element: Locator, label: str) -> None:
        self.reach(element)
        element.page.keyboard.type(label)
        assert element.evaluate("list => list.selectedOptions[0].label") == label

    def give(self, page: Page, *paths: Path) -> None:
        choosers: list[Any] = []
        page.once("filechooser", lambda chooser: choosers.append(chooser))
        self.press(page.get_by_role("button", name="Choose files"))
        wait_until(lambda: page.title() and choosers, what="the browser's dialogue")
        choosers[0].set_files(paths)

    def play(self, audio: Locator) -> None:
        self.reach(audio)
        audio.page.keyboard.press("Space")

    def seek(self, audio: Locator) -> None:
        self.reach(audio)
        for _ in range(100):
            if audio.evaluate("audio => audio.currentTime > audio.duration / 2"):
                return
            audio.page.keyboard.press("ArrowRight")
        raise AssertionError("the arrows do not lead into the second half")

    def reach(self, target: Locator) -> None:
        """Tab until the element, or one of several, holds the focus."""
        expect(target.first).to_be_attached()
        page = target.page
        before = page.evaluate_handle("document.activeElement === document.body ? null : document.activeElement")
        for _ in range(150):
            if target.evaluate_all("all => all.includes(document.activeElement)"):
                return
            page.keyboard.press("Tab")
            step = page.evaluate(LOOK_AT_FOCUS, before)
            if step:
                assert step["isSeen"] and step["isOnTop"] and step["comesLater"], step
            before = page.evaluate_handle("document.activeElement === document.body ? null : document.activeElement")
        raise AssertionError(f"{target} is not reached by Tab")
