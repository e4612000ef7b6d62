"""Inspection of pages in a browser: axe-core in light and dark, and the width on small screens."""

from dataclasses import dataclass, field
from typing import Any, cast

from playwright.async_api import Page, ViewportSize

AXE = """
async (only) => {
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
DETAILS = "(open) => document.querySelectorAll('details').forEach((each) => each.open = open)"


@dataclass
class PageInspection:
    """Looks at the state of a page, in light and dark.

    Attributes:
        script: axe-core.
        phone, desk: sizes of the window.
        problems: what was found.
    """

    page: Page
    script: str
    phone: Any
    desk: Any
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """Add a problem that the browser reports."""
        self.problems.append(problem)

    async def look(self, name: str) -> None:
        """Run axe-core, and look for contents that are wider than a small screen."""
        page = self.page
        await page.evaluate(DETAILS, True)
        await page.evaluate(self.script)
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
