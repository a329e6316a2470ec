"""Hosts that make everything up, in a real Home Assistant: what they may never cost, add or break.

`scripts/fuzz SECONDS [SEED]` runs this for longer; `HOMELAB_FUZZ_SECONDS` and `HOMELAB_FUZZ_SEED` are what it sets.
A failure names the seed of the host and what it had changed: the same seed tells the same again.
"""

from collections import Counter
import gc
import json
import logging
import os
import random
import sys
import time
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.json import json_bytes
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.homelab_monitor.client.limits import CONNECTIONS_LIMIT, ITEMS_LIMIT
from custom_components.homelab_monitor.client.probe.snapshot import Reply, decode_reply, restore_snapshot
from custom_components.homelab_monitor.client.tracking.inventory import restore_inventory
from custom_components.homelab_monitor.client.tracking.items import ITEM_KINDS
from custom_components.homelab_monitor.diagnostics import async_get_config_entry_diagnostics

from .made_up_host import ROUTER_MAC, MadeUpHost
from .scripted import Host, ScriptedSession

SECONDS = float(os.environ.get("HOMELAB_FUZZ_SECONDS", "15"))
SEED = int(os.environ.get("HOMELAB_FUZZ_SEED", "1"))
POLLS = 40
"""Replies of one made-up host."""
MOST_CPU_SECONDS, MOST_CPU_SECONDS_OF_AN_ENTITY = 1.5, 0.004
"""Of one poll and of all that Home Assistant does about it, and more for each entity that it added in many turns of the
loop. The decoding and judging of the worst is a tenth of that, quadratic work takes a minute."""
MOST_LOOKS_OF_AN_ENTITY = 100
"""For an id that is free, of all that were added at one poll: names that become one id make it thousands."""
MOST_KEPT_BYTES = 48 << 20
"""What stays of a host between two polls, as Python objects."""
ATTRIBUTES_LIMIT = 16 << 10
"""Home Assistant's recorder keeps no attributes beyond it."""


class MadeUpSession(ScriptedSession):
    """Lets a made-up host answer the polls."""

    def __init__(self, made_up: MadeUpHost) -> None:
        super().__init__()
        self.made_up = made_up
        self.own_seconds = 0.0
        """CPU that making replies up has cost."""

    def answer(self, sections: Any) -> Reply:
        """Return the reply, or raise what its decoding raises."""
        begun = time.process_time()
        payload = self.made_up.reply(sections)
        self.own_seconds += time.process_time() - begun
        return decode_reply("plain", payload, sections)

    def advance(self, seconds: float) -> None:
        """Let its clock be: each reply moves it."""


class Oracle:
    """What must hold whatever a host tells; collects what did not."""

    def __init__(self, hass: HomeAssistant, host: Host, router: dr.DeviceEntry) -> None:
        self.hass = hass
        self.host = host
        self.router = router
        self.things: dict[str, Counter[frozenset[tuple[str, str]]]] = {kind.key: Counter() for kind in ITEM_KINDS}
        self.slowest = 0.0
        self.entities = len(er.async_get(hass).entities)
        self.largest = 0
        self.looks = 0

    def look(self, cpu_seconds: float) -> list[str]:
        """Return what is wrong after one poll."""
        entities = len(er.async_get(self.hass).entities)
        new, self.entities = entities - self.entities, entities
        cpu_seconds -= max(new, 0) * MOST_CPU_SECONDS_OF_AN_ENTITY
        self.slowest = max(self.slowest, cpu_seconds)
        slow = [f"{cpu_seconds:.1f} s of CPU"] if cpu_seconds > MOST_CPU_SECONDS else []
        looks, self.looks = self.looks, 0
        far = (
            [f"{looks} looks for ids of {new} entities"] if looks > 1000 + MOST_LOOKS_OF_AN_ENTITY * max(new, 0) else []
        )
        return [*slow, *far, *self._ids(), *self._devices(), *self._states()]

    def look_deep(self) -> list[str]:
        """Return what is wrong with what is kept; dearer, so not after every poll."""
        coordinator = self.host.entry.runtime_data
        kept = deep_size((coordinator.data, coordinator.inventory, coordinator.store.memory))
        self.largest = max(self.largest, kept)
        large = [f"{kept >> 20} MB are kept"] if kept > MOST_KEPT_BYTES else []
        return [*large, *self._store()]

    def count(self) -> None:
        """Count what was there: of each set of keys as many as one look had at most."""
        coordinator = self.host.entry.runtime_data
        for kind in ITEM_KINDS:
            found = kind.found_fn(coordinator.data.snapshot, coordinator.selection)
            now = Counter(frozenset(item.keys.items()) for item in found)
            self.things[kind.key] |= now

    def _ids(self) -> list[str]:
        """No more ids than things that ever were, and never more than the limit."""
        wrong = []
        for kind, known in self.host.entry.runtime_data.inventory.items.items():
            ever = self.things[kind].total()
            if len(known) > ever:
                wrong.append(f"{len(known)} ids of {kind}, of {ever} things that ever were")
            if len(known) > ITEMS_LIMIT:
                wrong.append(f"{len(known)} ids of {kind} are beyond the limit")
        return wrong

    def _devices(self) -> list[str]:
        """The router stays what it was, and our device claims no address that is none."""
        registry = dr.async_get(self.hass)
        router = registry.async_get(self.router.id)
        wrong = [] if router == self.router else ["the router's device changed"]
        for device in dr.async_entries_for_config_entry(registry, self.host.entry.entry_id):
            addresses = [address for _, address in device.connections]
            if len(addresses) > CONNECTIONS_LIMIT:
                wrong.append(f"{len(addresses)} addresses of one device")
            wrong += [f"the address {address!r}" for address in addresses if not is_unicast(address)]
        return wrong

    def _states(self) -> list[str]:
        """Each state and each entry of a registry can be written down."""
        wrong = []
        for state in self.hass.states.async_all():
            try:
                size = len(json_bytes(dict(state.attributes)))
            except (TypeError, ValueError) as err:
                wrong.append(f"{state.entity_id}: {err}")
                continue
            if size > ATTRIBUTES_LIMIT:
                wrong.append(f"{state.entity_id} has {size} bytes of attributes")
        return wrong

    def _store(self) -> list[str]:
        """What is stored can be saved, and says the same when it is read."""
        plain = self.host.entry.runtime_data.store._plain()
        try:
            stored = json.loads(json_bytes(plain))
            snapshot = restore_snapshot(stored["snapshot"])
            inventory = restore_inventory(stored["inventory"])
        except (TypeError, ValueError, LookupError) as err:
            return [f"the store: {err!r}"]
        again = {"snapshot": snapshot.as_dict(), "inventory": inventory.as_dict()}
        differs = [part for part, value in again.items() if json.loads(json_bytes(value)) != stored[part]]
        return [f"the stored {part} is read as another one" for part in differs]


def is_unicast(address: str) -> bool:
    """Tell whether a text is the address of one card."""
    octets = address.split(":")
    if len(octets) != 6 or any(len(each) != 2 or set(each) - set("0123456789abcdef") for each in octets):
        return False
    return any(int(each, 16) for each in octets) and not int(octets[0], 16) & 1


def deep_size(value: object) -> int:
    """Return the bytes of an object and of all that it holds."""
    seen: set[int] = set()
    todo, size = [value], 0
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, (type, type(sys))):
            continue
        seen.add(id(each))
        size += sys.getsizeof(each)
        if isinstance(each, dict):
            todo += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset)):
            todo += each
        elif type(each).__module__.startswith("custom_components.homelab_monitor"):
            names = getattr(type(each), "__slots__", ()) or getattr(each, "__dict__", ())
            todo += [getattr(each, name) for name in names if hasattr(each, name)]
    return size


async def watch(hass: HomeAssistant, freezer: FrozenDateTimeFactory, seed: int, router: dr.DeviceEntry) -> Oracle:
    """Let Home Assistant watch one made-up host; fail with what did not hold."""
    made_up = MadeUpHost(random.Random(seed))
    host = Host(hass, freezer)
    host.session = MadeUpSession(made_up)
    await host.start()
    oracle = Oracle(hass, host, router)
    is_available = er.async_get(hass)._entity_id_available

    def looked(entity_id: str) -> bool:
        oracle.looks += 1
        return is_available(entity_id)

    er.async_get(hass)._entity_id_available = looked  # type: ignore[method-assign]
    oracle.count()
    host.entry.runtime_data.async_add_listener(oracle.count)
    for number in range(POLLS):
        started = time.process_time() - host.session.own_seconds
        await host.move(61 if number % 4 == 3 else 11, step=61 if number % 4 == 3 else 11)
        wrong = oracle.look(time.process_time() - host.session.own_seconds - started)
        wrong += oracle.look_deep() if number % 8 == 7 else []
        assert not wrong, f"seed {seed}, poll {number}: {'; '.join(wrong[:5])}\nchanges: {made_up.done[-12:]}"
    json_bytes(await async_get_config_entry_diagnostics(hass, host.entry))
    assert await hass.config_entries.async_unload(host.entry.entry_id)
    await host.start_again()
    assert host.entry.state is ConfigEntryState.LOADED, f"seed {seed}: not loaded with what was stored"
    await hass.config_entries.async_remove(host.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert not er.async_entries_for_config_entry(er.async_get(hass), host.entry.entry_id)
    gc.collect()
    return oracle


@pytest.mark.timeout(SECONDS + 300)
async def test_no_host_that_makes_everything_up_costs_adds_or_breaks_anything(
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    elsewhere = MockConfigEntry(domain="router", title="router")
    elsewhere.add_to_hass(hass)
    router = dr.async_get(hass).async_get_or_create(
        config_entry_id=elsewhere.entry_id,
        identifiers={("router", "1")},
        connections={(dr.CONNECTION_NETWORK_MAC, ROUTER_MAC)},
        name="Router",
    )
    seed, ends, slowest, largest = SEED, time.process_time() + SECONDS, 0.0, 0
    while seed == SEED or time.process_time() < ends:
        oracle = await watch(hass, freezer, seed, router)
        slowest, largest = max(slowest, oracle.slowest), max(largest, oracle.largest)
        errors = [
            f"{record.getMessage()} {record.exc_info}" for record in caplog.records if record.levelno >= logging.ERROR
        ]
        assert not errors, f"seed {seed}: {errors[:3]}"
        caplog.clear()
        seed += 1
    counts = f"{seed - SEED} made-up hosts, {POLLS} replies each"
    with capsys.disabled():
        sys.stdout.write(f"\n{counts}: slowest {slowest:.2f} s beside new entities, most kept {largest >> 20} MB\n")
