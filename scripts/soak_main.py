"""scripts/soak: a day of one Home Assistant and one host, and what became of what there was after the first hour.

  scripts/soak [--hours 24] [--host plain|nothing|twins]

A real Home Assistant core watches a real sshd on loopback with one living real probe. The clocks of both are moved,
from timer to timer, so that a day of polls at 10 s takes minutes. After ten minutes a service, a disk, a network card
and a filesystem are taken from the host; after the first hour everything is noted. Then so many hours pass: at a
quarter of them the entry is reloaded, at half of them Home Assistant is restarted, and at five eighths the wall clocks
of the hub and of the host are wrong for a while, one after the other, each forward and back. In the end all is
compared: entities, devices, unique ids and store keys; tasks, timers, descriptors, threads and memory of the hub,
descriptors, threads and memory of the probe; events that nothing caused; database rows a day; how often each section
was asked; and that what was taken away is forgotten after 24 hours, and not before. Prints a table and ends with 1 on
a deviation. docs/soak.md says what is real.

As root with namespaces and systemd the host is one of the lab (tests/homelab); else it is this machine, from which
nothing is taken away. `nothing`: a host without systemd, disks and containers. `twins`: two equal things of each kind.
"""

import argparse
import asyncio
from pathlib import Path
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soak_hub import CLOCKS, LOGGED, Hub, Underway  # isort: skip - the clocks first
from soak_looks import APART_SECONDS, LOOKS, look
from soak_places import SETUPS, Place, open_place
from soak_table import Row, compare, table

from custom_components.homelab_monitor.client.models import SECTIONS

HOUR = 3600.0
SETTLING_SECONDS = 600.0
"""When something is taken from the host."""
WRONG_SECONDS = 600.0
"""For how long a wall clock is wrong."""
WRONG_BY = 3600.0
INTERVAL = 10.0
MOST_ROWS = 15000
"""Rows of the database a day, as the bench's."""
SLACK = {"hub": 3.0, "probe": 1.0}
"""Megabytes that may be more: fragments."""
FORGOTTEN_HOURS = 24.0

_STARTED = time.perf_counter()


async def soak(place: Place, folder: Path, hours: float) -> list[Row]:
    """Return the table."""
    hub = Hub(place, folder)
    await hub.start()
    await hub.pass_time(SETTLING_SECONDS)
    place.take_away()
    # Once before the first look: a wrong clock is a repair issue, whose file is there from then on.
    await _be_wrong(hub, WRONG_SECONDS, host=WRONG_BY)
    await hub.pass_time(HOUR - CLOCKS.ahead - LOOKS * APART_SECONDS)
    first = await look(hub)
    state = hub.entry.runtime_data.data
    items = ", ".join(f"{len(found)} {kind}" for kind, found in state.items.items() if found)
    say(f"the first hour is over: {len(hub.hass.states.async_all())} states, {items}")
    hub.forget()
    boot_time = _boot_time(hub)
    begun = CLOCKS.ahead
    await _live(hub, begun, hours * HOUR - LOOKS * APART_SECONDS)
    last = await look(hub)
    passed = CLOCKS.ahead - begun
    rows = compare(first, last, SLACK, place.leavers, forgotten=hours >= FORGOTTEN_HOURS)
    rows += [*_news(hub, boot_time), _rows(hub, passed), *_asked(hub, passed)]
    await hub.stop()
    return rows


async def _live(hub: Hub, begun: float, seconds: float) -> None:
    """Let the hours pass, with all that is done in them."""

    async def until(part: float) -> None:
        await hub.pass_time(begun + part * seconds - CLOCKS.ahead)

    await until(1 / 4)
    await hub.reload()
    say("reloaded")
    await until(1 / 2)
    await hub.restart()
    say("restarted")
    await until(5 / 8)
    for side in ("hub", "host"):
        for wrong in (WRONG_BY, -WRONG_BY):
            await _be_wrong(hub, min(WRONG_SECONDS, seconds / 40), **{side: wrong})
            await hub.pass_time(min(WRONG_SECONDS, seconds / 40))
    say("all clocks were wrong")
    await until(1)


async def _be_wrong(home: Hub, seconds: float, **errors: float) -> None:
    """Let a wall clock be wrong for so long."""
    CLOCKS.set_wrong(**errors)
    await home.pass_time(seconds)
    CLOCKS.set_wrong()


def _boot_time(hub: Hub) -> float:
    """Return when the host booted, as far as the hub knows."""
    return hub.entry.runtime_data.data.snapshot.boot_time or 0.0


def _news(hub: Hub, boot_time: float) -> list[Row]:
    """Return what was told that nothing caused."""
    offline = [
        name for name, shown in hub.shown.items() if name.endswith(("_online", "_connectivity")) and "off" in shown
    ]
    moved = abs(_boot_time(hub) - boot_time)
    problems = sorted({state for name, shown in hub.shown.items() if name.endswith("_problem") for state in shown})
    return [
        Row("events", "none", ", ".join(hub.news) or "none", ok=not hub.news),
        Row("lines in the log", "none", " | ".join(LOGGED.lines) or "none", ok=not LOGGED.lines),
        Row("said to be offline", "never", ", ".join(offline) or "never", ok=not offline),
        Row("states of Problem", "one", ", ".join(problems), ok=len(set(problems) - {"unavailable"}) <= 1),
        Row("boot time moved", "< 1 s", f"{moved:.2f} s", ok=moved < 1),
    ]


def _rows(hub: Hub, passed: float) -> Row:
    """Return whether the database stays small."""
    a_day = hub.rows * 24 * HOUR / passed
    return Row("database rows a day", f"≤ {MOST_ROWS:,}", f"{a_day:,.0f}", ok=a_day <= MOST_ROWS)


def _asked(hub: Hub, passed: float) -> list[Row]:
    """Return whether each section was asked as often as it should have been."""
    return [_asked_row(name, hub.underway, passed) for name in SECTIONS]


def _asked_row(name: str, underway: Underway, passed: float) -> Row:
    """Return a section's row; two starts may each ask a few times more, and what was late is asked again."""
    asked, right = underway.asked, passed / max(INTERVAL, SECTIONS[name].every_seconds)
    low, high = int(0.98 * right) - 1, int(1.005 * right) + 5 + underway.late[name]
    return Row(f"{name} was asked", f"{low} to {high}", f"{asked[name]}", ok=low <= asked[name] <= high)


def say(words: str) -> None:
    """Say how far it is."""
    print(f"{time.perf_counter() - _STARTED:6.1f} s  {CLOCKS.ahead / HOUR:5.1f} h  {words}", flush=True)


def main() -> int:
    """Watch, print the table, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--host", choices=list(SETUPS), default="plain")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # As Ctrl-C: the host that was started has to end.
    LOGGED.begin()
    with tempfile.TemporaryDirectory(prefix="homelab-soak-") as name:
        shared, config = Path(name, "shared"), Path(name, "config")
        for folder in (Path(name), shared, config):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        CLOCKS.share(shared / "clock")
        with open_place(arguments.host, shared) as place:
            say(f"watching {place.words}")
            rows = asyncio.run(soak(place, config, arguments.hours))
    print(table(rows))
    say("done")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
