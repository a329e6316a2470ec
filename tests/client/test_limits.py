"""The rows of `limits`, each at its own mechanism: what is needed goes through, and what would harm does not.

The other tests follow a limit wherever it goes. These say how large it may be: numbers are those that the limit's
own words, docs/adr/0016 or docs/security.md give, so that a row that is wrong by far fails here.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from custom_components.homelab_monitor.client.bucket import Bucket
from custom_components.homelab_monitor.client.errors import BadReply, HomelabError, TimedOut, TooMuchTraffic
from custom_components.homelab_monitor.client.limits import LISTS
from custom_components.homelab_monitor.client.probe.framing import ReplyParser
from custom_components.homelab_monitor.client.probe.process import ProbeProcess
from custom_components.homelab_monitor.client.probe.programs import load_programs
from custom_components.homelab_monitor.client.probe.snapshot import Snapshot, decode_reply
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, Sources
from custom_components.homelab_monitor.client.tracking.problems import ProblemTracker, Thresholds
from custom_components.homelab_monitor.client.transport import cooldown, wire as wire_module
from custom_components.homelab_monitor.client.transport.budget import AUTHENTICATED, GREETED, Budget
from custom_components.homelab_monitor.client.transport.command import Output
from custom_components.homelab_monitor.client.transport.host_keys import renewed
from custom_components.homelab_monitor.client.transport.ssh import Connection, RemoteCommand
from custom_components.homelab_monitor.client.transport.wire import Wire
from tests.fake_host import Channel, FakeHost
from tests.worst_replies import TYPES, Filling, reply

LOGIN = GREETED + 1
KIB, MIB = 1 << 10, 1 << 20


class Clock:
    """A clock that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


# ---------------------------------------------------------------- a connection

type Take = Callable[[Budget, float], None]


def some_bytes(budget: Budget, count: float) -> None:
    budget.take_bytes(int(count))


def seconds(budget: Budget, count: float) -> None:
    budget.take_time(count)


def lines(budget: Budget, count: float) -> None:
    budget.take_lines(int(count))


def packets(budget: Budget, count: float) -> None:
    for _ in range(int(count)):
        budget.take_packet()


def notices(budget: Budget, count: float) -> None:
    for _ in range(int(count)):
        budget.take_notice(50)


def rekeys(budget: Budget, count: float) -> None:
    for _ in range(int(count)):
        budget.take_rekey()


@pytest.mark.parametrize(
    ("phase", "take", "needed", "harmful"),
    [
        # A notice before the greeting; any other service that talks.
        (0, lines, 16, 128),
        (0, some_bytes, 4 * KIB, 32 * KIB),
        (0, seconds, 0.5, 2.0),
        # OpenSSH needs 5 kB and 4 packets.
        (GREETED, some_bytes, 16 * KIB, 128 * KIB),
        (GREETED, packets, 16, 64),
        (GREETED, seconds, 0.5, 2.0),
        # A banner of a company has 4 kB.
        (LOGIN, some_bytes, 288 * KIB, 512 * KIB),
        (LOGIN, packets, 64, 512),
        (LOGIN, seconds, 1.0, 4.0),
        # A probe may send 8 MiB, in packets of 1 kB, to a machine as slow as a Raspberry Pi 2.
        (AUTHENTICATED, some_bytes, 8 * MIB, 24 * MIB),
        (AUTHENTICATED, packets, 8192, 16_384),
        (AUTHENTICATED, seconds, 2.0, 8.0),
        (AUTHENTICATED, notices, 100, 400),
        (AUTHENTICATED, rekeys, 8, 32),
    ],
)
def test_each_phase_has_room_for_what_is_needed_and_none_for_a_flood(
    phase: int, take: Take, needed: float, harmful: float
) -> None:
    budget = Budget("nas", Clock())
    budget.enter(phase)
    take(budget, needed)
    with pytest.raises(HomelabError):
        take(budget, harmful - needed)


@pytest.mark.parametrize(
    ("take", "needed", "harmful"),
    # All of COMMAND_OUTPUT_BYTES has to fit, with what SSH adds: the command is ended, and the connection lives.
    [(some_bytes, 280 * MIB, 640 * MIB), (packets, 150_000, 500_000), (seconds, 45.0, 180.0)],
)
def test_a_command_has_room_for_all_that_it_may_print(take: Take, needed: float, harmful: float) -> None:
    clock = Clock()
    budget = Budget("nas", clock)
    budget.enter(AUTHENTICATED)
    with budget.command():
        for _ in range(10):
            clock.now += 1
            budget.take_bytes(0)  # What comes back with time takes nothing of it away.
        take(budget, needed)
        with pytest.raises(TooMuchTraffic, match="while a command ran"):
            take(budget, harmful - needed)


@pytest.mark.parametrize(("take", "beyond"), [(some_bytes, 24 * MIB), (packets, 16_384), (seconds, 8.0)])
def test_the_room_of_a_command_ends_with_it(take: Take, beyond: float) -> None:
    budget = Budget("nas", Clock())
    budget.enter(AUTHENTICATED)
    with budget.command():
        pass
    with pytest.raises(TooMuchTraffic):
        take(budget, beyond)


@pytest.mark.parametrize(
    ("take", "amount", "needed_every", "harmful_every"),
    [
        (some_bytes, 32 * KIB, 2.0, 0.25),
        (packets, 50, 2.0, 0.25),
        (seconds, 0.05, 2.0, 0.25),
        # Keepalives come once a second at most; OpenSSH asks for new keys each hour where that is set.
        (notices, 1, 1.0, 0.25),
        (rekeys, 1, 3600.0, 15.0),
    ],
)
def test_what_comes_back_is_enough_for_weeks_and_not_for_a_steady_flood(
    take: Take, amount: float, needed_every: float, harmful_every: float
) -> None:
    def go_on(every: float) -> None:
        clock = Clock()
        budget = Budget("nas", clock)
        budget.enter(AUTHENTICATED)
        for _ in range(4000):
            clock.now += every
            budget.take_bytes(0)  # Whatever comes, bytes come first.
            take(budget, amount)

    go_on(needed_every)
    with pytest.raises(TooMuchTraffic):
        go_on(harmful_every)


@pytest.mark.parametrize(
    ("take", "beyond"),
    [(some_bytes, 24 * MIB), (packets, 16_384), (seconds, 8.0), (notices, 400), (rekeys, 32)],
)
def test_a_day_of_silence_saves_nothing_up(take: Take, beyond: float) -> None:
    clock = Clock()
    budget = Budget("nas", clock)
    budget.enter(AUTHENTICATED)
    take(budget, 1)
    clock.now += 86_400
    budget.take_bytes(0)
    with pytest.raises(TooMuchTraffic):
        take(budget, beyond)


def test_no_phase_comes_back() -> None:
    budget = Budget("nas", Clock())
    for phase in (LOGIN, GREETED, 0):
        budget.enter(phase)
        assert budget.phase == LOGIN
    some_bytes(budget, 288 * KIB)
    budget.enter(LOGIN)
    with pytest.raises(TooMuchTraffic):
        some_bytes(budget, 224 * KIB)


def test_a_command_may_print_a_hundred_megabytes_and_no_gigabyte() -> None:
    output, piece = Output(1), b"x" * MIB
    for count, is_endless in ((50, False), (200, True)):
        for _ in range(count):
            output.output(piece)
            output.error_output(piece)
        assert output.is_endless is is_endless
        assert output.complete.is_set() is is_endless


# ---------------------------------------------------------------- the socket, and the turns of others


class Transport(asyncio.Transport):
    """A socket of which only the limits and the reading matter."""

    high: int | None = None
    reads = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


def test_no_more_is_taken_from_the_socket_at_once_than_the_library_copies_quickly() -> None:
    assert 16 * KIB <= len(Wire("nas").get_buffer(-1)) <= 64 * KIB


async def test_what_a_host_leaves_unread_ends_the_connection_at_about_a_megabyte(fake_host: FakeHost) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    transport = connection._client.wire._transport
    assert transport is not None
    most = transport.get_write_buffer_limits()[1]
    await connection.close()
    assert len(load_programs().linux.payload) < most <= 4 * MIB


async def share_of(monkeypatch: pytest.MonkeyPatch, count: int) -> float:
    """Return which share of the event loop so many hosts have that always send more than they may."""
    clock = Clock()
    monkeypatch.setattr(wire_module.time, "monotonic", clock)
    loop = asyncio.get_running_loop()
    wires = [Wire(f"host {number}") for number in range(count)]
    wakes = dict.fromkeys(wires, 0.0)
    for wire in wires:
        wire._transport = Transport()
        wire._measured = clock.now
    spent, began = 0.0, clock.now
    waits: list[float] = []
    monkeypatch.setattr(loop, "call_later", lambda seconds, _: waits.append(seconds))
    while clock.now < began + 300:
        for wire in wires:
            if wakes[wire] <= clock.now:
                wire._read_on()
                waits.clear()
                wire._rest(0.02)
                spent += 0.02
                wakes[wire] = clock.now + sum(waits)
        clock.now += 0.02
    monkeypatch.undo()
    for wire in wires:
        wire.connection_lost(None)
    return spent / 300


async def test_one_host_has_a_quarter_of_the_event_loop_and_all_together_less_than_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 0.15 < await share_of(monkeypatch, 1) < 0.35
    assert 0.25 < await share_of(monkeypatch, 8) < 0.5


async def test_a_burst_is_read_at_once_and_half_a_second_of_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module.time, "monotonic", Clock())
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *_: None)
    wire = Wire("nas")
    wire._transport = transport = Transport()
    wire._rest(0.03)  # A large reply on a slow machine.
    assert transport.reads
    wire._rest(0.5)
    assert not transport.reads
    monkeypatch.undo()
    wire.connection_lost(None)


# ---------------------------------------------------------------- what a host leaves open, and when it is left alone


async def test_a_handful_of_channels_that_stay_open_replace_the_connection(fake_host: FakeHost) -> None:
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    connection._unclosed |= {RemoteCommand(Output(1), connection._client.wire, set())}
    assert not connection.is_clogged
    connection._unclosed |= {RemoteCommand(Output(1), connection._client.wire, set()) for _ in range(8)}
    assert connection.is_clogged
    await connection.close()


def test_a_few_records_that_nobody_asked_for_may_come_and_dozens_may_not() -> None:
    late = b"\x1e0 2 j\n{}"
    for count, has_failed in ((4, False), (32, True)):
        probe = ProbeProcess("nas", "python3")
        probe.output(late * count)
        assert (probe._failure is not None) is has_failed


class Running:
    """A process of which only that it runs matters."""

    is_running = True
    excess = None

    def __init__(self) -> None:
        self.is_killed = False

    def write(self, data: bytes) -> None:
        """Take it."""

    def kill(self) -> None:
        self.is_killed = True


async def test_of_many_answers_in_one_piece_one_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[bytes] = []
    monkeypatch.setattr(ReplyParser, "_unpack", lambda _, payload: unpacked.append(payload) or b"{}")
    probe = ProbeProcess("nas", "python3")
    probe._process = Running()  # type: ignore[assignment]
    asking = asyncio.create_task(probe.ask("7", b"x"))
    await asyncio.sleep(0)
    probe.output(b"\x1e7 2 z\nzz" * 4 + b"\x1e? 2 z\nzz")
    assert await asking == b"{}"
    assert unpacked == [b"zz"]


@pytest.mark.parametrize("takes", [ProbeProcess.output, ProbeProcess.error_output])
async def test_a_probe_that_sends_without_end_is_ended(takes: Callable[[ProbeProcess, bytes], None]) -> None:
    probe, process = ProbeProcess("nas", "python3"), Running()
    probe._process = process  # type: ignore[assignment]
    record = b"\x1e0 %d j\n" % (MIB // 4) + b"x" * (MIB // 4)
    asking = asyncio.create_task(probe.ask("7", b"x"))
    await asyncio.sleep(0)
    for _ in range(8):
        takes(probe, b"x" * (MIB // 2) if takes is ProbeProcess.error_output else record)
    assert not process.is_killed, "a few megabytes may come"
    assert len(probe._stderr) <= 64 * KIB
    for _ in range(40):
        takes(probe, b"x" * (MIB // 2) if takes is ProbeProcess.error_output else record)
    assert process.is_killed
    with pytest.raises(BadReply):
        await asking


def test_an_output_that_just_fits_is_not_cut() -> None:
    for size, is_cut in ((4, False), (5, True)):
        output = Output(4)
        output.output(b"x" * size)
        assert output.result(0, None).truncated is is_cut


def test_who_sent_too_much_is_left_alone_for_half_a_minute_up_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(cooldown.time, "monotonic", clock)
    place = ("nas", 22)

    def rested() -> float:
        cooldown.begin(place, lambda: True, TooMuchTraffic("nas", "x"))
        began = clock.now
        while True:
            try:
                cooldown.require_end(place)
            except TooMuchTraffic:
                clock.now += 1
            else:
                return clock.now - began

    assert [rested() for _ in range(7)] == [30, 60, 120, 240, 480, 480, 480]
    clock.now += 1800
    assert rested() == 480, "half an hour is not long enough to be forgotten"
    clock.now += 7200
    assert rested() == 30


async def test_a_command_that_says_nothing_is_waited_for_as_long_as_a_slow_host_needs(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of the event loop that moves with its turns, so that nobody waits."""
    loop = asyncio.get_running_loop()
    clock, ended = Clock(), []

    async def silent(_: FakeHost, channel: Channel) -> None:
        await channel.process.stdin.read()
        ended.append(clock.now)
        await asyncio.sleep(10_000)

    async def tick() -> None:
        while True:
            await asyncio.sleep(0)
            clock.now += 0.02

    fake_host.behaviour = silent
    connection = await Connection.open(fake_host.target, fake_host.key, fake_host.host_keys, timeout=5)
    clock.now = loop.time()
    monkeypatch.setattr(loop, "time", clock)
    began, ticking = clock.now, asyncio.create_task(tick())
    try:
        with pytest.raises(TimedOut, match="ran no command within"):
            await connection.run("sh", stdin=b"x", timeout=100_000)
        waited = clock.now
    finally:
        ticking.cancel()
        monkeypatch.undo()
    await connection.close()
    assert 10 < ended[0] - began < 60
    assert 0.5 < waited - ended[0] < 10


def test_of_what_a_login_shell_prints_a_little_is_kept() -> None:
    output, parser = Output(1, announced=True), ReplyParser("nas")
    for _ in range(60):
        output.output(b"x" * KIB)
        parser.feed(b"x" * KIB)
    assert 256 <= len(output._noise) <= 8 * KIB
    assert 256 <= len(parser._noise) <= 8 * KIB


# ---------------------------------------------------------------- what is taken of a reply, and remembered


def told(**sections: object) -> Snapshot:
    """Return what one reply tells."""
    return Snapshot().merged(decode_reply("nas", reply(sections)), 1e9, 30.0)


def filesystems(prefix: str, count: int) -> dict[str, Any]:
    """Return full filesystems."""
    row = {"device": "/dev/sda1", "type": "ext4", "total_bytes": 100, "used_bytes": 99, "available_bytes": 1}
    rows = [row | {"mountpoint": f"/{prefix}/{number}"} for number in range(count)]
    return {"filesystems": rows, "complete": {"mounts": True}}


def test_no_list_of_a_section_is_longer_than_the_largest_machine_needs() -> None:
    assert {name: limit for name, limit in LISTS.items() if not 1 < limit <= 4096} == {}


def test_one_row_beyond_the_end_of_a_list_is_one_too_many() -> None:
    limit = LISTS["Services.units"]
    section, more = (Filling(rows).section(TYPES["services"]) for rows in (1, limit + 1))
    for units, beyond in ((more["units"][:limit], {}), (more["units"], {"services": 1})):
        seen = told(services=section | {"units": units})
        assert seen.sections.services
        assert len(seen.sections.services.units) == limit
        assert seen.beyond == beyond


def test_a_text_is_no_longer_than_what_it_names_may_be() -> None:
    long = "x" * 20_000
    units = [{"name": long, "active_state": "active", "description": long}]
    seen = told(filesystems=filesystems(long, 1), services={"counts": {}, "units": units})
    assert seen.sections.filesystems
    assert seen.sections.services
    (row,), (unit,) = seen.sections.filesystems.filesystems, seen.sections.services.units
    assert len(row.mountpoint) == 4096, "PATH_MAX"
    assert len(unit.name) == 255, "of a file, a unit of systemd, a state of Home Assistant"
    assert 512 <= len(unit.description or "") <= 4096


@pytest.mark.parametrize("number", [10**18 + 1, 1 << 63, -(1 << 63)])
def test_no_number_is_kept_that_others_cannot_write(number: int) -> None:
    row = filesystems("srv", 1)
    row["filesystems"][0]["inodes_total"] = number
    seen = told(filesystems=row).sections.filesystems
    assert seen
    assert seen.filesystems[0].inodes_total is None


def test_what_is_reported_beside_the_sections_is_short_and_can_be_shown() -> None:
    nasty = "driver\u202e\x1b[2J" + "x" * 20_000
    payload = reply({}, missing={"gpu": nasty}, errors={"cpu": nasty}, boot_id="one\ntwo")
    decoded = decode_reply("nas", payload)
    for text in (decoded.missing["gpu"], decoded.errors["cpu"], decoded.boot_id):
        assert text.isprintable()
        assert len(text) <= 4096


def test_what_a_section_cost_is_a_number_that_others_can_write() -> None:
    wrong = {"gpu": 10**30, "load": -(10**30), "memory": True, "network": "1", "uptime": None, "sensors": [1]}
    assert decode_reply("nas", reply({}, seconds={"cpu": 0.5} | wrong)).seconds == {"cpu": 0.5}


def test_a_probe_that_only_complains_is_quoted_in_short() -> None:
    with pytest.raises(BadReply) as caught:
        decode_reply("nas", b'{"error": "%s"}' % (b"x" * 100_000))
    assert 64 <= len(caught.value.detail) <= 4096


def test_problems_that_nobody_can_look_after_any_more_do_not_pile_up() -> None:
    judge, thresholds = ProblemTracker(), Thresholds(disk_percent=90, memory_percent=95)
    for turn in range(5):
        judge.problems(told(filesystems=filesystems(str(turn), 1001)), thresholds)
    assert 1000 <= len(judge.told) <= 2500


def containers(owner: str, count: int, label: str = "web") -> list[FoundItem]:
    """Return containers of one user."""
    names = [f"{owner}-{number}" for number in range(count)]
    return [FoundItem(name=name, label=label, keys={"container": name}, source=owner) for name in names]


def look(inventory: Inventory, *found: FoundItem, now: float = 0.0) -> dict[str, str]:
    """Let the inventory see these; root's are the host's own."""
    sources = Sources(guest_of=lambda source: "" if source == "root" else source)
    return inventory.match("container", found, complete=True, now=now, sources=sources)


@pytest.mark.parametrize(
    ("found", "least", "most"),
    [
        (containers("root", 3000), 500, 2000),
        (containers("eve", 3000), 50, 250),
        ([each for number in range(40) for each in containers(f"eve{number}", 90)], 250, 900),
    ],
    ids=["the host", "a guest", "all guests"],
)
def test_nobody_fills_the_inventory(found: list[FoundItem], least: int, most: int) -> None:
    assert least <= len(look(Inventory(), *found)) <= most


def test_what_comes_later_comes_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    inventory = Inventory()
    look(inventory, *containers("root", 1))
    later = len(look(inventory, *containers("root", 900)))
    assert 50 <= later <= 400
    clock.now += 3600
    more = len(look(inventory, *containers("root", 900))) - later
    assert 1 <= more <= 20, "in an hour"


def test_what_an_item_is_called_can_be_read() -> None:
    inventory = Inventory()
    look(inventory, *containers("root", 1, label="x" * 3000))
    (item,) = inventory.items["container"].values()
    assert 60 <= len(item.label) <= 255


def test_a_bucket_saves_up_no_more_than_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    bucket = Bucket(3, 60.0)
    for waited, tokens in ((0.0, 3), (59.0, 0), (1.0, 1), (60.0, 1), (86_400.0, 3)):
        clock.now += waited
        assert [bucket.take() for _ in range(5)].count(True) == tokens


def test_a_host_has_a_handful_of_keys() -> None:
    keys = [f"key {number}" for number in range(100)]
    assert 6 <= len(renewed(keys[:1], keys[0], keys[:1], keys[1:])) <= 16
