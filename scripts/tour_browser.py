"""A browser that a person could be: it reads the words of the translations, looks for what is cut off, takes pictures.

Every word that it waits for or clicks comes from translations/en.json, so a step whose text is missing is not found.
"""

from collections.abc import Iterator, Mapping
import io
import json
from pathlib import Path
import re
from typing import Any

import demo_config
from PIL import Image
from playwright.async_api import ConsoleMessage, Locator, Page, expect

DESKTOP, PHONE = (1280, 800), (360, 740)
LONGEST = 3000
"""A dialog that scrolls is pictured in a window as high as this at most."""
COLORS = 128
DIALOG = "dialog-data-entry-flow"
SETTLED_MS = 450
"""How long Home Assistant moves a dialog to its place."""
STEP_MS = 30_000.0

_TEXTS: Mapping[str, Any] = json.loads((demo_config.INTEGRATION / "translations/en.json").read_text())
_NOT_OURS = re.compile(r"/api/brands/|/brands\.home-assistant\.io/|ERR_INTERNET_DISCONNECTED|ERR_ADDRESS_UNREACHABLE")
"""Icons of integrations come from the internet, which is not there."""
_GO_ON = re.compile(r"^(Submit|Next|Finish|Skip and finish)$")

_ALL = """
  const all = (node, seen) => {
    for (const child of node.children || []) {
      seen.push(child);
      if (child.shadowRoot) all(child.shadowRoot, seen);
      all(child, seen);
    }
    return seen;
  };
  const roots = all(document, []).filter((element) => element.matches(selector));
  const inside = roots.flatMap((root) => [root, ...all(root, root.shadowRoot ? all(root.shadowRoot, []) : [])]);
"""
_LOOK = f"""
(selector) => {{
  {_ALL}
  const found = [], width = document.documentElement.clientWidth;
  const deep = (node) => node.nodeType === 3 ? node.data.trim() : !node.matches || node.matches("style, script") ? "" :
    node.matches("slot") ? node.assignedNodes().map(deep).join(" ") :
    [...(node.shadowRoot || node).childNodes].map(deep).filter(Boolean).join(" ");
  for (const element of inside) {{
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!box.width || !box.height || style.visibility === "hidden" || element.closest("pre, svg")) continue;
    if (style.textOverflow === "ellipsis" && element.scrollWidth > element.clientWidth + 1 && deep(element))
      found.push("shortened: " + deep(element));
    const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (own && (box.right > width + 1 || box.left < -1)) found.push("beyond the edge: " + own);
  }}
  return {{found, text: roots.map(deep).join(" ")}};
}}
"""
_HIDDEN = f"""
(selector) => {{
  {_ALL}
  return Math.max(0, ...inside.map((element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowY)
    ? element.scrollHeight - element.clientHeight : 0));
}}
"""
"""How many pixels of the longest part have to be scrolled to."""


def words(path: str) -> str:
    """Return a text of the translations by its dotted path."""
    found: Any = _TEXTS
    for name in path.split("."):
        found = found[name]
    return str(found)


def pattern(path: str) -> re.Pattern[str]:
    """Return what a text looks like whatever its placeholders hold; an asterisk marks what has to be filled in."""
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", words(path))]
    return re.compile(rf"^\s*{'.+'.join(parts)}\s*\*?\s*$")


class Browser:
    """One page, and what was wrong on it so far."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.wrong: list[str] = []
        self.taken: list[str] = []
        self._at = ""
        page.set_default_timeout(STEP_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))

    def _heard(self, message: ConsoleMessage) -> None:
        """Remember what the page complains of."""
        place = message.location.get("url", "")
        if message.type == "error" and not _NOT_OURS.search(f"{message.text} {place}"):
            self.wrong.append(f"console: {message.text} ({place})")

    # ------------------------------------------------------------ dialogs

    @property
    def dialog(self) -> Locator:
        """Return the open flow."""
        return self.page.locator(DIALOG)

    async def at(self, path: str) -> None:
        """Wait for a step, by the path of its texts."""
        await expect(self.dialog.get_by_text(pattern(f"{path}.title")).first).to_be_visible(timeout=STEP_MS)
        self._at = path

    async def choose(self, option: str) -> None:
        """Click an option of the menu that is shown."""
        text = words(f"{self._at}.menu_options.{option}")
        await self.dialog.get_by_text(text, exact=True).first.click()

    async def fill(self, field: str, value: str) -> None:
        """Type into a field of the step that is shown."""
        await expect(self.dialog.get_by_text(pattern(f"{self._at}.data.{field}")).first).to_be_visible()
        await self.dialog.locator(f"input[name={field}], textarea[name={field}]").fill(value)

    async def tick(self, value: str) -> None:
        """Tick the box that stands for a value."""
        await self.dialog.locator(f'ha-checkbox[value="{value}"]').click()

    async def go_on(self) -> None:
        """Click the button that continues."""
        await self.dialog.get_by_role("button", name=_GO_ON).last.click()

    async def close(self) -> None:
        """Close the dialog."""
        await self.dialog.get_by_role("button", name="Close").first.click()
        await expect(self.dialog.get_by_role("dialog")).to_have_count(0)

    async def says(self, path: str) -> None:
        """Wait until the dialog shows a text, such as an error."""
        await expect(self.dialog.get_by_text(pattern(path)).first).to_be_visible(timeout=STEP_MS)

    # ------------------------------------------------------------ pictures

    async def picture(self, name: str, area: str = DIALOG) -> None:
        """Look at the page on a desktop and on a phone, and keep a picture of each."""
        print(f"  {name}", flush=True)
        for folder, (width, height) in ((self.folder, DESKTOP), (self.folder / "phone", PHONE)):
            await self._resize(width, height)
            if hidden := await self.page.evaluate(_HIDDEN, area):
                # A dialog takes a part of the window only.
                await self._resize(width, min(int(height + hidden * (1.25 if width > PHONE[0] else 1)) + 20, LONGEST))
            await self._look(f"{name} at {width} px", area)
            _write_small(await self.page.screenshot(), folder / f"{name}.png")
        await self._resize(*DESKTOP)
        self.taken.append(name)

    async def snapshot(self, name: str) -> None:
        """Keep a picture of something that does not last, as it is on a desktop."""
        print(f"  {name}", flush=True)
        _write_small(await self.page.screenshot(), self.folder / f"{name}.png")

    async def picture_dark(self, name: str) -> None:
        """Look at the page as it is in the dark."""
        await self.page.emulate_media(color_scheme="dark")
        await self.picture(f"{name}-dark")
        await self.page.emulate_media(color_scheme="light")

    async def _resize(self, width: int, height: int) -> None:
        """Give the window another size and wait until the page has followed."""
        await self.page.set_viewport_size({"width": width, "height": height})
        await self.page.wait_for_timeout(SETTLED_MS)

    async def look(self, where: str, area: str, width: int, height: int) -> None:
        """Look at the page in a window of this size; remember what is wrong."""
        await self._resize(width, height)
        await self._look(where, area)

    async def _look(self, where: str, area: str) -> None:
        """Remember what is cut off or not translated."""
        seen = await self.page.evaluate(_LOOK, area)
        # Lists of Home Assistant's own pages shorten long lines everywhere.
        found = [each for each in dict.fromkeys(seen["found"]) if area == DIALOG or not each.startswith("shortened")]
        self.wrong += [f"{where}: {each}" for each in found]
        self.wrong += [f"{where}: not translated: {each}" for each in _untranslated(seen["text"])]


def _untranslated(text: str) -> Iterator[str]:
    """Yield what only a missing translation shows: keys of ours, and placeholders without a value."""
    yield from re.findall(r"component\.homelab_monitor\.\S+|\{[a-z_]+\}|Translation error[^.]*|state_attr\S*", text)


def _write_small(png: bytes, path: Path) -> None:
    """Write a picture with few colors: a page has few, and the repository keeps every one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
