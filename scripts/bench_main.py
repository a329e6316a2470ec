"""scripts/bench: what a poll costs, against one `ssh user@host python3 -` subprocess per poll on the same sshd.

  scripts/bench [--rounds 10] [--idle 5] [--quick]

A real Home Assistant core polls a real sshd with everything that an installation does: coordinator, all entities that
are enabled by default, their states written. 60 polls, back to back, are a round: ten minutes at a 10 s interval, with
clocks moved so that every section has its turn as often as it would. As root on a machine with systemd the host is a
systemd server in namespaces, and the CPU time of all of it is measured, too; anywhere else that row says `not
measured`. Before that a whole Home Assistant is started, with 50 hosts that hang and without; in between the host is
polled for --idle minutes by real clocks, to count the database rows that it would cost. Ends with 1 when a budget is
missed. --quick does less of everything and nothing of the latter two, for a first look.
"""

import argparse
import asyncio
from pathlib import Path
import signal
import sys
import tempfile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_hub import open_hub, rows_a_day
from bench_places import Place, open_big_place, open_place
from bench_polls import CYCLE_POLLS, cadence_wire, session_cost, session_wire, subprocess_cost
from bench_start import start_cost
from bench_table import BUDGETS, Figure, Result, exit_status, table

WIRE_POLLS = 200
BIG_ROUNDS = 4
QUICK_POLLS = 12

type Figures = dict[str, Figure | None]


async def measure(place: Place, rounds: int, idle: int, *, quick: bool) -> tuple[Figures, Figures]:
    """Return our figures and those of the other way."""
    async with open_hub(place) as hub:
        written, polls = hub.written, rounds * CYCLE_POLLS
        ours = await session_cost(place, hub, rounds)
        print(f"{hub.entities} entities, {(hub.written - written) / polls:.1f} states written per poll", flush=True)
    ours["rows"] = await rows_a_day(place, idle) if idle else None
    ours |= await session_wire(place, 30 if quick else WIRE_POLLS)
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as folder:
        other = await subprocess_cost(place, Path(folder), QUICK_POLLS if quick else CYCLE_POLLS)
    return ours, other


async def measure_big(place: Place, rounds: int) -> Figures:
    """Return our figures on a big host."""
    async with open_hub(place) as hub:
        cost = await session_cost(place, hub, rounds)
        print(f"{hub.entities} entities", flush=True)
    return {"big_hub": cost["hub"], "big_remote": cost["remote"], "big_wire": await cadence_wire(place)}


def main() -> int:
    """Measure, print the table, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--idle", type=int, default=5, metavar="MINUTES")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # As Ctrl-C: the host that was started has to end.
    rounds, idle = (2, 0) if arguments.quick else (max(1, arguments.rounds), arguments.idle)
    # First: a place moves this process into the network of its host, where there is nothing else.
    start = None if arguments.quick else start_cost()
    with open_place() as place:
        print(f"polling {place.words}", flush=True)
        ours, other = asyncio.run(measure(place, rounds, idle, quick=arguments.quick))
        if place.lacks:
            print(f"remote CPU is not measured: that needs {place.lacks}")
    with open_big_place() as place:
        if place:
            print(f"polling {place.words}", flush=True)
            ours |= asyncio.run(measure_big(place, min(rounds, BIG_ROUNDS)))
    ours["start"] = start
    results = [Result(budget, ours.get(budget.key), other.get(budget.key)) for budget in BUDGETS]
    print(table(results))
    return exit_status(results)


if __name__ == "__main__":
    sys.exit(main())
