"""Who gets the entry of a known host, with its history, its options and what it may do as root: the same machine only.

A machine proves that it is the same by a pinned host key, at the login. Its machine-id is no more than its own word.
"""

from collections.abc import Iterator
import json
from pathlib import Path
from unittest.mock import AsyncMock, patch

from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.models import System
from custom_components.homelab_monitor.client.tracking.identity import host_id
from custom_components.homelab_monitor.flow.options import HomelabOptionsFlow
from custom_components.homelab_monitor.repairs import HostKeyFlow
from custom_components.homelab_monitor.settings import PRIVILEGES as EVERY_PRIVILEGE, HostOptions

from .scripted import make_entry
from .test_config_flow import (  # noqa: F401 - fixtures, and the words of the flow's own tests
    HOST_ID,
    OTHER_ID,
    TEXTS,
    Dialog,
    Machine,
    dialog,
    entry_of,
    make_machine,
    typed,
)

PRIVILEGES = dict.fromkeys(EVERY_PRIVILEGE, True) | {"sudo": ["security", "sockets"]}
ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"
ISSUES = json.loads((ROOT / "translations" / "en.json").read_text(encoding="utf-8"))["issues"]
CHOSEN = {"interval": 30, "disk_threshold": 80, "services": ["nginx.service"]}
STRANGE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"


@pytest.fixture
async def machine(make_machine) -> Machine:  # noqa: F811
    return await make_machine()


@pytest.fixture(autouse=True)
def _no_polls() -> Iterator[None]:
    """Keep the entries of the flow from polling."""
    with (
        patch("custom_components.homelab_monitor.async_setup_entry", return_value=True),
        patch("custom_components.homelab_monitor.async_unload_entry", return_value=True),
    ):
        yield


def known(hass: HomeAssistant, machine: Machine, /, **changes: object) -> MockConfigEntry:
    """Return the entry of a host to which everything is allowed."""
    entry = entry_of(machine, **changes)
    entry.add_to_hass(hass)
    hass.config_entries.async_update_entry(entry, options=CHOSEN | PRIVILEGES)
    return entry


def privileges(entry: MockConfigEntry) -> list[object]:
    """Return what is allowed by the options of an entry."""
    options = HostOptions.from_options(entry.options)
    return [allowed for name in PRIVILEGES if (allowed := getattr(options, name))]


async def add(machine: Machine, dialog: Dialog, choice: str) -> None:  # noqa: F811
    """Add the machine, up to the question what it is, and answer that."""
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    assert dialog.at[0] == "collision"
    await dialog.choose(choice)


async def test_a_machine_with_another_host_key_gets_the_history_without_any_privilege(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host_keys=[STRANGE_KEY])
    await add(machine, dialog, "reinstalled")
    assert dialog.ended == "reinstalled"
    assert entry.data["host_keys"] == list(machine.host_keys)
    assert privileges(entry) == []
    assert dict(entry.options) == CHOSEN


async def test_a_machine_that_proves_a_pinned_key_keeps_its_privileges(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host="192.0.2.7")
    await add(machine, dialog, "moved")
    assert dialog.ended == "moved"
    assert dict(entry.options) == CHOSEN | PRIVILEGES


async def at_the_question(machine: Machine, dialog: Dialog) -> None:  # noqa: F811
    """Add the machine, up to the question what it is."""
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    assert dialog.at == ("collision", None)


async def test_a_host_that_still_answers_where_it_is_known_is_left_as_it_is_at_first(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host="localhost")
    before = dict(entry.data)
    await at_the_question(machine, dialog)
    assert dialog.result["menu_options"] == ["same_host", "moved", "clone"]
    await dialog.choose("same_host")
    assert dialog.ended == "same_host"
    assert dict(entry.data) == before
    assert dict(entry.options) == CHOSEN | PRIVILEGES


async def test_a_host_that_is_another_machine_where_it_is_known_has_moved(
    hass: HomeAssistant,
    machine: Machine,
    make_machine,  # noqa: F811
    dialog: Dialog,  # noqa: F811
) -> None:
    other = await make_machine()
    known(hass, machine, port=other.port)
    await at_the_question(machine, dialog)
    assert dialog.result["menu_options"] == ["moved", "clone"]


@pytest.mark.parametrize("answer", ["moved", "reinstalled"])
async def test_a_name_is_replaced_only_after_a_person_has_agreed(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
    answer: str,
) -> None:
    changes = {} if answer == "moved" else {"host_keys": [STRANGE_KEY]}
    entry = known(hass, machine, host="localhost", **changes)
    before = dict(entry.data)
    await at_the_question(machine, dialog)
    await dialog.choose(answer)
    assert dialog.at == (answer, None)
    assert dialog.placeholders["given_address"].startswith("localhost")
    assert dict(entry.data) == before
    await dialog.submit()
    assert dialog.ended == answer
    assert entry.data["host"] == "127.0.0.1"


async def test_a_name_that_a_host_was_followed_away_from_is_a_name_as_well(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host="127.0.0.1", port=1, home_host="nas.example")
    await at_the_question(machine, dialog)
    assert dialog.result["menu_options"] == ["moved", "clone"]
    await dialog.choose("moved")
    assert dialog.at == ("moved", None)
    assert dialog.placeholders["given_address"] == r"nas\.example\:1"
    await dialog.submit()
    assert dialog.ended == "moved"
    assert entry.data["home_host"] == ""


async def test_a_pinned_key_that_is_only_shown_proves_nothing(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host="192.0.2.7", host_keys=[STRANGE_KEY])
    await dialog.submit(address=typed(machine))
    flow = hass.config_entries.flow._progress[dialog.flow_id]
    flow._host_keys = (*flow._host_keys, STRANGE_KEY)
    await dialog.submit()
    await dialog.submit()
    assert dialog.result["menu_options"] == ["reinstalled", "clone"]
    await dialog.choose("reinstalled")
    assert privileges(entry) == []


async def test_a_machine_with_another_host_key_is_not_looked_for_where_the_one_before_it_was(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host="192.0.2.7", host_keys=[STRANGE_KEY])
    await dialog.submit(address=typed(machine))
    flow = hass.config_entries.flow._progress[dialog.flow_id]
    flow._announced = flow._target.host  # As where it was found by its announcement.
    await dialog.submit()
    await dialog.submit()
    await dialog.choose("reinstalled")
    assert entry.data["host"] == flow._target.host
    assert entry.data["home_host"] == ""


async def test_a_clone_gets_nothing_of_the_other(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
) -> None:
    entry = known(hass, machine, host="192.0.2.7", host_keys=[STRANGE_KEY])
    await add(machine, dialog, "clone")
    assert dialog.created
    assert dialog.result["options"] == {}
    assert dict(entry.options) == CHOSEN | PRIVILEGES


@pytest.mark.parametrize("identity", [HOST_ID, OTHER_ID])
async def test_another_host_key_in_a_reconfiguration_switches_privileges_off(
    hass: HomeAssistant, machine: Machine, identity: str
) -> None:
    entry = known(hass, machine, host_id=identity, host_keys=[STRANGE_KEY])
    dialog = await Dialog(hass).reconfigure(entry)  # noqa: F811
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    if identity == OTHER_ID:
        assert dialog.at[0] == "other_machine"
        await dialog.choose("keep_history")
    assert dialog.ended == "reinstalled"
    assert entry.data["host_keys"] == list(machine.host_keys)
    assert (dict(entry.options), entry.unique_id) == (CHOSEN, identity)


async def test_a_host_whose_id_was_made_of_its_key_is_not_taken_for_another_without_that_key(
    hass: HomeAssistant, machine: Machine
) -> None:
    entry = known(hass, machine, host_id=host_id(None, STRANGE_KEY), host_keys=[STRANGE_KEY], machine="")
    before = dict(entry.data)
    dialog = await Dialog(hass).reconfigure(entry)  # noqa: F811
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    assert dialog.at[0] == "other_machine"
    assert dict(entry.data) == before, "nothing is changed before somebody has said so"


async def test_the_same_host_key_in_a_reconfiguration_keeps_privileges(hass: HomeAssistant, machine: Machine) -> None:
    entry = known(hass, machine, host="192.0.2.7", username="old")
    dialog = await Dialog(hass).reconfigure(entry)  # noqa: F811
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert dict(entry.options) == CHOSEN | PRIVILEGES


async def test_a_login_that_works_again_keeps_privileges(hass: HomeAssistant, machine: Machine) -> None:
    entry = known(hass, machine)
    dialog = await Dialog(hass).reauth(entry)  # noqa: F811
    await dialog.choose("added")
    assert dialog.ended == "reauth_successful"
    assert dict(entry.options) == CHOSEN | PRIVILEGES


async def test_a_machine_with_another_host_key_may_say_that_it_is_another_one(
    hass: HomeAssistant, machine: Machine
) -> None:
    entry = known(hass, machine, host_keys=[STRANGE_KEY], machine="1" * 32)
    dialog = await Dialog(hass).reauth(entry)  # noqa: F811
    await dialog.choose("added")
    await dialog.submit()
    assert dialog.ended == "reinstalled"
    # It was reinstalled: the first one that logs in with the new key is meant from now on.
    assert entry.data["machine"] == ""
    assert entry.data["host_keys"] == list(machine.host_keys)


async def test_accepting_a_changed_host_key_switches_privileges_off(hass: HomeAssistant, machine: Machine) -> None:
    entry = known(hass, machine, host_keys=[STRANGE_KEY])
    flow = HostKeyFlow(entry, "host_key")
    flow.hass = hass
    await flow.async_step_review()
    with (
        patch.object(HostKeyFlow, "_async_test", AsyncMock(return_value="fixed")),
        patch.object(hass.config_entries, "async_reload", AsyncMock()),
    ):
        await flow._async_pin(flow._offered.line)
    assert entry.data["host_keys"] != [STRANGE_KEY]
    assert dict(entry.options) == CHOSEN


def test_every_text_that_leads_to_another_host_key_says_that_privileges_go() -> None:
    steps = TEXTS["step"]
    said = [
        steps["collision"]["menu_option_descriptions"]["reinstalled"],
        steps["other_machine"]["menu_option_descriptions"]["keep_history"],
        TEXTS["abort"]["reinstalled"],
        ISSUES["host_key_changed"]["fix_flow"]["step"]["review"]["description"],
        ISSUES["host_key_changed"]["fix_flow"]["step"]["accept"]["description"],
    ]
    assert [text for text in said if "Privileges" not in text or "off" not in text] == []
    assert "Privileges" not in steps["collision"]["menu_option_descriptions"]["moved"]


async def test_every_privilege_that_can_be_switched_on_is_one_of_these(hass: HomeAssistant) -> None:
    flow = HomelabOptionsFlow()
    flow.hass, flow.handler = hass, (entry := make_entry()).entry_id
    entry.add_to_hass(hass)
    schema = (await flow.async_step_init())["data_schema"].schema
    assert {str(name) for name in schema["privileges"].schema.schema} == set(PRIVILEGES)


# ---------------------------------------------------------------- the host's own word


def system(machine_id_hash: str | None) -> System:
    return System(hostname="h", kernel="k", architecture="a", machine_id_hash=machine_id_hash)


KEY_IDENTITY = host_id(None, STRANGE_KEY)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "0",
        HOST_ID[:-1],
        HOST_ID + "0",
        HOST_ID + "\n",
        "g" * 32,
        "x" * 4096,
        f"{HOST_ID}_disk",
        "../../../../etc/passwd/123456789",
        "\u0660" * 32,
    ],
)
def test_what_is_no_hash_is_no_identity(told: str) -> None:
    assert host_id(system(told), STRANGE_KEY) == KEY_IDENTITY
    assert len(KEY_IDENTITY) == 32


def test_a_hash_is_an_identity_in_one_spelling() -> None:
    assert host_id(system(HOST_ID), STRANGE_KEY) == HOST_ID
    assert host_id(system(HOST_ID.upper()), STRANGE_KEY) == HOST_ID


async def test_a_host_with_an_odd_hash_is_added_under_its_key(
    hass: HomeAssistant,
    make_machine,  # noqa: F811
    dialog: Dialog,  # noqa: F811
) -> None:
    machine = await make_machine(machine_id_hash=f"{HOST_ID}_sensor", hostname="n" * 4000)
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    await dialog.submit()
    assert dialog.created
    entry = dialog.result["result"]
    assert entry.unique_id == entry.data["host_id"] == host_id(None, machine.host_keys[0])
    assert len(entry.title) == 64


async def test_another_host_key_in_a_reauthentication_switches_privileges_off(
    hass: HomeAssistant, machine: Machine
) -> None:
    entry = known(hass, machine, host_keys=[STRANGE_KEY])
    dialog = await Dialog(hass).reauth(entry)  # noqa: F811
    await dialog.choose("added")
    assert dialog.at == ("trust", "host_key_changed")
    await dialog.submit()
    assert dialog.ended == "reinstalled"
    assert entry.data["host_keys"] == list(machine.host_keys)
    assert dict(entry.options) == CHOSEN


async def test_a_reauthentication_of_the_same_machine_keeps_privileges(hass: HomeAssistant, machine: Machine) -> None:
    entry = known(hass, machine)
    dialog = await Dialog(hass).reauth(entry)  # noqa: F811
    await dialog.choose("added")
    assert dialog.ended == "reauth_successful"
    assert dict(entry.options) == CHOSEN | PRIVILEGES


@pytest.mark.parametrize("way", ["reauth", "reconfigure", "added again"])
async def test_a_key_of_an_older_entry_that_nobody_compared_is_no_proof(
    hass: HomeAssistant,
    machine: Machine,
    dialog: Dialog,  # noqa: F811
    way: str,
) -> None:
    # Before keys had to be proven, all that a first contact showed were pinned, and one was compared.
    entry = known(hass, machine, host_keys=[STRANGE_KEY, *machine.host_keys], host_keys_proven=False)
    if way == "added again":
        hass.config_entries.async_update_entry(entry, data={**entry.data, "host": "192.0.2.7"})
    if way == "reauth":
        dialog = await Dialog(hass).reauth(entry)
        await dialog.choose("added")
        assert dialog.at == ("trust", "host_key_changed")
        await dialog.submit()
    elif way == "reconfigure":
        dialog = await Dialog(hass).reconfigure(entry)
        await dialog.submit(address=typed(machine))
        await dialog.submit()
        await dialog.submit()
    else:
        await add(machine, dialog, "reinstalled")
    assert dialog.ended == "reinstalled"
    assert privileges(entry) == []


# ---------------------------------------------------------------- machines made from one template: one host key for all


@pytest.mark.parametrize(
    ("noted", "told"),
    [(OTHER_ID, HOST_ID), ("", HOST_ID), (OTHER_ID, None)],
    ids=["noted", "by its id", "says nothing"],
)
async def test_a_machine_with_the_same_host_key_and_another_id_is_asked_about_and_gets_no_privilege(
    hass: HomeAssistant, machine: Machine, noted: str, told: str | None
) -> None:
    machine.sections["system"]["machine_id_hash"] = told
    entry = known(hass, machine, host="192.0.2.7", host_id=OTHER_ID, machine=noted)
    before = dict(entry.data)
    dialog = await Dialog(hass).reconfigure(entry)  # noqa: F811
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    assert dialog.at[0] == "other_machine"
    assert (dict(entry.data), dict(entry.options)) == (before, CHOSEN | PRIVILEGES), "nothing is changed by asking"
    await dialog.choose("keep_history")
    assert dialog.ended == "reinstalled"
    assert (dict(entry.options), entry.unique_id) == (CHOSEN, OTHER_ID), "as the question says"
    assert entry.data["machine"] == (told or "")


async def test_the_id_that_a_reinstalled_machine_had_before_makes_nobody_that_machine(
    hass: HomeAssistant, machine: Machine
) -> None:
    entry = known(hass, machine, host="192.0.2.7", machine=OTHER_ID)
    dialog = await Dialog(hass).reconfigure(entry)  # noqa: F811
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    assert dialog.at[0] == "other_machine"
    added = await Dialog(hass).begin("address")
    await added.submit(address=typed(machine))
    await added.submit()
    await added.submit()
    assert (added.at[0], added.result["menu_options"]) == ("collision", ["reinstalled", "clone"])
    await added.choose("reinstalled")
    assert dict(entry.options) == CHOSEN


async def test_a_reinstalled_machine_is_known_by_the_id_that_it_has_now(hass: HomeAssistant, machine: Machine) -> None:
    entry = known(hass, machine, host="192.0.2.7", host_id=OTHER_ID, machine=HOST_ID)
    dialog = await Dialog(hass).reconfigure(entry)  # noqa: F811
    await dialog.submit(address=typed(machine))
    await dialog.submit()
    assert dialog.ended == "reconfigure_successful"
    assert (dict(entry.options), entry.unique_id) == (CHOSEN | PRIVILEGES, OTHER_ID)
