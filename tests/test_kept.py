"""What an upgrade must not change, against a record of it: ids, names that automations use, files, lines on the wire.

What is recorded in `fixtures/kept.json` is what users of an earlier version have: in their registries, in their
automations, in `.storage`. `HOMELAB_KEEP=1 pytest tests/test_kept.py` adds new names; what is on record changes
only with a migration.
"""

from collections.abc import Iterable
from dataclasses import asdict
import json
import os
from pathlib import Path
import re
import secrets
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
import yaml

from custom_components.homelab_monitor.client.checks.evaluation import CHECKS
from custom_components.homelab_monitor.client.models import SECTIONS
from custom_components.homelab_monitor.client.probe.programs import BOOTSTRAP
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.probe.snapshot import decode_reply
from custom_components.homelab_monitor.const import DOMAIN
from custom_components.homelab_monitor.health.issues import issue_id
from custom_components.homelab_monitor.settings import HostAddress, HostOptions
from custom_components.homelab_monitor.store import HostStore

from .recorded import RecordedHost, recorded_hosts, recorded_reply
from .scripted import Host
from .test_actions import SOCKETS, ask, busy  # noqa: F401

INTEGRATION = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"
RECORD = Path(__file__).parent / "fixtures" / "kept.json"
ADDRESS = {
    "host": "192.0.2.7",
    "port": 2222,
    "username": "mon",
    "platform": "linux",
    "host_id": "00112233445566778899aabbccddeeff",
    "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmDdEhKX5t9v2wWSGTYtcB4oaXtLkxGXLfBAfJ8sgPM"],
    "host_keys_proven": True,
    "home_host": "nas.lan",
    "home_port": 22,
    "machine": "ffeeddccbbaa99887766554433221100",
    "key_sources": ["192.0.2.0/24"],
}
ON_DEMAND = {"sockets": SOCKETS, "logs": {"lines": ["a", "b"], "truncated": True}}
ANSWERS = {"get_processes": {}, "get_sockets": {}, "get_log": {"service": "nginx.service"}}


def kept(name: str, value: Any) -> Any:
    """Return what is on record under a name; with HOMELAB_KEEP set, add what is new, also to a list."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if os.environ.get("HOMELAB_KEEP"):
        before = record.get(name, value)
        record[name] = sorted({*before, *value}) if _is_list_of_names(before) else before
        RECORD.write_text(written(record))
    return record[name]


def _is_list_of_names(value: Any) -> bool:
    """Return whether a record is a list of names, to which new ones can be added."""
    return isinstance(value, list) and value == sorted(value) and all(isinstance(each, str) for each in value)


def written(record: dict[str, Any]) -> str:
    """Return the record as text: a line for each name, so that a difference can be read."""

    def short(value: Any, indent: str) -> str:
        if isinstance(value, list) and all(isinstance(each, str) for each in value) and len(value) > 1:
            rows = f",\n{indent} ".join(json.dumps(each) for each in value)
            return f"[\n{indent} {rows}]"
        if isinstance(value, dict) and len(json.dumps(value)) > 100:
            rows = f",\n{indent} ".join(
                f"{json.dumps(name)}: {short(each, indent + ' ')}" for name, each in value.items()
            )
            return f"{{\n{indent} {rows}}}"
        return json.dumps(value)

    return short(record, "") + "\n"


def changes_of(name: str, now: list[str]) -> list[str]:
    """Return what is on record and no longer there, and what is there and not on record."""
    record = set(kept(name, now))
    gone = [f"{each} is gone" for each in sorted(record - set(now))]
    return gone + [f"{each} is new: HOMELAB_KEEP=1 adds it to the record" for each in sorted(set(now) - record)]


def leaves(tree: dict[str, Any], above: str = "") -> list[str]:
    """Return the dotted names of all texts in a tree."""
    return [
        leaf
        for name, each in tree.items()
        for leaf in (leaves(each, f"{above}{name}.") if isinstance(each, dict) else [f"{above}{name}"])
    ]


def shape(value: Any) -> Any:
    """Return the names and types of a response; of a list what its rows have."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in sorted(value.items())}
    if isinstance(value, list):
        rows = [shape(each) for each in value]
        return [
            {name: kind for row in rows for name, kind in row.items()}
            if all(isinstance(r, dict) for r in rows)
            else rows[0]
        ]
    return type(value).__name__


@pytest.mark.parametrize("name", [path.name for path in recorded_hosts()])
async def test_ids_of_entities(
    name: str,
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    entity_registry: er.EntityRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeassistant.helpers.entity.Entity.entity_registry_enabled_default", True)
    host = RecordedHost(hass, freezer, name)
    host.session.shell.say("upgrade none\n")
    await host.start(power=True, control_containers=True, install_updates=True)
    await host.move(40, step=5)
    entries = er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)
    now = sorted(f"{each.domain} {each.unique_id} {each.translation_key}" for each in entries)
    assert not changes_of(f"entities of {name}", now)


def test_names_of_texts_and_icons() -> None:
    texts = json.loads((INTEGRATION / "translations" / "en.json").read_text())
    now = leaves({part: texts[part] for part in ("entity", "issues", "services")})
    assert not changes_of("texts", sorted(now))
    assert not changes_of("icons", sorted(leaves(json.loads((INTEGRATION / "icons.json").read_text()))))


def test_ids_of_issues() -> None:
    assert not changes_of("issues", sorted(issue_id("ENTRY", check.key) for check in CHECKS))


async def test_types_of_events(host: Host, entity_registry: er.EntityRegistry) -> None:
    await host.start()
    entries = er.async_entries_for_config_entry(entity_registry, host.entry.entry_id)
    events = [each for each in entries if each.domain == "event"]
    now = sorted(f"{each.translation_key} {name}" for each in events for name in each.capabilities["event_types"])
    assert not changes_of("events", now)


def test_names_and_fields_of_actions() -> None:
    actions = yaml.safe_load((INTEGRATION / "services.yaml").read_text())

    def fields(described: dict[str, Any]) -> list[str]:
        found = described.get("fields", {})
        return [name for name, each in found.items() if "fields" not in each] + [
            name for each in found.values() for name in fields(each)
        ]

    now = sorted(
        f"{action} {field}"
        for action, each in actions.items()
        if not action.startswith(".")
        for field in ["", *fields(each)]
    )
    assert not changes_of("actions", now)


@pytest.mark.parametrize("action", ANSWERS)
async def test_responses_of_actions(action: str, hass: HomeAssistant, busy: Host) -> None:  # noqa: F811
    busy.session.sections.update(ON_DEMAND)
    now = shape(await ask(hass, busy, action, **ANSWERS[action]))
    assert now == kept(f"response of {action}", now)


@pytest.mark.parametrize("name", ["debian-systemd", "nvidia-workstation"])
async def test_files(
    name: str, hass: HomeAssistant, freezer: FrozenDateTimeFactory, hass_storage: dict[str, Any]
) -> None:
    host = RecordedHost(hass, freezer, name)
    await host.start()
    await host.move(40, step=5)
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    written = hass_storage[f"{DOMAIN}.{host.entry.entry_id}"]
    before = kept(f"file of {name}", json.loads(json.dumps(written["data"])))
    assert before.keys() <= written["data"].keys(), "what is stored has lost a part"

    hass_storage[f"{DOMAIN}.kept"] = {
        "version": written["version"],
        "minor_version": 1,
        "key": f"{DOMAIN}.kept",
        "data": before,
    }
    store = HostStore(hass, "kept", host.entry.unique_id or "")
    await store.async_load()
    await store.async_save(whatever_size=True)
    after = json.loads(json.dumps(hass_storage[f"{DOMAIN}.kept"]["data"]))
    after["pace"]["at"] = before["pace"]["at"]  # when it was written
    assert plain(after, before) == plain(before, before)


def plain(file: dict[str, Any], parts: Iterable[str]) -> dict[str, str]:
    """Return each part of a file as it is written, but for the order of names."""
    return {part: json.dumps(file[part], sort_keys=True) for part in parts}


def test_entries() -> None:
    data = kept("data of an entry", ADDRESS)
    assert json.dumps(HostAddress.from_data(data).as_data()) == json.dumps(data)
    options = kept("options of an entry", {})
    now = json.loads(json.dumps(asdict(HostOptions.from_options(options))))
    assert now == kept("options as read", now)


def test_lines_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _bytes: "ID")
    asked = [
        (tuple(SECTIONS), None, (), 10.0),
        (("cpu",), {"services": ["nginx.service"]}, ("security",), 3.0),
    ]
    now = [ProbeSession._request_for(None, *each).line.decode() for each in asked]
    assert [json.loads(line) for line in kept("requests", now)] == [json.loads(line) for line in now]
    assert kept("bootstrap", BOOTSTRAP) == BOOTSTRAP


@pytest.mark.parametrize("name", [path.name for path in recorded_hosts()])
def test_replies(name: str) -> None:
    reply = decode_reply("host", json.dumps(recorded_reply(name)).encode())
    now = sorted(re.sub(r"\[\d+\]", "[]", leaf) for leaf in set(paths(reply.sections)))
    assert not changes_of(f"reply of {name}", now)


def paths(sections: Any) -> set[str]:
    """Return the dotted names of everything that typed sections hold."""
    found = set()

    def walk(value: Any, above: str) -> None:
        if isinstance(value, dict):
            for each in value.values():
                walk(each, f"{above}{{}}")
        elif isinstance(value, (list, tuple, set, frozenset)):
            for each in value:
                walk(each, f"{above}[]")
        elif hasattr(value, "__dataclass_fields__"):
            for field in value.__dataclass_fields__:
                if getattr(value, field) is not None:
                    walk(getattr(value, field), f"{above}.{field}")
        else:
            found.add(above)

    for section, value in sections.items():
        walk(value, section)
    return found
