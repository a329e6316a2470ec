"""Controls in Home Assistant: who has permission, what the options and the host's state allow, and what follows."""

import asyncio
from ipaddress import IPv4Address
import socket
from typing import Any, Self
from unittest.mock import patch

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockUser
import voluptuous as vol

from custom_components.homelab_monitor.client.control import control as client_control
from custom_components.homelab_monitor.client.control.wake import magic_packet, send_magic_packets
from custom_components.homelab_monitor.client.errors import ConnectionLost, KeyRefused, Unreachable
from custom_components.homelab_monitor.client.limits import CONNECTIONS_LIMIT
from custom_components.homelab_monitor.const import DOMAIN

from .scripted import HOST_ID, Host

SYSTEMD_ROOT = "uid=0\n/usr/bin/systemctl\nsystemd\n"
WAKE, RESTART, SHUT_DOWN = "button.plain_wake", "button.plain_restart", "button.plain_shut_down"


def knows(host: Host, unit: str) -> None:
    """Let the host answer what a control asks first."""
    host.session.shell.say(f"Id={unit}\nLoadState=loaded\n")
    host.session.shell.say(SYSTEMD_ROOT)


async def control(hass: HomeAssistant, host: Host, context: Context | None = None, **fields: Any) -> None:
    named = {} if "device_id" in fields else {"config_entry_id": host.entry.entry_id}
    fields = {"service": "nginx.service", "action": "restart"} | named | fields
    await hass.services.async_call(DOMAIN, "control_service", fields, blocking=True, context=context)


async def press(hass: HomeAssistant, entity_id: str) -> None:
    await hass.services.async_call("button", "press", {"entity_id": entity_id}, blocking=True)


# ---------------------------------------------------------------- services


async def test_a_service_is_controlled_and_its_section_asked_again_at_once(hass: HomeAssistant, host: Host) -> None:
    await host.start(control_services=True)
    coordinator = host.entry.runtime_data
    knows(host, "nginx.service")
    host.session.shell.say()
    asked = len(host.session.asked)
    await control(hass, host, service="nginx")
    assert host.session.shell.asked[-1] == "/usr/bin/systemctl restart -- nginx.service"
    assert [sections for sections, _ in host.session.asked[asked:]] == [("services",)]
    assert coordinator.data.snapshot.ages["services"] == coordinator.data.snapshot.received


async def test_a_control_leaves_the_rhythm_of_polls_as_it_is(hass: HomeAssistant, host: Host) -> None:
    await host.start(control_services=True)
    await host.move(31)
    before = len(host.session.asked)
    await host.move(4)
    knows(host, "nginx.service")
    host.session.shell.say()
    duration = host.entry.runtime_data.data.poll_seconds
    await control(hass, host)
    assert host.entry.runtime_data.data.poll_seconds == duration
    await host.move(26)
    polls = [sections for sections, _ in host.session.asked[before:] if sections != ("services",)]
    assert len(polls) == 3, "one every ten seconds, as if nothing had been"


async def test_a_service_that_does_not_start_is_looked_at_all_the_same(hass: HomeAssistant, host: Host) -> None:
    await host.start(control_services=True)
    knows(host, "nginx.service")
    host.session.shell.say(stderr="Job for nginx.service failed.", status=1)
    asked = len(host.session.asked)
    with pytest.raises(HomeAssistantError) as raised:
        await control(hass, host, action="start")
    assert raised.value.translation_key == "control_failed"
    assert str(raised.value) == "plain tried, but failed: Job for nginx.service failed."
    assert [sections for sections, _ in host.session.asked[asked:]] == [("services",)]


async def test_a_host_that_no_longer_answers_afterwards_is_left_to_the_next_poll(
    hass: HomeAssistant, host: Host
) -> None:
    await host.start(control_services=True)
    knows(host, "nginx.service")
    host.session.shell.say()
    before = host.entry.runtime_data.data
    with patch.object(host.session, "answer", side_effect=ConnectionLost("plain")):
        await control(hass, host)
    assert host.entry.runtime_data.data is before


async def test_a_control_whose_end_was_not_seen_says_that_it_may_have_run(hass: HomeAssistant, host: Host) -> None:
    await host.start(control_services=True)
    host.session.shell.say("Id=nginx.service\nLoadState=loaded\n")
    host.session.shell.say(SYSTEMD_ROOT)
    cut = ConnectionLost("plain", "while a command ran")
    cut.had_begun = True
    host.session.shell.answers.append(cut)
    asked = len(host.session.asked)
    with pytest.raises(HomeAssistantError, match="It may have run"):
        await control(hass, host)
    assert len(host.session.asked) == asked + 1, "what it may have changed is looked at"


async def test_who_may_not_is_told_what_to_allow(hass: HomeAssistant, host: Host) -> None:
    await host.start(control_services=True)
    host.session.shell.say("Id=nginx.service\nLoadState=loaded\n")
    host.session.shell.say("uid=7 sudo /usr/bin/systemctl")
    host.session.shell.say(stderr="sudo: a password is required", status=1)
    host.session.shell.say(stderr="Access denied", status=1)
    with pytest.raises(HomeAssistantError) as raised:
        await control(hass, host)
    assert str(raised.value) == (
        "plain does not let the user mon do this: sudo: a password is required. Allow this command there "
        "without a password, with sudo, doas or polkit. The rules are in the documentation under Actions and controls. "
        "The command: /usr/bin/systemctl restart -- nginx.service"
    )
    assert host.session.disconnected == 0
    knows(host, "nginx.service")
    host.session.shell.say()
    await control(hass, host)
    assert host.session.disconnected == 1, "groups that were given meanwhile count from the next login on"


async def test_a_service_is_controlled_only_where_the_options_say_so(hass: HomeAssistant, host: Host) -> None:
    await host.start()
    with pytest.raises(ServiceValidationError) as raised:
        await control(hass, host)
    assert 'Switch on "Control services" in its options' in str(raised.value)
    assert host.session.shell.asked == []


async def test_a_host_that_is_off_is_not_asked(hass: HomeAssistant, host: Host) -> None:
    host.session.error = Unreachable("plain")
    await host.start(control_services=True)
    with pytest.raises(ServiceValidationError) as raised:
        await control(hass, host)
    assert raised.value.translation_key == "host_offline"


@pytest.mark.parametrize("unit", ["$(reboot)", "a; reboot", "*", "--now", "../x", "a\nb", "`id`"])
async def test_a_hostile_name_is_refused_before_anything_is_asked(hass: HomeAssistant, host: Host, unit: str) -> None:
    await host.start(control_services=True)
    with pytest.raises(HomeAssistantError) as raised:
        await control(hass, host, service=unit)
    assert raised.value.translation_key == "no_such_unit"
    assert host.session.shell.asked == []


@pytest.mark.parametrize("fields", [{"action": "kill"}, {"action": "enable"}, {"service": ["a"]}, {"command": "id"}])
async def test_there_are_no_free_commands(hass: HomeAssistant, host: Host, fields: dict[str, Any]) -> None:
    await host.start(control_services=True)
    with pytest.raises(vol.Invalid):
        await control(hass, host, **fields)
    assert host.session.shell.asked == []


async def test_a_control_is_for_administrators(
    hass: HomeAssistant, host: Host, hass_read_only_user: MockUser, hass_admin_user: MockUser
) -> None:
    await host.start(control_services=True)
    with pytest.raises(Unauthorized):
        await control(hass, host, Context(user_id=hass_read_only_user.id))
    assert host.session.shell.asked == []
    knows(host, "nginx.service")
    host.session.shell.say()
    await control(hass, host, Context(user_id=hass_admin_user.id))


async def test_a_host_may_be_named_by_its_device(
    hass: HomeAssistant, host: Host, device_registry: dr.DeviceRegistry
) -> None:
    await host.start(control_services=True)
    device = dr.async_entries_for_config_entry(device_registry, host.entry.entry_id)[0]
    knows(host, "nginx.service")
    host.session.shell.say()
    await control(hass, host, device_id=device.id)
    assert host.session.shell.asked
    for wrong in ({"device_id": "unknown"}, {"config_entry_id": "unknown"}):
        with pytest.raises(ServiceValidationError):
            await control(hass, host, **wrong)


async def test_a_service_may_be_named_by_its_sensor(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    await host.start(control_services=True)
    sensors = [each for each in entity_registry.entities.values() if each.translation_key == "service_state"]
    unit = hass.states.get(sensors[0].entity_id).name.removeprefix("plain ").removesuffix(" service") + ".service"
    knows(host, unit)
    host.session.shell.say()
    call = {"entity_id": sensors[0].entity_id, "action": "stop"}
    await hass.services.async_call(DOMAIN, "control_service", call, blocking=True)
    assert host.session.shell.asked[-1] == f"/usr/bin/systemctl stop -- {unit}"
    for wrong, key in (
        ("sensor.plain_memory_usage", "not_a_service"),
        ("sensor.unknown", "not_our_entity"),
    ):
        with pytest.raises(ServiceValidationError) as raised:
            await hass.services.async_call(DOMAIN, "control_service", call | {"entity_id": wrong}, blocking=True)
        assert raised.value.translation_key == key


# ---------------------------------------------------------------- containers

WEB = {"engine": "docker", "owner": "root", "id": "91ce74022074", "name": "web", "state": "running"}


def with_containers(host: Host, *more: dict[str, Any]) -> None:
    """Let the host have the container web, and more."""
    rows = [WEB | each for each in ({}, *more)]
    sources = {f"{row['engine']}/{row['owner']}" for row in rows}
    engines = [dict(zip(("engine", "owner"), source.split("/"), strict=True), state="ok") for source in sources]
    complete = dict.fromkeys(sources, True)
    host.session.sections["containers"] = {"at": 1.0, "engines": engines, "complete": complete, "containers": rows}
    host.session.document["missing"].pop("containers", None)


def controls(hass: HomeAssistant, *keys: tuple[str, str]) -> list[str]:
    """Return the entities that control the container web, which are enabled by the option."""
    registry = er.async_get(hass)
    found = []
    for platform, key in keys:
        found.append(registry.async_get_entity_id(platform, DOMAIN, f"{HOST_ID}_container_docker/root/web_{key}"))
        entry = registry.async_get(found[-1])
        assert (entry.disabled_by, entry.entity_category) == (None, "config"), "a voice command must not stop it"
    return found


async def control_container(hass: HomeAssistant, host: Host, context: Context | None = None, **fields: Any) -> None:
    named = {} if "device_id" in fields else {"config_entry_id": host.entry.entry_id}
    fields = {"action": "restart"} | named | fields
    await hass.services.async_call(DOMAIN, "control_container", fields, blocking=True, context=context)


async def test_a_switch_starts_and_stops_a_container_and_follows_at_once(hass: HomeAssistant, host: Host) -> None:
    with_containers(host)
    await host.start(control_containers=True)
    switch, button = controls(hass, ("switch", "running"), ("button", "restart"))
    container = host.session.sections["containers"]["containers"][0]
    for service, state in (("turn_off", "exited"), ("turn_on", "running")):
        host.session.shell.say()
        container["state"] = state
        host.session.sections["containers"]["at"] += 1
        asked = len(host.session.asked)
        await hass.services.async_call("switch", service, {"entity_id": switch}, blocking=True)
        assert host.session.asked[asked:] == [(("containers",), {"containers": ["docker/root"]})]
        assert host.state(switch) == ("on" if state == "running" else "off")
    host.session.shell.say()
    await press(hass, button)
    assert host.session.shell.asked == ["sh", "sh", "sh"], "names are told on standard input"


@pytest.mark.parametrize(
    ("disabler", "after"), [("integration", None), ("user", "user")], ids=["an earlier version", "a person"]
)
async def test_what_an_earlier_version_had_disabled_is_enabled_and_what_a_person_has_is_not(
    hass: HomeAssistant, host: Host, disabler: str, after: str | None
) -> None:
    with_containers(host)
    await host.start(control_containers=True)
    registry = er.async_get(hass)
    (switch, button) = controls(hass, ("switch", "running"), ("button", "restart"))
    for entity_id in (switch, button):
        registry.async_update_entity(entity_id, disabled_by=er.RegistryEntryDisabler(disabler))
    await host.reload()
    assert [registry.async_get(entity_id).disabled_by for entity_id in (switch, button)] == [after, after]
    assert (hass.states.get(switch) is not None) is (after is None)


async def test_without_the_option_there_is_nothing_to_switch(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    with_containers(host)
    await host.start()
    assert not [each for each in entity_registry.entities.values() if each.domain == "switch"]
    with pytest.raises(ServiceValidationError) as raised:
        await control_container(hass, host, container="web")
    assert 'Switch on "Control containers" in its options' in str(raised.value)
    assert host.session.shell.asked == []


async def test_a_container_is_named_by_its_name_its_key_or_its_device(
    hass: HomeAssistant, host: Host, device_registry: dr.DeviceRegistry
) -> None:
    with_containers(host)
    await host.start(control_containers=True)
    (child,) = dr.async_child_entries_for_config_entry(device_registry, host.entry.entry_id)
    (device,) = dr.async_entries_for_config_entry(device_registry, host.entry.entry_id)
    for fields in ({"container": "web"}, {"container": "docker/root/web"}, {"device_id": child.id}):
        host.session.shell.say()
        await control_container(hass, host, **fields)
    assert len(host.session.shell.asked) == 3
    for fields in ({}, {"device_id": device.id}):
        with pytest.raises(ServiceValidationError) as raised:
            await control_container(hass, host, **fields)
        assert raised.value.translation_key == "no_container_named"


async def test_of_two_with_one_name_nobody_guesses(hass: HomeAssistant, host: Host) -> None:
    with_containers(host, {"engine": "podman", "owner": "mon"})
    await host.start(control_containers=True)
    with pytest.raises(ServiceValidationError) as raised:
        await control_container(hass, host, container="web")
    assert str(raised.value).endswith("Use one of these names: docker/root/web, podman/mon/web")
    host.session.shell.say()
    await control_container(hass, host, container="podman/mon/web")
    assert host.session.asked[-1] == (("containers",), {"containers": ["podman/mon"]})


async def test_a_guests_container_is_in_the_way_of_no_other_of_that_name(hass: HomeAssistant, host: Host) -> None:
    with_containers(host, {"engine": "podman", "owner": "eve"})
    await host.start(control_containers=True)
    for name in ("web", "podman/eve/web"):
        host.session.shell.say()
        await control_container(hass, host, container=name)
    assert [told["containers"] for _, told in host.session.asked[-2:]] == [["docker/root"], ["podman/eve"]]


@pytest.mark.parametrize("name", ["$(reboot)", "-f", "web; reboot", "other", "../web", "w*b"])
async def test_what_the_host_does_not_have_is_not_controlled(hass: HomeAssistant, host: Host, name: str) -> None:
    with_containers(host)
    await host.start(control_containers=True)
    with pytest.raises(ServiceValidationError) as raised:
        await control_container(hass, host, container=name)
    assert raised.value.translation_key == "no_such_container"
    assert host.session.shell.asked == []


async def test_controls_of_containers_are_for_administrators(
    hass: HomeAssistant, host: Host, hass_read_only_user: MockUser
) -> None:
    with_containers(host)
    await host.start(control_containers=True)
    with pytest.raises(Unauthorized):
        await control_container(hass, host, Context(user_id=hass_read_only_user.id), container="web")
    assert host.session.shell.asked == []


async def test_an_engine_that_may_not_be_used_is_named(hass: HomeAssistant, host: Host) -> None:
    with_containers(host)
    await host.start(control_containers=True)
    host.session.shell.say(stderr="permission denied while trying to connect", status=1)
    with pytest.raises(HomeAssistantError, match="does not let the user mon use docker") as raised:
        await control_container(hass, host, container="web")
    assert raised.value.translation_key == "engine_denied"


# ---------------------------------------------------------------- power


async def test_power_buttons_exist_only_with_their_option(
    hass: HomeAssistant, host: Host, entity_registry: er.EntityRegistry
) -> None:
    await host.start()
    assert hass.states.get(RESTART) is None
    hass.config_entries.async_update_entry(host.entry, options={"power": True})
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    assert hass.states.get(RESTART).attributes["device_class"] == "restart"
    assert entity_registry.async_get(SHUT_DOWN).entity_category == "config"
    hass.config_entries.async_update_entry(host.entry, options={})
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    assert entity_registry.async_get(RESTART) is None
    assert entity_registry.async_get(WAKE)


async def test_a_machine_is_shut_down_and_restarted(
    hass: HomeAssistant, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_control, "_LOOKING_SECONDS", 0.0)
    monkeypatch.setattr(client_control, "_REST_SECONDS", 0.0)
    await host.start(power=True)
    shell = host.session.shell
    for entity_id, answer in ((RESTART, "/usr/bin/systemctl reboot"), (SHUT_DOWN, "/usr/bin/systemctl poweroff")):
        shell.say(SYSTEMD_ROOT)
        cut = ConnectionLost("plain", "while a command ran")
        cut.had_begun = True
        shell.answers.append(cut)
        await press(hass, entity_id)
        assert shell.asked[-1] == answer
    shell.say(SYSTEMD_ROOT)
    shell.answers.append(cut)
    shell.again_error = KeyRefused("plain")  # Whoever that is, it answers.
    with pytest.raises(HomeAssistantError, match="It may have run"):
        await press(hass, SHUT_DOWN)


async def test_a_machine_that_is_off_has_no_power_buttons_to_press(hass: HomeAssistant, host: Host) -> None:
    await host.start(power=True)
    host.session.error = Unreachable("plain")
    await host.move(50)
    assert (host.state(RESTART), host.state(SHUT_DOWN)) == ("unavailable", "unavailable")
    await press(hass, RESTART)
    assert host.session.shell.asked == []
    assert host.state(WAKE) != "unavailable"


# ---------------------------------------------------------------- wake


class Door:
    """A socket that notes what would be sent; `failing` addresses cannot be reached."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.failing: set[str] = set()
        self.is_broadcast = False

    def __call__(self, family: int, kind: int) -> Door:
        assert (family, kind) == (socket.AF_INET, socket.SOCK_DGRAM)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setsockopt(self, *_: int) -> None:
        self.is_broadcast = True

    def sendto(self, packet: bytes, address: tuple[str, int]) -> None:
        if address[0] in self.failing:
            raise OSError(101, "Network is unreachable")
        self.sent.append((packet, address))


@pytest.fixture
def door() -> Any:
    door = Door()
    networks = {IPv4Address("255.255.255.255"), IPv4Address("192.0.2.255")}
    with (
        patch("custom_components.homelab_monitor.client.control.wake.socket.socket", door),
        patch("homeassistant.components.network.async_get_ipv4_broadcast_addresses", return_value=networks),
    ):
        yield door


async def test_waking_reaches_every_network_with_every_card_while_the_host_is_off(
    hass: HomeAssistant, host: Host, door: Door
) -> None:
    cards = host.session.sections["hardware"]["interfaces"]
    cards["eth1"] = {"type": "ethernet", "permanent_mac": "52:54:00:12:34:57"}
    cards["br0"] = {"type": "bridge", "mac": "02:00:00:00:00:01"}
    macs = {each["permanent_mac"] for each in cards.values() if each.get("permanent_mac")}
    assert len(macs) > 1
    await host.start()
    host.session.error = Unreachable("plain")
    await host.move(50)
    assert host.status == "offline"
    await press(hass, WAKE)
    assert door.is_broadcast
    assert {(packet, address) for packet, address in door.sent} == {
        (magic_packet(mac), (network, 9)) for mac in macs for network in ("255.255.255.255", "192.0.2.255")
    }


async def test_who_wakes_a_host_without_end_is_told_to_wait(hass: HomeAssistant, host: Host, door: Door) -> None:
    await host.start()
    await press(hass, WAKE)
    packets = len(door.sent)
    for _ in range(4):
        await press(hass, WAKE)
    assert len(door.sent) == 5 * packets
    with pytest.raises(ServiceValidationError, match="Wait a minute"):
        await press(hass, WAKE)
    await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    with pytest.raises(ServiceValidationError, match="Wait a minute"):
        await press(hass, WAKE)
    await host.move(61, step=10)
    await host.move(10)
    await press(hass, WAKE)
    assert len(door.sent) == 6 * packets


async def test_a_host_has_no_crowd_of_other_machines_woken(hass: HomeAssistant, host: Host, door: Door) -> None:
    made_up = {
        f"eth{n}": {"type": "ethernet", "permanent_mac": f"aa:bb:cc:00:{n >> 8:02x}:{n & 255:02x}"} for n in range(1000)
    }
    nobodys = {"x": {"permanent_mac": "ff:ff:ff:ff:ff:ff"}, "y": {"permanent_mac": "01:00:5e:00:00:01"}}
    host.session.sections["hardware"]["interfaces"] = nobodys | made_up
    await host.start()
    await press(hass, WAKE)
    packets = {packet for packet, _ in door.sent}
    assert len(packets) == CONNECTIONS_LIMIT
    assert magic_packet("ff:ff:ff:ff:ff:ff") not in packets


async def test_one_network_that_is_down_does_not_spare_the_others(hass: HomeAssistant, host: Host, door: Door) -> None:
    await host.start()
    door.failing = {"192.0.2.255"}
    await press(hass, WAKE)
    assert {address[0] for _, address in door.sent} == {"255.255.255.255"}
    door.failing.add("255.255.255.255")
    with pytest.raises(HomeAssistantError, match="could not be sent") as raised:
        await press(hass, WAKE)
    assert raised.value.translation_key == "not_sent"


async def test_a_machine_without_a_known_card_cannot_be_woken(hass: HomeAssistant, host: Host, door: Door) -> None:
    host.session.sections["hardware"]["interfaces"] = {}
    await host.start()
    with pytest.raises(ServiceValidationError) as raised:
        await press(hass, WAKE)
    assert raised.value.translation_key == "no_mac"
    assert door.sent == []


async def test_what_is_no_address_of_a_card_keeps_the_others_from_nothing(
    hass: HomeAssistant, host: Host, door: Door
) -> None:
    """An InfiniBand card's address has 20 bytes, and a host can say anything."""
    odd, usual = ":".join(["80"] * 20), "52:54:00:12:34:57"
    cards = {"ib0": {"type": "physical", "permanent_mac": odd}, "eth0": {"type": "physical", "permanent_mac": usual}}
    host.session.sections["hardware"]["interfaces"] = cards
    await host.start()
    await press(hass, WAKE)
    assert {packet for packet, _ in door.sent} == {magic_packet(usual)}


def test_a_magic_packet_is_what_cards_wait_for() -> None:
    packet = magic_packet("AA:bb:cc-dd-ee-0f")
    assert len(packet) == 102
    assert packet[:6] == b"\xff" * 6
    assert packet[6:] == b"\xaa\xbb\xcc\xdd\xee\x0f" * 16
    for wrong in ("", "aa:bb:cc:dd:ee", "aa:bb:cc:dd:ee:gg", "aabbccddeeff"):
        with pytest.raises(ValueError, match="not a MAC"):
            magic_packet(wrong)


@pytest.mark.usefixtures("socket_enabled")
async def test_a_magic_packet_travels() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        send_magic_packets(["52:54:00:12:34:56"], ["127.0.0.1"], port)
        async with asyncio.timeout(5):
            packet = await asyncio.get_running_loop().sock_recv(listener, 200)
    assert packet == magic_packet("52:54:00:12:34:56")
