"""The scan: pure parts over texts, and a real sweep of loopback addresses with real listeners."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
import errno
from ipaddress import IPv4Network, ip_address, ip_network
import socket

import pytest
import pytest_socket

from custom_components.homelab_monitor.client.transport import scan as scan_module
from custom_components.homelab_monitor.client.transport.scan import (
    Candidate,
    interfaces_to_scan,
    networks_to_scan,
    platform_of,
    read_arp,
    read_table_fulls,
    scan,
)
from tests.sshd import free_port

ARP = """\
IP address       HW type     Flags       HW address            Mask     Device
192.168.1.1      0x1         0x2         52:54:00:AA:35:02     *        eth0
192.168.1.9      0x1         0x0         00:00:00:00:00:00     *        eth0
192.168.1.10     0x1         0x6         52:54:00:aa:35:10     *        eth0
172.17.0.2       0x1         0x2         02:42:ac:11:00:02     *        docker0
10.9.0.7         0x20        0x2         80:00:02:08:fe        *        ib0
10.8.0.7         0x1         0x2         52:54:00:aa:35:11     *        wlan0
198.41.0.4       0x1         0x2         52:54:00:aa:35:12     *        eth0
broken line
"""
ARP_STATISTICS = """\
entries  allocs   destroys hash_grows forced_gc_runs unresolved_discards table_fulls
00000003 00000001 00000000 00000000   00000000       00000000            0000000a
00000003 00000002 00000000 00000000   00000000       00000000            00000006
"""


def adapter(name: str, *addresses: tuple[str, int], enabled: bool = True) -> dict[str, object]:
    """Return an adapter in the shape of Home Assistant's network integration."""
    return {
        "name": name,
        "index": 2,
        "enabled": enabled,
        "auto": enabled,
        "default": enabled,
        "ipv4": [{"address": address, "network_prefix": prefix} for address, prefix in addresses],
        "ipv6": [{"address": "fe80::1", "network_prefix": 64, "flowinfo": 0, "scope_id": 2}],
    }


@pytest.mark.parametrize(
    ("adapters", "networks"),
    [
        ([adapter("eth0", ("192.168.1.5", 24))], ["192.168.1.0/24"]),
        ([adapter("eth0", ("192.168.1.5", 24), enabled=False)], []),
        ([adapter("eth0", ("192.168.2.5", 23))], ["192.168.2.0/23"]),
        ([adapter("eth0", ("10.1.2.3", 16))], ["10.1.2.0/24"]),
        ([adapter("eth0", ("10.1.2.3", 8)), adapter("wlan0", ("10.1.2.4", 24))], ["10.1.2.0/24"]),
        ([adapter("eth0", ("192.168.1.5", 24), ("10.0.0.1", 30))], ["192.168.1.0/24", "10.0.0.0/30"]),
        ([adapter("tailscale0", ("100.64.3.4", 32))], []),
        ([adapter("lo", ("127.0.0.1", 8))], []),
        ([adapter("eth0", ("169.254.3.4", 16))], []),
        ([adapter("eth0", ("93.184.216.34", 24))], []),
        ([adapter("eth0", ("not an address", 24))], []),
        ([adapter("br-lan", ("192.168.1.1", 24))], ["192.168.1.0/24"]),
        ([adapter("br0", ("192.168.1.1", 24))], ["192.168.1.0/24"]),
        *(
            ([adapter(name, ("172.17.0.1", 24))], [])
            for name in ("docker0", "br-0123456789ab", "hassio", "veth12ab", "virbr0", "cni0", "podman0", "lxdbr0")
        ),
    ],
)
def test_subnets_of_enabled_adapters_are_swept_large_ones_only_around_our_own_address(adapters, networks):
    assert networks_to_scan(adapters) == [ip_network(each) for each in networks]


def test_neighbours_are_asked_for_at_adapters_that_are_enabled_and_lead_out_of_this_machine():
    adapters = [adapter("eth0", ("192.168.1.5", 24)), adapter("docker0", ("172.17.0.1", 16), enabled=False)]
    assert interfaces_to_scan([*adapters, adapter("hassio", ("172.30.32.1", 23))]) == {"eth0"}


def test_arp_reports_the_neighbours_that_answered_on_networks_of_this_house():
    assert read_arp(ARP) == {
        "192.168.1.1": "52:54:00:aa:35:02",
        "192.168.1.10": "52:54:00:aa:35:10",
        "10.8.0.7": "52:54:00:aa:35:11",
    }
    assert set(read_arp(ARP, {"eth0"})) == {"192.168.1.1", "192.168.1.10"}
    assert read_arp("") == {}
    assert read_arp("head\nx 0x1 0x2 52:54:00:12:35:02 * eth0\n10.0.0.1 0x1 zz 52:54:00:12:35:02 * eth0") == {}


def test_full_neighbour_tables_are_summed_over_the_cpus():
    assert read_table_fulls(ARP_STATISTICS) == 16
    assert read_table_fulls("") == 0
    assert read_table_fulls("entries allocs\n0003 0001\n") == 0
    assert read_table_fulls("entries table_fulls\n0003\n") == 0


@pytest.mark.parametrize(
    ("banner", "platform"),
    [
        ("SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13.14", "linux"),
        ("SSH-2.0-OpenSSH_for_Windows_9.5", "windows"),
        ("SSH-2.0-dropbear_2022.83", "openwrt"),
        ("SSH-2.0-dropbear", "openwrt"),
        ("SSH-2.0-OpenSSH_9.6 FreeBSD-20240701", None),
        ("SSH-2.0-ROSSSH", None),
        ("", None),
    ],
)
def test_the_greeting_reports_the_platform(banner, platform):
    assert platform_of(banner) == platform


# ---------------------------------------------------------------- a real sweep


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch, socket_enabled: None, tmp_path) -> None:
    """Let the test connect to all of 127.0.0.0/8; no file of this machine and no resolver is asked."""
    monkeypatch.setattr(socket.socket, "connect", pytest_socket._true_connect)
    monkeypatch.setattr(scan_module.socket, "getnameinfo", _no_name)
    monkeypatch.setattr(scan_module, "ARP_PATH", tmp_path / "arp")
    monkeypatch.setattr(scan_module, "ARP_STATISTICS_PATH", tmp_path / "arp_cache")


def _no_name(address: object, flags: int) -> tuple[str, str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@asynccontextmanager
async def listening(
    address: str, port: int, greeting: bytes, asked: list[str] | None = None, *, stays: bool = False
) -> AsyncIterator[None]:
    """Listen and greet whoever connects, noting it in `asked`; then close, or stay silent."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked is not None:
            asked.append(address)
        writer.write(greeting)
        if stays:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, address, port)
    try:
        yield
    finally:
        server.close()


async def sweep(port: int, networks: str = "127.0.0.0/28", **options: object) -> list[Candidate]:
    return await scan([IPv4Network(networks)], port=port, **options)


async def test_a_sweep_finds_what_speaks_ssh_and_nothing_else():
    port = free_port()
    async with (
        listening("127.0.0.2", port, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", stays=True),
        listening("127.0.0.3", port, b"Welcome\r\nto this\r\nSSH-2.0-dropbear_2022.83\r\n"),
        listening("127.0.0.4", port, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        listening("127.0.0.5", port, b""),
    ):
        found = await sweep(port)
    assert found == [
        Candidate(address="127.0.0.2", banner="SSH-2.0-OpenSSH_9.2p1 Debian-2", platform_hint="linux"),
        Candidate(address="127.0.0.3", banner="SSH-2.0-dropbear_2022.83", platform_hint="openwrt"),
        Candidate(address="127.0.0.5"),
    ]


async def test_a_server_that_never_greets_costs_a_bounded_time(monkeypatch):
    monkeypatch.setattr(scan_module, "BANNER_SECONDS", 0.05)
    port = free_port()
    async with listening("127.0.0.2", port, b"", stays=True), asyncio.timeout(5):
        assert [each.banner for each in await sweep(port)] == [""]


async def test_a_greeting_with_control_characters_is_made_harmless():
    port = free_port()
    async with listening("127.0.0.2", port, b"SSH-2.0-x\x1b[31m\xff\n"):
        assert [each.banner for each in await sweep(port)] == ["SSH-2.0-x [31m\N{REPLACEMENT CHARACTER}"]


async def test_progress_grows_to_the_whole():
    shares: list[float] = []
    await sweep(free_port(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) >= 14


async def test_an_empty_scan_finds_nothing():
    assert await scan([]) == []


async def test_known_neighbours_are_reported_with_their_mac_and_nobody_outside_the_networks_is_asked(tmp_path):
    row = "127.0.0.7 0x1 0x2 52:54:00:aa:35:11 * {}\n"
    (tmp_path / "arp").write_text("header\n" + row.format("eth0") + row.replace("0.0.7", "9.0.8").format("eth0"))
    port = free_port()
    asked = []
    async with (
        listening("127.0.0.2", port, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        listening("127.0.0.7", port, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        listening("127.9.0.8", port, b"SSH-2.0-OpenSSH_9.2p1\r\n", asked),
    ):
        found = await sweep(port, interfaces={"eth0"})
    assert [(each.address, each.source, each.mac) for each in found] == [
        ("127.0.0.2", "scan", None),
        ("127.0.0.7", "arp", "52:54:00:aa:35:11"),
    ]
    assert asked == []


def test_neighbours_outside_of_the_swept_subnets_are_suggested_and_those_of_other_adapters_are_not(tmp_path):
    row = "{} 0x1 0x2 52:54:00:aa:35:11 * {}\n"
    others = (("10.1.2.9", "eth0"), ("10.1.9.9", "eth0"), ("10.1.8.1", "eth0"), ("172.17.0.2", "docker0"))
    (tmp_path / "arp").write_text("header\n" + "".join(row.format(*each) for each in others))
    adapters = [adapter("eth0", ("10.1.2.3", 16))]
    suggested = [str(each) for each in scan_module.suggested_networks(adapters)]
    assert suggested == ["10.1.2.0/24", "10.1.8.1/32", "10.1.9.9/32"]


FORGED = [
    "240.1.2.3", "255.255.255.255", "0.0.0.0", "224.0.0.1", "127.0.0.9", "169.254.1.1", "100.64.0.1", "10.0.0.5",
    "172.16.0.1", "192.168.0.1", "192.0.2.1", "198.18.0.1", "8.8.8.8",
]  # fmt: skip
"""Senders of ARP requests: any of them may stand in the table, whoever sent the packet."""


@pytest.mark.parametrize("forged", FORGED)
def test_no_packet_of_another_network_changes_what_is_suggested(tmp_path, forged):
    (tmp_path / "arp").write_text(f"header\n{forged} 0x1 0x2 02:00:00:00:00:66 * eth0\n")
    adapters = [adapter("eth0", ("192.168.1.10", 24)), adapter("eth1", ("10.9.2.3", 16))]
    suggested = ", ".join(map(str, scan_module.suggested_networks(adapters)))
    assert suggested == "192.168.1.0/24, 10.9.2.0/24"
    scan_module.parse_networks(suggested)


def test_what_is_suggested_can_be_scanned_however_many_networks_and_neighbours_there_are(tmp_path):
    row = "10.{}.200.{} 0x1 0x2 02:00:00:00:00:66 * eth0\n"
    (tmp_path / "arp").write_text("header\n" + "".join(row.format(net, n) for net in range(40) for n in range(1, 200)))
    adapters = [adapter("eth0", *((f"10.{net}.2.3", 16) for net in range(40)))]
    suggested = scan_module.suggested_networks(adapters)
    assert len(suggested) > 64
    assert scan_module.parse_networks(", ".join(map(str, suggested))) == suggested


@pytest.mark.parametrize("address", FORGED)
def test_one_definition_says_what_is_read_from_the_table_typed_and_announced(address):
    table = f"header\n{address} 0x1 0x2 02:00:00:00:00:66 * eth0\n"
    allowed = scan_module.may_be_scanned(ip_address(address))
    assert bool(read_arp(table)) is allowed
    with nullcontext() if allowed else pytest.raises(scan_module.NetworksError):
        scan_module.parse_networks(address)
    assert allowed is (address not in {*FORGED[:4], "8.8.8.8"})


@pytest.mark.parametrize(
    ("text", "networks", "count"),
    [
        ("192.168.1.7/24", ["192.168.1.0/24"], 254),
        ("10.0.0.0/31;10.0.0.9", ["10.0.0.0/31", "10.0.0.9/32"], 3),
        ("10.0.0.9 10.0.0.0/24\n10.0.0.0/24", ["10.0.0.0/24"], 254),
        ("169.254.7.0/24 100.64.0.0/30 127.0.0.0/30", ["169.254.7.0/24", "100.64.0.0/30", "127.0.0.0/30"], 258),
        ("10.0.0.0/20", ["10.0.0.0/20"], 4094),
    ],
)
def test_networks_that_are_typed_are_read_and_counted(text, networks, count):
    read = scan_module.parse_networks(text)
    assert [str(each) for each in read] == networks
    assert scan_module.count_addresses(read) == count
    assert scan_module.count_addresses(read) == sum(1 for each in read for _ in each.hosts())


@pytest.mark.parametrize("text", ["192.0.2.0/23", "203.0.112.0/23"])
def test_a_network_that_reaches_into_the_internet_at_either_end_is_not_scanned(text):
    with pytest.raises(scan_module.NetworksError) as raised:
        scan_module.parse_networks(text)
    assert raised.value.key == "public_network"


async def test_names_come_from_who_knows_them_and_only_real_names_are_taken(monkeypatch):
    told = {"127.0.0.2": "nas.lan.", "127.0.0.3": "<img src=x onerror=alert(1)>", "127.0.0.4": "from-dns"}
    told["127.0.0.5"] = "nas<img src=x onerror=alert(1)>"
    monkeypatch.setattr(scan_module.socket, "getnameinfo", lambda address, flags: (told[address[0]], "22"))
    port = free_port()
    greeting = b"SSH-2.0-OpenSSH_9.2p1\r\n"
    async with (
        listening("127.0.0.2", port, greeting),
        listening("127.0.0.3", port, greeting),
        listening("127.0.0.4", port, greeting),
        listening("127.0.0.5", port, greeting),
    ):
        found = await sweep(port, names={"127.0.0.4": "from-dhcp", "127.0.0.9": "not-there"})
    assert [each.hostname for each in found] == ["nas.lan", None, "from-dhcp", None]


async def test_a_dead_resolver_does_not_hold_the_scan_up(monkeypatch):
    monkeypatch.setattr(scan_module, "LOOKUP_SECONDS", 0.1)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def never(address: object, flags: int) -> tuple[str, str]:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(10)
        return "late", ""

    monkeypatch.setattr(scan_module.socket, "getnameinfo", never)
    port = free_port()
    async with listening("127.0.0.2", port, b"SSH-2.0-OpenSSH_9.2p1\r\n"):
        found = await sweep(port)
    assert [(each.address, each.hostname) for each in found] == [("127.0.0.2", None)]
    released.set()
    await asyncio.sleep(0.05)


def connecting(answer: Callable[[str, int], object]) -> Callable[..., object]:
    """Return a stand-in for asyncio.open_connection; `answer` raises or returns the number of the try."""
    tries: dict[str, int] = {}

    async def connect(address: str, port: int) -> object:
        tries[address] = tries.get(address, 0) + 1
        answer(address, tries[address])
        await asyncio.sleep(30)

    connect.tries = tries
    return connect


async def test_addresses_are_asked_again_more_slowly_when_this_machine_has_no_room(monkeypatch):
    def no_room(address: str, tries: int) -> None:
        if address == "127.0.0.5" or tries == 1:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    connect = connecting(no_room)
    monkeypatch.setattr(scan_module.asyncio, "open_connection", connect)
    monkeypatch.setattr(scan_module, "_PAUSE_SECONDS", 0.001)
    shares: list[float] = []
    assert await sweep(1, progress=shares.append) == []
    assert connect.tries.pop("127.0.0.5") == 3
    assert set(connect.tries.values()) == {2}
    assert len(connect.tries) == 13
    assert shares[-1] == 1.0


async def test_silent_addresses_are_asked_again_when_the_kernels_neighbour_table_overflowed(monkeypatch, tmp_path):
    statistics = tmp_path / "arp_cache"
    fulls = 0

    def count(address: str, tries: int) -> None:
        nonlocal fulls
        if address == "127.0.0.1" and tries == 1:
            fulls += 1
            statistics.write_text(f"entries table_fulls\n00000003 {fulls:08x}\n")

    statistics.write_text("entries table_fulls\n00000003 00000000\n")
    connect = connecting(count)
    monkeypatch.setattr(scan_module.asyncio, "open_connection", connect)
    monkeypatch.setattr(scan_module, "_PAUSE_SECONDS", 0.001)
    assert await sweep(1, timeout=0.02) == []
    assert sum(connect.tries.values()) == 14 + 1


async def test_a_neighbour_that_is_slow_is_asked_once_more_with_more_time(monkeypatch, tmp_path):
    (tmp_path / "arp").write_text("header\n127.0.0.3 0x1 0x2 52:54:00:aa:35:11 * eth0\n")
    connect = connecting(lambda address, tries: None)
    monkeypatch.setattr(scan_module.asyncio, "open_connection", connect)
    assert await sweep(1, timeout=0.01) == []
    assert {address for address, tries in connect.tries.items() if tries == 2} == {"127.0.0.3"}


async def test_no_more_connects_at_once_than_allowed(monkeypatch):
    open_now, most = 0, 0

    async def connect(address: str, port: int) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.002)
        open_now -= 1
        raise ConnectionRefusedError

    monkeypatch.setattr(scan_module.asyncio, "open_connection", connect)
    await sweep(1, "127.0.0.0/24", connect_limit=20)
    assert most == 20
