"""Fixtures that all tests share."""

# Before the harness's own `custom_components` package is found, ours has to be.
import custom_components.homelab_monitor  # noqa: F401  # isort: skip

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
import pytest

from custom_components.homelab_monitor.client.transport import cooldown

from .exact import watched
from .machine import make_machine  # noqa: F401
from .scripted import Host
from .superuser import place  # noqa: F401


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and all that need the lab's network in the same one."""
    for item in items:
        is_lab = item.path.parent.name == "homelab"
        item.add_marker(pytest.mark.xdist_group("lab" if is_lab else str(item.path)))


@pytest.fixture(autouse=True)
def _our_integration(request: pytest.FixtureRequest) -> None:
    """Let Home Assistant find the integration, in tests that have a Home Assistant."""
    if "recorder_mock" in request.fixturenames:
        request.getfixturevalue("recorder_mock")  # it has to come before Home Assistant
    if "hass" in request.fixturenames:
        request.getfixturevalue("enable_custom_integrations")


@pytest.fixture(autouse=True)
def _nobody_rests() -> None:
    """Let no machine be left alone for what another one did at its port in an earlier test."""
    cooldown.forget_all()


@pytest.fixture(autouse=True)
def _no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the neighbours of this machine from being suggested for a scan, or asked."""
    monkeypatch.setattr("custom_components.homelab_monitor.client.transport.scan.ARP_PATH", Path("/nonexistent/arp"))


@pytest.fixture(autouse=True)
def _browsers_are_quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let cards come at once: no browser has to take them in."""
    if "slow_browser" in request.fixturenames:
        yield
        return
    with patch("custom_components.homelab_monitor.flow.discovery.async_pause"):
        yield


@pytest.fixture
def slow_browser() -> None:
    """Keep the pauses between cards."""


@pytest.fixture(autouse=True)
def _shows_what_it_means(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a flow, a repair or a notification shows a character that nobody sees."""
    if "hass" in request.fixturenames:
        yield from watched()
    else:
        yield


@pytest.fixture
def loopback_is_near() -> Iterator[None]:
    """Let the machines of a test, which all listen on loopback, be announced as neighbours."""
    with patch("custom_components.homelab_monitor.client.transport.ip_addresses.leads_here", return_value=False):
        yield


@pytest.fixture
async def host(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> Host:
    """Return a scripted host in a Home Assistant whose clock the test moves."""
    return Host(hass, freezer)
