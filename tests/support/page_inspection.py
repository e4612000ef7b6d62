"""Inspection of pages in a browser: axe-core in light and dark, and the width on small screens."""

from dataclasses import dataclass, field
from typing import Any, Self, cast

from playwright.async_api import Page, ViewportSize

from tests.support import node_packages

AXE = """
async (only) => {
  if (!window.axe) loadAxe();
  const options = only ? { runOnly: { type: "rule", values: only } } : {};
  const found = await axe.run(document, { ...options, resultTypes: ["violations"] });
  return found.violations.flatMap((rule) => rule.nodes.map(
    (node) => `${rule.id}: ${node.html.slice(0, 200)} ${node.failureSummary}`));
}
"""
WATCH = """
addEventListener("securitypolicyviolation", (event) => reportViolation(
  `${event.effectiveDirective}: ${event.blockedURI} on ${location.href}`));
"""
LOADER = "window.loadAxe = function () {\n%s\n};"
"""The browser gets axe-core once, and not for each state. It reads it where it is needed."""
DETAILS = "(open) => document.querySelectorAll('details').forEach((each) => each.open = open)"


@dataclass
class PageInspection:
    """Looks at the state of a page, in light and dark.

    Attributes:
        phone, desk: sizes of the window.
        problems: what was found.
    """

    page: Page
    phone: Any
    desk: Any
    problems: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, page: Page, *, phone: Any, desk: Any) -> Self:
        """Watch a page that has no document yet: what its policy blocks is a problem."""
        script = (node_packages.install() / "node_modules/axe-core/axe.min.js").read_text()
        made = cls(page, phone, desk)
        await page.expose_function("reportViolation", made.add)
        await page.add_init_script(WATCH)
        await page.add_init_script(LOADER % script)
        return made

    def add(self, problem: str) -> None:
        """Add a problem that the browser reports."""
        self.problems.append(problem)

    async def look(self, name: str) -> None:
        """Run axe-core, and look for contents that are wider than a small screen."""
        page = self.page
        await page.evaluate(DETAILS, True)
        await page.emulate_media(color_scheme="light")
        found = await page.evaluate(AXE, None)
        await page.emulate_media(color_scheme="dark")
        found += await page.evaluate(AXE, ["color-contrast"])
        await page.set_viewport_size(cast("ViewportSize", self.phone))
        if await page.evaluate("document.documentElement.scrollWidth") > self.phone["width"]:
            found.append("wider than the screen")
        await page.set_viewport_size(cast("ViewportSize", self.desk))
        await page.evaluate(DETAILS, False)
        self.problems += [f"{name}: {problem}" for problem in found]
