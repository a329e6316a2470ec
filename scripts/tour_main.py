"""scripts/tour: onboarding and repair as a newcomer sees them, in a real browser, and the pictures of docs/images.

  scripts/tour [--keep-pictures] [--out FOLDER]

Six machines in network namespaces (tests/homelab): systemd with a Docker that may not be asked, one that is watched
already, one that takes no passwords, OpenWrt with dropbear, one without Python, one to be ignored. A real Home
Assistant and a headless Chromium live beside them; nothing else can be reached from there, and all of it ends with
this. It goes from the key to the repaired issue and on, takes a picture of each step at 1280 and at 360 px, and ends
with 1 when something is not as it has to be: a step that does not come, a text that is missing, cut off or beyond the
edge, an error in the browser's console or in the log, an issue that stays, a machine without values.

Needs root. Missing Debian packages (chromium, dropbear-bin, sudo …) are installed. Two minutes. Without --out the
pictures go to docs/images; --keep-pictures leaves those there as they are.
"""

import argparse
import asyncio
from pathlib import Path
import shutil
import sys
import tempfile
import traceback

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checks import ROOT, install_system_packages
from demo_api import HomeAssistant
from playwright.async_api import async_playwright
from tour_browser import DESKTOP, Browser
from tour_lab import PORT, Home, add_machines
from tour_walk import CHAPTERS, Tour

from tests.homelab.lab import Lab, forbidden, missing

PACKAGES = {
    "chromium": "chromium",
    "dropbear": "dropbear-bin",
    "sudo": "sudo",
    "ip": "iproute2",
    "sshd": "openssh-server",
    "systemctl": "systemd",
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf": "fonts-noto-color-emoji",
}
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
IMAGES = ROOT / "docs/images"


async def walk(lab: Lab, home: Home, pictures: Path) -> list[str]:
    """Go through all chapters; return what was wrong."""
    api = HomeAssistant.at(PORT)
    await api.wait_ready()
    await api.log_in()
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = await chromium.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
        tour = Tour(Browser(page, pictures), api, lab.hosts)
        try:
            for chapter in CHAPTERS:
                print((chapter.__doc__ or "").splitlines()[0], flush=True)
                await chapter(tour)
        except Exception:  # noqa: BLE001 - whatever ends the walk is shown, with what the page looked like
            await page.screenshot(path=pictures / "failed.png")
            tour.browser.wrong.append(f"{chapter.__name__}: {traceback.format_exc()} ({pictures}/failed.png)")
        await chromium.close()
    await api.close()
    return tour.browser.wrong + home.complaints()


def main() -> int:
    """Set everything up, walk, clean up; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/tour", add_help=False)
    parser.add_argument("--keep-pictures", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if lacks := install_system_packages(PACKAGES) or missing(systemd=True) or forbidden(systemd=True):
        sys.exit(f"scripts/tour cannot run here: {lacks}")
    with tempfile.TemporaryDirectory(prefix="homelab-tour-") as folder, Lab() as lab:
        pictures = arguments.out or Path(folder) / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        add_machines(lab)
        lab.enter_hub()
        with Home(lab, Path(folder)) as home:
            wrong = asyncio.run(walk(lab, home, pictures))
        for each in wrong:
            print(f"WRONG  {each}", file=sys.stderr)
        if wrong and not arguments.out:
            shutil.copytree(pictures, Path(tempfile.gettempdir()) / "homelab-tour-failed", dirs_exist_ok=True)
        elif not arguments.out and not arguments.keep_pictures:
            shutil.rmtree(IMAGES, ignore_errors=True)
            shutil.copytree(pictures, IMAGES)
    print("The tour is as it should be." if not wrong else f"{len(wrong)} things are wrong.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
