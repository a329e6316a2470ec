"""What hosts cost the database: Home Assistant's own recorder counts the rows that idle hosts write."""

from datetime import timedelta
from unittest.mock import PropertyMock, patch

from homeassistant.components.recorder import Recorder
from homeassistant.components.recorder.db_schema import States, StatesMeta
from homeassistant.components.recorder.util import session_scope
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity import Entity
import pytest
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done
from sqlalchemy import func, select

from .quiet import STEP_SECONDS, Quiet
from .scripted import Host

DAY = 24 * 3600.0
SETTLING_SECONDS = 300.0
MEASURED_SECONDS = 3600.0
CONTAINERS_SECONDS = 30.0
"""How often containers are asked for: polls between these cost nothing for them, and most of a test's time."""


def rows(hass: HomeAssistant) -> dict[str, int]:
    """Return how many rows of `states` each entity has."""
    wanted = (
        select(StatesMeta.entity_id, func.count())
        .join(States, States.metadata_id == StatesMeta.metadata_id)
        .group_by(StatesMeta.entity_id)
    )
    with session_scope(hass=hass, read_only=True) as session:
        return dict(session.execute(wanted).tuples().all())


async def live(host: Host, quiet: Quiet, seconds: float) -> None:
    """Poll an idle host at its interval."""
    interval = host.entry.runtime_data.options.interval
    for _ in range(round(seconds / interval)):
        host.freezer.tick(timedelta(seconds=interval))
        host.session.advance(interval)
        for _ in range(round(interval / STEP_SECONDS)):
            quiet.step()
        await host.entry.runtime_data.async_refresh()
        assert host.status == "online"


async def rows_a_day(host: Host) -> dict[str, float]:
    """Return the rows that each entity costs a day, once everything is there."""
    quiet = Quiet(host.session.sections)
    await live(host, quiet, SETTLING_SECONDS)
    await async_wait_recording_done(host.hass)
    before = rows(host.hass)
    await live(host, quiet, MEASURED_SECONDS)
    await async_wait_recording_done(host.hass)
    scale = DAY / MEASURED_SECONDS
    return {entity: scale * (count - before.get(entity, 0)) for entity, count in rows(host.hass).items()}


async def test_an_idle_host_costs_less_than_20000_rows_a_day(recorder_mock: Recorder, host: Host) -> None:
    await host.start()
    costs = await rows_a_day(host)
    assert costs["sensor.plain_cpu_usage"] > 0  # it is no still life
    assert sum(costs.values()) <= 20_000


def container(number: int) -> dict[str, object]:
    about = {"engine": "docker", "owner": "root", "name": f"app{number}", "id": f"{number:012x}", "image": "app:1"}
    use = {"cpu_seconds": 10.0, "memory_bytes": 50_000_000}
    return about | use | {"state": "running", "health": "healthy", "restarts": 0}


async def rows_of_containers(host: Host, count: int, **options: object) -> dict[str, float]:
    """Return the rows a day of the entities of idle containers, and of the host's that count them."""
    host.session.sections["containers"] = {
        "at": 5000.0,
        "engines": [{"engine": "docker", "owner": "root", "state": "ok"}],
        "complete": {"docker/root": True},
        "containers": [container(number) for number in range(count)],
    }
    await host.start(interval=CONTAINERS_SECONDS, **options)
    costs = await rows_a_day(host)
    return {entity: rows for entity, rows in costs.items() if "app" in entity or "container" in entity}


async def test_fifteen_idle_containers_cost_less_than_5000_rows_a_day(recorder_mock: Recorder, host: Host) -> None:
    costs = await rows_of_containers(host, 15)
    for kind in ("state", "health", "cpu_usage", "memory_used", "image"):
        assert sum(entity.endswith(f"_{kind}") for entity in costs) == 15
    assert sum(rows for entity, rows in costs.items() if entity.endswith("_memory_used")) > 0  # it is no still life
    assert sum(rows for entity, rows in costs.items() if entity.endswith("_cpu_usage")) > 0
    assert sum(costs.values()) <= 5_000


@pytest.mark.parametrize(("enabled", "limit"), [(False, 1_000), (True, 10_000)], ids=["as they come", "all enabled"])
async def test_thirty_idle_containers_add_few_rows(
    recorder_mock: Recorder, host: Host, enabled: bool, limit: int
) -> None:
    new = PropertyMock(return_value=True) if enabled else Entity.entity_registry_enabled_default
    with patch.object(Entity, "entity_registry_enabled_default", new=new):
        costs = await rows_of_containers(host, 30, containers=["*"])
    assert len(costs) >= (180 if enabled else 30)
    assert sum(costs.values()) <= limit
