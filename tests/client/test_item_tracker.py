"""Which items exist, under which ids, and how rarely they are searched for."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from custom_components.homelab_monitor.client.models import Sections, Service, Services
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot
from custom_components.homelab_monitor.client.tracking import item_tracker
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory
from custom_components.homelab_monitor.client.tracking.items import ITEM_KINDS, Selection
from custom_components.homelab_monitor.client.tracking.rates import Rates

SERVICES = next(kind for kind in ITEM_KINDS if kind.key == "service")


def told(*names: str, at: float) -> Snapshot:
    units = tuple(Service(name=name, active_state="active", origin="admin") for name in names)
    section = Services(counts={}, units=units, complete={"systemd": True})
    return Snapshot(received=at, steady=at, ages={"services": at}, sections=Sections(services=section))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return when the services were looked through."""
    found: list[float] = []

    def find(snapshot: Snapshot, selection: Selection) -> Iterator[FoundItem]:
        found.append(snapshot.received)
        return SERVICES.found_fn(snapshot, selection)

    monkeypatch.setattr(item_tracker, "ITEM_KINDS", (replace(SERVICES, found_fn=find),))
    return found


def test_a_section_is_looked_through_only_when_it_was_reported(looks: list[float]) -> None:
    services = item_tracker.ItemTracker(Inventory(), Selection())
    first = told("web.service", at=10.0)
    assert list(services.items(first, Rates(), is_news=True)["service"]) == ["system/web.service"]
    later = replace(first, received=20.0)
    assert list(services.items(later, Rates(), is_news=True)["service"]) == ["system/web.service"]
    assert looks == [10.0]
    both = told("web.service", "db.service", at=30.0)
    assert len(services.items(both, Rates(), is_news=True)["service"]) == 2
    assert looks == [10.0, 30.0]


def test_a_section_that_is_gone_takes_its_items_along(looks: list[float]) -> None:
    services = item_tracker.ItemTracker(Inventory(), Selection())
    services.items(told("web.service", at=10.0), Rates(), is_news=True)
    assert services.items(Snapshot(received=20.0), Rates(), is_news=True) == {"service": {}}
    assert looks == [10.0, 20.0]


def test_the_inventory_is_worth_saving_when_an_item_comes_or_is_forgotten(looks: list[float]) -> None:
    services = item_tracker.ItemTracker(Inventory(), Selection())
    services.items(told("web.service", at=10.0), Rates(), is_news=True)
    services.items(told("web.service", at=20.0), Rates(), is_news=True)
    assert services.revision == 1
    services.forget("service", "system/web.service")
    assert services.revision == 2
    services.items(told("web.service", at=30.0), Rates(), is_news=True)
    assert (services.revision, len(looks)) == (3, 3)
