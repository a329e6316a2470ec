"""scripts/more_info: every kind of entity in a real browser, with Home Assistant's own frontend.

  scripts/more_info

A real Home Assistant watches recorded machines that between them have every kind of entity; all of these are enabled. A
headless Chromium opens the dialog of one entity of each kind, the history, the page of the integration and those of
devices, wide and narrow. It ends with 1 when something is not as it has to be: a kind that is not there, a name or a
value that is not shown, an error in the browser's console, text that is cut off.

Needs Chromium (Debian: chromium). A minute or two. Nothing of it is left behind.
"""

import argparse
import asyncio
from collections.abc import Iterator
import json
from pathlib import Path
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

from demo_api import DOMAIN
import demo_config
from more_info_pages import Pages
from more_info_stage import Stage
from playwright.async_api import async_playwright
from tour_browser import DESKTOP, Browser

KINDS: dict[str, dict[str, Any]] = json.loads((demo_config.INTEGRATION / "translations/en.json").read_text())["entity"]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")

type Rows = dict[tuple[str, str], dict[str, Any]]
"""Platform and translation key → the entity that stands for its kind."""


async def one_of_each(stage: Stage) -> Rows:
    """Return an entity of each kind, one with a value before others."""
    states = {state["entity_id"]: state["state"] for state in await stage.api.states()}
    rows = [row for row in await stage.api.command("config/entity_registry/list") if row["platform"] == DOMAIN]
    rows.sort(key=lambda row: states.get(row["entity_id"]) in ("unknown", "unavailable", None), reverse=True)
    return {(row["entity_id"].partition(".")[0], row["translation_key"]): row for row in rows}


def absent(found: Rows) -> Iterator[str]:
    """Yield the kinds that no machine has."""
    for platform, keys in KINDS.items():
        yield from (f"no machine has a {platform} {key}" for key in keys if (platform, key) not in found)


async def look(stage: Stage, browser: Browser) -> None:
    """Look at everything."""
    pages = Pages(browser, stage.api.url)
    await asyncio.gather(stage.add_machines(), pages.log_in())
    said("machines and browser are there")
    found = await one_of_each(stage)
    browser.wrong += absent(found)
    devices = {row["id"]: row for row in await stage.api.command("config/device_registry/list")}
    for row in found.values():
        await pages.look_at(row["entity_id"], row["original_name"])
    await pages.close_dialog()
    said(f"{len(found)} kinds of entities")
    await pages.look_at_history([row for (platform, _), row in found.items() if platform == "sensor"])
    said("their history")
    titles = [entry["title"] for entry in await stage.entries()]
    await pages.look_at_page(f"/config/integrations/integration/{DOMAIN}", "ha-config-integration-page", *titles)
    for device_id in dict.fromkeys(row["device_id"] for row in found.values()):
        name = devices[device_id]["name"]
        await pages.look_at_page(f"/config/devices/device/{device_id}", "ha-config-device-page", name)
    said("the pages")


def said(what: str) -> None:
    """Say how far it is."""
    print(f"{time.monotonic() - STARTED:5.0f} s  {what}", flush=True)


async def run(folder: Path) -> list[str]:
    """Set everything up, look, clean up; return what was wrong."""
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else sys.exit)
    async with Stage(folder) as stage, async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        try:
            page = await chromium.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
            browser = Browser(page, folder)
            await look(stage, browser)
        finally:
            await chromium.close()
    said("all is over")
    return browser.wrong


def main() -> int:
    """Look; return the exit status."""
    argparse.ArgumentParser(prog="scripts/more_info", add_help=False).parse_args()
    if not shutil.which("chromium"):
        sys.exit("scripts/more_info needs chromium")
    with tempfile.TemporaryDirectory(prefix="homelab-more-info-") as folder:
        wrong = asyncio.run(run(Path(folder)))
    for each in wrong:
        print(f"WRONG  {each}", file=sys.stderr)
    print("Every kind of entity is as it should be." if not wrong else f"{len(wrong)} things are wrong.")
    return 1 if wrong else 0


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
