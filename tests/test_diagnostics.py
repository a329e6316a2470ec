"""Diagnostics: useful for a bug report, silent about who and where."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
import json
import re
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.homelab_monitor.client.checks.report import CheckResult, CheckStatus, Report, Verdict
from custom_components.homelab_monitor.client.errors import Unreachable
from custom_components.homelab_monitor.client.models import SECTIONS, Sections
from custom_components.homelab_monitor.client.tracking.events import HostEvent
from custom_components.homelab_monitor.client.tracking.inventory import Known
from custom_components.homelab_monitor.client.tracking.problems import Problem
from custom_components.homelab_monitor.diagnostics import TEXTS, WORDS
from custom_components.homelab_monitor.registration import Refused
from custom_components.homelab_monitor.settings import HostOptions

from .scripted import Host

CANARY = re.compile(r"canary\d+")
NEVER = {
    "mountpoint device uuid owner late",
    "hostname machine_id_hash serial wwn mac permanent_mac address prefix primary primary_address",
    "gateway_ipv4 gateway_ipv6 dns_servers search_domains host_ip",
    "id image description compose_project compose_service unit container gpu pci_address",
    "available installed reboot_packages asleep",
}
"""Names of fields that say who or where a machine is, or what its people do with it, in whatever section."""


class Aviary:
    """Makes values whose every text is another canary, and knows where each one sits."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def canary(self, place: str) -> str:
        name = f"canary{len(self.places)}"
        self.places[name] = place
        return name

    def fill(self, hint: Any, place: str = "") -> Any:
        """Return a value of that type."""
        origin, args = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return self.fill(next(each for each in args if each is not type(None)), place)
        if origin is tuple:
            return (self.fill(args[0], place), self.fill(args[0], place))
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {self.canary(place): self.fill(args[1], place)}
        if is_dataclass(hint):
            hints = get_type_hints(hint)
            return hint(**{each.name: self.fill(hints[each.name], _place(hint, each.name)) for each in fields(hint)})
        if hint is str:
            return self.canary(place)
        assert hint in (bool, int, float), (hint, place)
        return hint(1)

    def seen(self, told: object) -> set[str]:
        """Return the places of the canaries that can be heard in it."""
        return {self.places[name] for name in CANARY.findall(json.dumps(told))}


def _place(kind: type, name: str) -> str:
    """Return the name of a field by the class that declares it."""
    owner = next(
        each for each in kind.__mro__ if name in vars(each).get("__annotations__", {}) or _declares(each, name)
    )
    return f"{owner.__name__}.{name}"


def _declares(kind: type, name: str) -> bool:
    bases = [base for base in kind.__bases__ if is_dataclass(base)]
    return is_dataclass(kind) and not any(name in {each.name for each in fields(base)} for base in bases)


async def test_no_text_of_a_host_or_its_options_is_reported_unless_its_field_is_allowed(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    made = Aviary()
    coordinator, entry = host.entry.runtime_data, host.entry
    snapshot = replace(
        coordinator.data.snapshot,
        boot_id=made.canary("boot_id"),
        sections=made.fill(Sections),
        missing={"gpu": made.canary("missing"), made.canary("missing"): made.canary("missing")},
        errors={"cpu": made.canary("errors"), made.canary("errors"): made.canary("errors")},
        ages={"cpu": 1.0, made.canary("ages"): 1.0},
        seconds={"cpu": 1.0, made.canary("seconds"): 1.0},
    )
    coordinator.data = replace(
        coordinator.data,
        snapshot=snapshot,
        error=Unreachable(made.canary("error.host"), made.canary("error.detail")),
        items={"disk": {made.canary("items"): made.canary("items")}},
        events=(HostEvent(type="service_failed", about={"service": made.canary("events")}),),
        problems=(Problem(kind="disk_full", item=made.canary("problems")),),
    )
    row = Verdict(CheckStatus.AMBER, "shell_noise", {"line": made.canary("placeholders")}, "quiet_shell")
    coordinator.store.memory.last_test = Report(rows=(CheckResult.of("shell", row),), at=1.0).as_dict()
    known = Known(keys={"uuid": made.canary("keys")}, label=made.canary("label"))
    coordinator.inventory.items["disk"] = {made.canary("item_id"): known}
    coordinator.device.refused = Refused(taken={"00:1b:21:aa:bb:cc": "router"}, invalid=2)
    options = {f.name: made.fill(get_type_hints(HostOptions)[f.name], f"options.{f.name}") for f in fields(HostOptions)}
    data = dict(entry.data) | {name: made.canary(name) for name in ("host", "username", "platform", "host_id")}
    data |= {"host_keys": [made.canary("host_keys")], made.canary("data"): made.canary("data")}
    title = made.canary("title")
    hass.config_entries.async_update_entry(
        entry, data=data, options=options | {made.canary("options"): made.canary("options")}, title=title
    )
    session = host.session
    session.noise, session.python = made.canary("noise"), (made.canary("python"), made.canary("python"))

    found = await get_diagnostics_for_config_entry(hass, hass_client, entry)

    assert len(made.places) > 150
    assert made.seen(found) - (WORDS | TEXTS) == set()
    # What is allowed is really there: a name of the list that no field has would be of no use.
    assert (WORDS | TEXTS) - made.seen(found) == set()
    assert found["snapshot"]["sections"].keys() == SECTIONS.keys()
    assert found["entry"]["options"]["interval"] == 1.0
    assert found["entry"]["options"]["services"] == 2
    assert found["refused_addresses"] == {
        "taken": [{"address": "00:1b:21:xx:xx:xx", "device_of": "router"}],
        "taken_count": 1,
        "invalid": 2,
        "beyond_limit": 0,
    }


def test_what_says_who_or_where_a_machine_is_is_never_allowed() -> None:
    never = {name for line in NEVER for name in line.split()}
    assert {place for place in WORDS | TEXTS if place.partition(".")[2] in never} == set()


async def test_a_word_that_is_none_and_a_long_text_are_not_reported(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    host.session.sections["filesystems"]["filesystems"][0]["type"] = "nfs 192.0.2.7:/home/anna"
    host.session.sections["system"] |= {"os_name": "o" * 4000, "kernel": "k" * 4000}
    await host.start()
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    text = json.dumps(found)
    assert "192.0.2.7" not in text
    assert "anna" not in text
    assert len(found["snapshot"]["sections"]["system"]["os_name"]) == 120
    assert "kkk" not in text


async def test_a_value_of_a_type_that_nobody_has_thought_of_is_not_reported(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    coordinator = host.entry.runtime_data
    sections = coordinator.data.snapshot.sections
    odd = replace(sections.system, os_name=b"anna", kernel=frozenset({"anna"}))
    snapshot = replace(coordinator.data.snapshot, sections=replace(sections, system=odd))
    coordinator.data = replace(coordinator.data, snapshot=snapshot)
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    system = found["snapshot"]["sections"]["system"]
    assert (system["os_name"], system["kernel"]) == ("**REDACTED**", "**REDACTED**")
    assert "anna" not in json.dumps(found)


async def test_a_name_in_a_mapping_that_is_no_word_is_not_reported(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    names = ["nfs 192.0.2.7:/home/anna", "anna@192.0.2.7", "mounts anna", "", "a" * 65, "mounts\u2028anna", "anna/x"]
    host.session.sections["services"]["counts"] = {"active": 3} | dict.fromkeys(names, 7)
    host.session.sections["filesystems"]["complete"] = {"mounts": True} | dict.fromkeys(names, True)
    await host.start()
    sections = (await get_diagnostics_for_config_entry(hass, hass_client, host.entry))["snapshot"]["sections"]
    assert sections["services"]["counts"] == {"active": 3}
    assert sections["filesystems"]["complete"] == {"mounts": True}


async def test_of_what_went_wrong_it_is_reported_what_kind_it_was(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    host.session.sections["load"] = {"load1": "anna"}
    host.session.document["errors"] = {"gpu": "no driver for anna"}
    host.session.document["missing"] = {"pressure": "not_supported", "sensors": "anna says no"}
    await host.start()
    snapshot = (await get_diagnostics_for_config_entry(hass, hass_client, host.entry))["snapshot"]
    assert snapshot["errors"] == {"gpu": "error", "load": "wrong_shape"}
    assert {name: snapshot["missing"][name] for name in ("pressure", "sensors")} == {
        "pressure": "not_supported",
        "sensors": "**REDACTED**",
    }


async def test_lists_of_what_was_refused_have_an_end(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    taken = {f"00:1b:21:00:00:{number:02x}": "router" for number in range(200)}
    host.entry.runtime_data.device.refused = Refused(taken=taken)
    refused = (await get_diagnostics_for_config_entry(hass, hass_client, host.entry))["refused_addresses"]
    assert refused["taken_count"] == 200
    assert len(refused["taken"]) <= 32


async def test_what_was_dropped_is_counted(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    await host.start()
    snapshot = host.entry.runtime_data.data.snapshot
    told = {"services.units": 7, "192.0.2.7 or a name of a host": 1}

    class Counting(type(snapshot)):
        dropped = told

    counting = Counting(
        **{each.name: getattr(snapshot, each.name) for each in fields(snapshot) if each.init and each.name != "dropped"}
    )
    host.entry.runtime_data.data = replace(host.entry.runtime_data.data, snapshot=counting)
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    assert found["dropped"] == {"services.units": 7}


async def test_diagnostics_report_the_snapshot_and_hide_the_host(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, host: Host
) -> None:
    host.session.sections["filesystems"]["filesystems"][0] |= {"device": "secret-nas:/secret", "mountpoint": "/secret"}
    await host.start(services=["secret.service"], filesystems=["/secret"])
    noise = Verdict(CheckStatus.AMBER, "shell_noise", {"line": "Welcome to secret-lair"}, "quiet_shell")
    login = Verdict(CheckStatus.OK, "logged_in", {"username": "secret-user"})
    rows = (CheckResult.of("shell", noise), CheckResult.of("login", login))
    host.entry.runtime_data.store.memory.last_test = Report(rows=rows, at=1.0).as_dict()
    found = await get_diagnostics_for_config_entry(hass, hass_client, host.entry)
    assert found["status"] == "online"
    assert found["snapshot"]["sections"]["memory"]["total_bytes"] == 8_000_000_000
    assert found["snapshot"]["sections"]["system"]["os_name"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["snapshot"]["sections"]["filesystems"]["filesystems"][0]["type"] == "ext4"
    assert found["snapshot"]["seconds"] == {"cpu": 0.0004}
    assert found["inventory"]["filesystem"] == 2
    assert found["entry"]["options"]["services"] == 1
    assert [row["reason"] for row in found["last_test"]["rows"]] == ["shell_noise", "logged_in"]
    text = json.dumps(found)
    assert "secret" not in text
    for secret in ("127.0.0.1", "02:00:00:00:00:01", "S-1", "naa.5000000000000001", "00112233", "ssh-ed25519"):
        assert secret not in text
