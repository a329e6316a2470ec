"""The way of a newcomer: key, scan, trust, password, test, repair; and what comes later, a changed key for example.

Each chapter is a function that leaves the browser where the next one can begin. What it waits for is what a person
would see; what Home Assistant knows is asked besides, over its API.
"""

import asyncio
from collections.abc import Awaitable, Callable
import re
import time
from typing import Any

from demo_api import PASSWORD as LOGIN_PASSWORD, USERNAME, HomeAssistant
from playwright.async_api import expect
from tour_browser import Browser
from tour_lab import PASSWORD, authorize, install_python

from tests.homelab.lab import LabHost

REPAIRS_PAGE = "ha-config-repairs"
SECONDS = 60.0


class Tour:
    """The browser, Home Assistant's API and the machines."""

    def __init__(self, browser: Browser, api: HomeAssistant, machines: dict[str, LabHost]) -> None:
        self.browser = browser
        self.page = browser.page
        self.api = api
        self.machines = machines

    async def open(self, path: str) -> None:
        """Go to a page of Home Assistant and wait until it stands still."""
        await self.page.goto(f"{self.api.url}{path}")
        await self.page.wait_for_timeout(2500)

    async def ask(self, kind: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        """Send a WebSocket command; the connection of long ago has been closed for being silent."""
        await self.api.log_in()
        return await self.api.command(kind, **arguments)

    async def issues(self) -> set[str]:
        """Return the active issues as `machine: check`."""
        titles = {entry["entry_id"]: entry["title"] for entry in await self.ask("config_entries/get")}
        found = [
            issue["issue_id"].partition("_")
            for issue in (await self.api.command("repairs/list_issues"))["issues"]
            if issue["domain"] == "homelab_monitor"
        ]
        return {f"{titles[entry_id]}: {check}" for entry_id, _, check in found}

    async def has_issues(self, *expected: str) -> None:
        """Wait until these are the issues, raise AssertionError when others stay.

        A busy machine may let a section come late at a test; that ends by itself after some polls.
        """
        deadline = time.monotonic() + 2 * SECONDS
        while (found := await self.issues()) != set(expected):
            if time.monotonic() > deadline:
                raise AssertionError(f"issues: {found or 'none'}, expected: {expected or 'none'}")
            await asyncio.sleep(1)

    async def wait(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(SECONDS):
            while not await condition():
                await asyncio.sleep(0.5)
        print(f"  {what}", flush=True)

    async def state(self, entity_id: str) -> str:
        """Return a state, "" when there is none."""
        states = {state["entity_id"]: state["state"] for state in await self.ask("get_states")}
        return str(states.get(entity_id, ""))

    async def add_from_card(self, name: str, login: str) -> None:
        """Click *Add* on a discovered machine and go on to its host key."""
        await self.open("/config/integrations/dashboard")
        await self.page.locator("ha-config-flow-card").filter(has_text=name).get_by_text("Add", exact=True).click()
        await self.browser.at("config.step.address")
        await self.browser.fill("address", f"{login}@{self.machines[name].address}")
        await self.browser.go_on()
        await self.browser.at("config.step.trust")

    async def another(self) -> None:
        """Begin to add another machine from the page of the integration; none is discovered any more."""
        await self.open("/config/integrations/integration/homelab_monitor")
        await self.page.get_by_text("Add device").first.click()
        await self.browser.at("config.step.user")


async def log_in(tour: Tour) -> None:
    """Log in; one machine is being watched already."""
    authorize(tour.machines["pi"], await tour.api.show_key())
    await tour.api.add_host("pi", f"mon@{tour.machines['pi'].address}")
    await tour.open("/config/integrations/dashboard")
    await tour.page.locator("input[name=username]").fill(USERNAME)
    await tour.page.locator("input[name=password]").fill(LOGIN_PASSWORD)
    await tour.page.keyboard.press("Enter")
    await expect(tour.page.get_by_text("Add integration")).to_be_visible(timeout=60_000)


async def find(tour: Tour) -> None:
    """See the key, scan, pick three of the machines that answer."""
    browser = tour.browser
    await tour.page.get_by_text("Add integration").click()
    await tour.page.wait_for_timeout(1000)
    await tour.page.keyboard.type("homelab", delay=20)
    await tour.page.get_by_text("Homelab Monitor", exact=True).last.click()
    await browser.at("config.step.user")
    await browser.picture("01-key")
    await browser.choose("commands")
    await browser.at("config.step.commands")
    await browser.picture("02-commands")
    await browser.go_on()
    await browser.at("config.step.user")
    await browser.choose("scan")
    await browser.at("config.step.scan")
    await expect(browser.dialog.locator("input[name=networks]")).to_have_value(re.compile(r"^[\d./]+$"))
    await browser.picture("03-networks")
    await browser.go_on()
    await browser.at("config.step.scanning")
    await browser.snapshot("03-scan")
    await browser.at("config.step.pick")
    watched = browser.dialog.locator(f'ha-checkbox[value="{tour.machines["pi"].address}"]')
    await expect(watched).to_contain_text(re.compile(r"✅ pi · "))
    await expect(browser.dialog.locator("ha-checkbox")).to_have_count(len(tour.machines))
    for name in ("nas", "desk", "cellar"):
        await browser.tick(tour.machines[name].address)
    await browser.fill("username", "mon")
    await browser.picture("04-pick")
    await browser.go_on()


async def add_nas(tour: Tour) -> None:
    """Trust the first machine, let the key be installed, see the test with its amber row."""
    browser = tour.browser
    await browser.at("config.step.trust")
    key = tour.machines["nas"].run("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    await expect(browser.dialog).to_contain_text(key)
    await browser.picture("05-trust")
    await browser.go_on()
    await browser.at("config.step.authorize")
    await browser.picture("06-authorize")
    await browser.choose("install")
    await browser.at("config.step.install")
    await browser.fill("password", "not this one")
    await browser.go_on()
    await browser.says("config.error.password_refused")
    await browser.picture("07-password")
    await browser.fill("password", PASSWORD)
    await browser.go_on()
    await browser.at("config.step.checklist")
    await expect(browser.dialog.get_by_role("cell", name=re.compile("⚠️")).first).to_have_text("⚠️\xa0Docker")
    await expect(browser.dialog.get_by_role("cell", name=re.compile("⚠️"))).to_have_count(1)
    await browser.picture("08-checklist")
    await browser.picture_dark("08-checklist")
    await browser.go_on()


async def add_desk(tour: Tour) -> None:
    """Meet a machine that takes no passwords, and add the key by hand."""
    browser = tour.browser
    await browser.at("config.step.address")
    await browser.picture("09-next-machine")
    await browser.go_on()
    await browser.at("config.step.trust")
    await browser.go_on()
    await browser.at("config.step.authorize")
    await browser.choose("install")
    await browser.at("config.step.install")
    await browser.fill("password", PASSWORD)
    await browser.go_on()
    await browser.says("config.error.password_refused")
    await browser.fill("password", "")
    await browser.go_on()
    await browser.at("config.step.authorize")
    await browser.choose("added")
    await browser.at("config.step.refused")
    await browser.picture("10-refused")
    authorize(tour.machines["desk"], await browser.dialog.locator("ha-markdown-element").first.inner_text())
    await browser.choose("added")
    await browser.at("config.step.checklist")
    await browser.go_on()


async def add_cellar(tour: Tour) -> None:
    """Meet a machine without Python: a red item keeps you there until it is fixed."""
    browser = tour.browser
    await browser.at("config.step.address")
    await browser.go_on()
    await browser.at("config.step.trust")
    await browser.go_on()
    await browser.at("config.step.authorize")
    await browser.choose("install")
    await browser.at("config.step.install")
    await browser.fill("password", PASSWORD)
    await browser.go_on()
    await browser.at("config.step.checklist_failed")
    await browser.picture("11-not-ready")
    install_python(tour.machines["cellar"])
    await browser.go_on()
    await browser.at("config.step.checklist")
    await browser.go_on()
    await expect(browser.dialog.get_by_role("button", name="Skip and finish")).to_be_visible()
    await browser.picture("12-added")
    await browser.go_on()


async def discovered(tour: Tour) -> None:
    """Ignore one of the machines that were not picked, add the other: OpenWrt with dropbear, as root."""
    browser = tour.browser
    await tour.open("/config/integrations/dashboard")
    await browser.picture("13-discovered", "ha-config-integrations-dashboard")
    await tour.page.locator("ha-config-flow-card").filter(has_text="media").get_by_text("Ignore", exact=True).click()
    await tour.page.wait_for_timeout(1000)
    await tour.page.locator("dialog-box").get_by_role("button", name="Ignore").click()
    await expect(tour.page.locator("ha-config-flow-card").filter(has_text="media")).to_have_count(0)
    await tour.add_from_card("router", "root")
    await expect(browser.dialog).to_contain_text("dropbearkey")
    await browser.go_on()
    await browser.at("config.step.authorize")
    await browser.choose("install")
    await browser.at("config.step.install")
    await browser.fill("password", PASSWORD)
    await browser.go_on()
    await browser.at("config.step.checklist")
    await expect(browser.dialog).to_contain_text("OpenWrt")
    await browser.go_on()
    await expect(browser.dialog.get_by_role("button", name="Skip and finish")).to_be_visible()
    await browser.go_on()


async def repair(tour: Tour) -> None:
    """Let the amber row be cured from Home Assistant, with the password of sudo; then its issue is gone."""
    browser, flow = tour.browser, "issues.check.fix_flow"
    await tour.has_issues("nas: docker")
    assert "docker" not in tour.machines["nas"].run("id", "-nG", "mon").split()  # noqa: S101
    await tour.open("/config/repairs")
    await browser.picture("14-repairs", REPAIRS_PAGE)
    await tour.page.get_by_text("nas: no access to Docker").first.click()
    await browser.at(f"{flow}.step.cure")
    await browser.picture("15-cure")
    await browser.choose("run")
    await browser.at(f"{flow}.step.password")
    await browser.fill("password", "not this one")
    await browser.go_on()
    await browser.says(f"{flow}.error.wrong_password")
    await browser.picture("16-sudo")
    await browser.fill("password", PASSWORD)
    await browser.go_on()
    await browser.at(f"{flow}.step.fixed")
    await browser.picture("17-cured")
    await browser.go_on()
    await browser.go_on()
    assert "docker" in tour.machines["nas"].run("id", "-nG", "mon").split()  # noqa: S101
    await tour.has_issues()
    await expect(tour.page.get_by_text("There are currently no repairs pending")).to_be_visible()


async def other_ways(tour: Tour) -> None:
    """Type an address, paste many, change one, look at all options."""
    browser = tour.browser
    await tour.another()
    await browser.choose("address")
    await browser.at("config.step.address")
    await browser.fill("address", "mon@nass.lan")
    await browser.go_on()
    await browser.says("config.error.name_not_found")
    await browser.picture("18-address")
    await browser.close()
    await tour.another()
    await browser.choose("paste")
    await browser.at("config.step.paste")
    await browser.fill("addresses", "mon@10.77.0.15  # media\nroot@router.lan:22\ndesk:ssh")
    await browser.go_on()
    await browser.says("config.error.invalid_target")
    await browser.picture("19-paste")
    await browser.close()
    row = tour.page.locator("ha-config-entry-row").filter(has_text="nas")
    await row.get_by_role("button", name="Configure").first.click()
    await browser.at("options.step.init")
    for panel in await browser.dialog.locator("ha-expansion-panel #summary").all():
        await panel.click()
        await tour.page.wait_for_timeout(300)
    await browser.picture("20-options")
    await browser.close()
    await row.locator("ha-dropdown").first.click()
    await row.locator("ha-dropdown-item").filter(has_text="Reconfigure").first.click()
    await browser.at("config.step.reconfigure")
    await browser.picture("21-reconfigure")
    await browser.close()


async def reinstalled(tour: Tour) -> None:
    """Give a machine another host key: it is accepted by hand only; its lost authorized key is asked for anew."""
    browser, flow, machine = tour.browser, "issues.host_key_changed.fix_flow", tour.machines["pi"]
    machine.stop()
    machine.new_host_key()
    machine.start()
    machine.wait()

    async def told() -> bool:
        return "pi: host_key" in await tour.issues()

    await tour.wait(told, "the changed key became an issue")
    await tour.open("/config/repairs")
    await tour.page.get_by_text("pi: the host key has changed").first.click()
    await browser.at(f"{flow}.step.review")
    await browser.picture("22-host-key-changed")
    await browser.choose("accept")
    await browser.at(f"{flow}.step.accept")
    await browser.go_on()
    await browser.at(f"{flow}.step.fixed")
    await browser.picture("23-host-key-accepted")
    await browser.go_on()
    await browser.go_on()
    await tour.open("/config/integrations/integration/homelab_monitor")
    await tour.page.get_by_role("button", name="Reconfigure").first.click()
    await browser.at("config.step.reauth_confirm")
    await browser.picture("24-let-in-again")
    await browser.choose("install")
    await browser.at("config.step.install")
    await browser.fill("password", PASSWORD)
    await browser.go_on()
    # Home Assistant has its own words for this.
    await expect(browser.dialog.get_by_text("Re-authentication was successful")).to_be_visible()
    await browser.close()

    async def is_back() -> bool:
        return await tour.state("binary_sensor.pi_connectivity") == "on"

    await tour.wait(is_back, "pi is watched again")
    await tour.has_issues()


async def watched(tour: Tour) -> None:
    """See what became of it: the integration's page and the device, whose values are there."""
    await tour.open("/config/integrations/integration/homelab_monitor")
    await tour.browser.picture("25-integration", "ha-config-integration-page")
    devices = {device["name"]: device["id"] for device in await tour.ask("config/device_registry/list")}
    assert {"nas", "pi", "desk", "cellar", "router"} <= devices.keys()  # noqa: S101
    for name in ("nas", "pi", "desk", "cellar", "router"):
        assert await tour.state(f"binary_sensor.{name}_connectivity") == "on", name  # noqa: S101
        assert float(await tour.state(f"sensor.{name}_memory_usage")) > 0, name  # noqa: S101
    await tour.open(f"/config/devices/device/{devices['nas']}")
    await tour.browser.picture("26-device", "ha-config-device-page")


CHAPTERS = (log_in, find, add_nas, add_desk, add_cellar, discovered, repair, other_ways, reinstalled, watched)
