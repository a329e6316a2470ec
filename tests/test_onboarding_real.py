"""The config flow against a real sshd: a password lets the key in, and is found nowhere afterwards."""

from collections.abc import Callable
import json
import shutil

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest

from custom_components.homelab_monitor.store import KEY_STORAGE_KEY, async_get_key

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


FIPS = """\
KexAlgorithms ecdh-sha2-nistp256
PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,rsa-sha2-256"""


@pytest.mark.parametrize("config", [FIPS, FIPS.partition("\n")[2]])
@pytest.mark.usefixtures("socket_enabled")
async def test_a_machine_that_takes_no_ed25519_gets_a_key_that_it_takes(
    hass: HomeAssistant,
    hass_storage: dict[str, object],
    make_machine: Callable[..., Machine],  # noqa: F811
    config: str,
) -> None:
    machine = make_machine(config, kind="ecdsa")
    machine.add_user("mon", password=CANARY)
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(machine.target_for("mon")))
    await dialog.submit()
    assert dialog.at == ("authorize", None)
    # Only what a server shows is told at once; the other one is asked when a password has opened it.
    assert ("ecdsa-sha2-nistp256" in dialog.placeholders["key_line"]) is config.startswith("Kex")
    await dialog.choose("install")
    await dialog.submit(password=CANARY)
    assert dialog.at == ("checklist", None), dialog.checklist
    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    key = await async_get_key(hass)
    assert key.beside
    assert key.beside.public_openssh in machine.run("cat", "/home/mon/.ssh/authorized_keys")
    assert set(hass_storage[KEY_STORAGE_KEY]["data"]) == {"private_key", "ecdsa_private_key"}


TWO_FACTORS = "KbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive"


@pytest.mark.usefixtures("socket_enabled")
async def test_why_a_login_is_denied_is_said_where_the_key_is_shown(
    hass: HomeAssistant,
    make_machine: Callable[..., Machine],  # noqa: F811
) -> None:
    machine = make_machine(f"Match User mon\n{TWO_FACTORS}\nMatch all")
    machine.add_user("mon")
    dialog = await Dialog(hass).begin("address")
    await dialog.submit(address=str(machine.target_for("mon")))
    await dialog.submit()
    assert (dialog.at, dialog.placeholders["refusal"]) == (("authorize", None), "")
    await dialog.choose("added")
    assert dialog.at == ("refused", None)
    assert "AuthorizedKeysFile" in dialog.placeholders["refusal"]
    assert "journalctl" in dialog.placeholders["refusal"]
    key = await async_get_key(hass)
    (machine.folder / "authorized_keys").write_text(f"{key.public_openssh}\n")
    await dialog.choose("added")
    assert dialog.at == ("refused", None)
    assert "keyboard\\-interactive" in dialog.placeholders["refusal"]
