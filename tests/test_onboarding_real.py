"""The config flow against a real sshd: a password lets the key in, and is found nowhere afterwards."""

from collections.abc import Callable
import json
import shutil

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest

from custom_components.homelab_monitor.store import async_get_key

from .machine import CommandLines, Machine, make_machine  # noqa: F401
from .needs import needs
from .test_config_flow import Dialog, setup_entry  # noqa: F401

CANARY = "c4n4ry-7f3a'\"$(id)"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/bin/tcsh"])
@pytest.mark.usefixtures("socket_enabled")
async def test_a_password_lets_the_key_in_and_is_found_nowhere(
    hass: HomeAssistant,
    hass_storage: dict[str, object],
    make_machine: Callable[[], Machine],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    shell: str,
) -> None:
    needs(shutil.which(shell), shell)
    caplog.set_level("DEBUG")
    machine = make_machine()
    machine.add_user("mon", password=CANARY, shell=shell)
    dialog = await Dialog(hass).begin("address")
    shown = []
    with CommandLines() as lines:
        await dialog.submit(address=str(machine.target_for("mon")))
        await dialog.submit()
        assert dialog.at == ("authorize", None)
        await dialog.choose("install")
        await dialog.submit(password="wrong")
        assert dialog.at == ("install", "password_refused")
        shown.append(repr(dialog.result))
        await dialog.submit(password=CANARY)
        shown.append(repr(dialog.result))
        assert dialog.at == ("checklist", None), dialog.checklist
        await dialog.submit()
        shown.append(repr(dialog.result))
        await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert lines.samples > 10
    assert not lines.holds("c4n4ry")
    assert "c4n4ry" not in "".join(shown) + caplog.text + json.dumps(hass_storage, default=repr)
    key = await async_get_key(hass)
    authorized = machine.run("cat", "/home/mon/.ssh/authorized_keys")
    assert authorized.count(key.public_openssh) == 1
    assert "c4n4ry" not in authorized
    assert machine.run("stat", "-c", "%U %a", "/home/mon/.ssh", "/home/mon/.ssh/authorized_keys") == (
        "mon 700\nmon 600\n"
    )
