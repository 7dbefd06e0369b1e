"""Dagster's pages in a browser, by what people read and click: its class names are generated, so none is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.chromium import ARTEFACTS
from tests.e2e.dagster_stack import wait_for

PATIENCE_MS = 60_000
"""How long a page may take to show what is waited for, on a machine that is busy with other things."""
_SMALLEST_TEXT = 9  # pixels from top to bottom
_COLOURED_PIXELS = """canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue, alpha] = data.slice(at, at + 4);
    found += alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60;
  }
  return found;
}"""


@contextmanager
def browser_of_this_machine(program: str) -> Iterator[Any]:
    """A headless Chromium, until the block ends."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


class Ui:
    """One page of the UI."""

    def __init__(self, page: Any) -> None:
        page.set_default_timeout(PATIENCE_MS)
        self.page = page

    def open(self, path: str) -> None:
        self.page.goto(path)

    def sees(self, *texts: str | re.Pattern[str], within: Any = None, seconds: float = PATIENCE_MS / 1000) -> None:
        """Waits until each text can be read: as the whole of what some element says, or where the pattern matches."""
        from playwright.sync_api import expect

        for text in texts:
            found = (within or self.page).get_by_text(text, exact=True).filter(visible=True)
            expect(found.first).to_be_visible(timeout=seconds * 1000)

    def has_loaded(self) -> None:
        """Waits until nothing says that it is still loading."""
        from playwright.sync_api import expect

        expect(self.page.get_by_text("Loading...").filter(visible=True)).to_have_count(0)

    def click(self, role: Any, name: str, *, within: Any = None, exact: bool = False) -> None:
        """Clicks the first element of this role whose name contains (or is) the text."""
        (within or self.page).get_by_role(role, name=name, exact=exact).first.click()

    def filter(self, selection: str) -> None:
        """Types into the field that filters assets."""
        self.page.get_by_role("textbox", name="Search and filter assets").focus()
        self.page.keyboard.type(selection)
        self.page.keyboard.press("Enter")

    def waits_for(self, what: str, probe: Callable[[], bool]) -> None:
        wait_for(what, probe, seconds=PATIENCE_MS / 1000)

    def in_graph(self, name: str) -> Any:
        """The name of an asset or a group in the picture of the lineage."""
        return self.page.locator("svg").get_by_text(name, exact=True).first

    def box(self, element: Any) -> dict[str, float]:
        """Where an element is in the window (`x`, `y`, `width`, `height` in pixels), once it has come to rest."""
        element.wait_for()
        seen: list[Any] = [None]

        def rests() -> bool:
            seen.append(element.bounding_box())
            return seen[-1] is not None and seen[-1] == seen[-2]

        self.waits_for("the graph to come to rest", rests)
        return seen[-1]

    def is_legible(self, box: dict[str, float]) -> bool:
        """Whether a text is inside the window and not too small to read."""
        size = self.page.viewport_size
        inside = 0 <= box["x"] < size["width"] - box["width"] and 0 <= box["y"] < size["height"] - box["height"]
        return inside and box["height"] >= _SMALLEST_TEXT

    def coloured_pixels(self, canvas: Any) -> int:
        """How many pixels of a plot are neither white, grey nor black."""
        return canvas.evaluate(_COLOURED_PIXELS)

    def shot(self, name: str) -> None:
        """Leaves a picture of what the window shows, icons and all."""
        self.page.wait_for_load_state("networkidle")
        self.page.screenshot(path=ARTEFACTS / f"{name}.png")
