"""What scripts/more_info looks at in the browser: the dialog of one entity, and pages, on a phone and on a desktop.

A dialog is as it has to be when it shows the entity's name and its value in words, with a history where Home Assistant
has one, and when the page has complained of nothing meanwhile.
"""

from typing import Any

from demo_api import PASSWORD, USERNAME
from playwright.async_api import Page, expect
from tour_browser import DESKTOP, PHONE, Browser

SHOWN_MS = 10_000
"""How long a dialog may take on a busy machine."""
HISTORY_MS = 20_000
PAGE_MS = 30_000.0
_GO = """
(path) => {
  history.pushState(null, "", path);
  window.dispatchEvent(new CustomEvent("location-changed", {detail: {replace: false}}));
}
"""
"""What a click on a link does; to load the page anew takes ten times as long."""

_LOOK = """
async ([entity, name, patience]) => {
  const root = document.querySelector("home-assistant"), hass = () => root.hass;
  const plain = (text) => text.replaceAll(/\\s+/g, " ").trim();
  const words = (node, without) => node.nodeType === 3 ? node.data : !node.matches || node.matches(without) ? "" :
    (node.matches("slot") ? node.assignedNodes({flatten: true}) : [...(node.shadowRoot || node).childNodes])
      .map((child) => words(child, without)).join(" ");
  const deep = (node, without = "style, script") => plain(words(node, without));
  const all = (node) => [...(node.shadowRoot ? all(node.shadowRoot) : []),
    ...[...(node.children || [])].flatMap((child) => [child, ...all(child)])];
  const value = (state, parts) => {
    if (state.entity_id.startsWith("button.")) return hass().localize("ui.card.button.press");
    const time = parts.find((part) => part.localName === "hui-timestamp-display");
    return time ? deep(time) : plain(hass().formatEntityState(state));
  };
  const lacks = () => {
    const state = hass().states[entity], dialog = root.shadowRoot.querySelector("ha-more-info-dialog");
    if (!state || !dialog) return state ? "no dialog" : "no state";
    const text = deep(dialog), parts = all(dialog), shown = value(state, parts);
    const body = parts.filter((part) => ["state-card-content", "more-info-content"].includes(part.localName))
      .map((part) => deep(part, "style, script, state-info")).join(" ");
    const history = parts.find((part) => part.localName === "ha-more-info-history");
    const is = (...names) => parts.some((part) => names.includes(part.localName));
    if (state.state === "unavailable") return "it is unavailable";
    if (!text.includes(name)) return `no name in ${text}`;
    if (!shown || !body.includes(shown)) return `no value ${shown} in ${body}`;
    if (/undefined|NaN|\\[object|component\\./.test(text)) return `odd words: ${text}`;
    if (is("ha-spinner")) return "it is loading still";
    if (history && !is("state-history-charts", "statistics-chart")) return `no history in ${text}`;
    return "";
  };
  const end = Date.now() + patience;
  root.dispatchEvent(new CustomEvent("hass-more-info", {detail: {entityId: entity}, bubbles: true, composed: true}));
  for (;;) {
    await new Promise((done) => setTimeout(done, 60));
    let lacking;
    try { lacking = lacks(); } catch (error) { lacking = String(error); }
    if (!lacking || Date.now() > end) return lacking;
  }
}
"""
_CHARTS = """
async ([count, patience]) => {
  const all = (node) => [...(node.shadowRoot ? all(node.shadowRoot) : []),
    ...[...(node.children || [])].flatMap((child) => [child, ...all(child)])];
  const end = Date.now() + patience;
  for (;;) {
    await new Promise((done) => setTimeout(done, 100));
    const charts = all(document.body).filter((part) => part.localName.startsWith("state-history-chart-"));
    const drawn = charts.filter((chart) => all(chart).some((part) => part.localName === "canvas")).length;
    if (drawn >= count || Date.now() > end) return drawn;
  }
}
"""


class Pages:
    """Home Assistant's pages in a browser, and what was wrong on them."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._page: Page = browser.page
        self._url = url

    async def log_in(self) -> None:
        """Log in as a person does."""
        await self._page.emulate_media(reduced_motion="reduce")
        await self._page.goto(f"{self._url}/profile")
        await self._page.locator("input[name=username]").fill(USERNAME)
        await self._page.locator("input[name=password]").fill(PASSWORD)
        await self._page.keyboard.press("Enter")
        await expect(self._page.locator("ha-panel-profile").first).to_be_visible(timeout=2 * PAGE_MS)

    async def close_dialog(self) -> None:
        """Close the dialog that is open."""
        close = 'document.querySelector("home-assistant").shadowRoot.querySelector("ha-more-info-dialog").closeDialog()'
        await self._page.evaluate(close)

    async def look_at(self, entity_id: str, name: str) -> None:
        """Open the dialog of an entity; remember what it lacks and what the page complained of meanwhile."""
        before = len(self._browser.wrong)
        lacking = await self._page.evaluate(_LOOK, [entity_id, name, SHOWN_MS])
        self._browser.wrong[before:] = [f"{entity_id}: {each}" for each in self._browser.wrong[before:]]
        if lacking:
            self._browser.wrong.append(f"{entity_id}: {lacking}")

    async def look_at_page(self, path: str, area: str, *expected: str) -> None:
        """Look at a page on a desktop and on a phone: these texts are there, nothing is cut off or not translated."""
        await self._page.evaluate(_GO, path)
        for text in expected:
            await expect(self._page.locator(area).get_by_text(text).first).to_be_visible(timeout=PAGE_MS)
        for width, height in (DESKTOP, PHONE):
            await self._browser.look(f"{path} at {width} px", area, width, height)

    async def look_at_history(self, entities: list[dict[str, Any]]) -> None:
        """Look at the history of many entities, each with a chart of its own or a row of one."""
        ids = ",".join(entity["entity_id"] for entity in entities)
        # On a busy machine the page sometimes stays empty until it is opened again.
        for path in ("/history", "/profile", "/history", "/profile", "/history"):
            await self._page.evaluate(_GO, f"{path}?entity_id={ids}")
            if path == "/history" and await self._page.evaluate(_CHARTS, [1, HISTORY_MS]):
                return
        self._browser.wrong.append("no chart in the history")
