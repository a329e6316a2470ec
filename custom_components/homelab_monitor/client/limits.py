"""How much a host may send: one table of every limit, on the hub.

A monitored host may be controlled by anybody: each list, text, number, message and byte from it
has a limit here, so that it cannot cost this side unbounded memory or time. What is beyond a
limit is cut or refused on input, counted, and reported once. Sizes are in bytes, times in
seconds. Every part of the client reads these limits from here. How long a test, a fix or a control
may take is in the files that run it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# ---------------------------------------------------------------- a connection, from its first byte on


@dataclass(frozen=True, slots=True)
class Traffic:
    """An amount of traffic from a host: bytes on the wire, packets, time in the event loop."""

    bytes: int
    packets: int
    loop_seconds: float


GREETING_LINES = 64
"""Lines before the SSH greeting; RFC 4253 (4.2) allows any number, servers send none or a notice."""

GREETING = Traffic(bytes=16 << 10, packets=0, loop_seconds=1.0)
KEY_EXCHANGE = Traffic(bytes=64 << 10, packets=32, loop_seconds=1.0)
"""OpenSSH needs 5 kB and 4 packets, an RSA key of 16,384 bits and ML-KEM included."""
LOGIN = Traffic(bytes=384 << 10, packets=256, loop_seconds=2.0)
"""Banners and questions, until the login has succeeded; a banner of a company has 4 kB.

More than asyncssh accepts as one packet (256 KiB): it is not known to be from the host until it is complete."""
POLL = Traffic(bytes=12 << 20, packets=8192, loop_seconds=4.0)
"""From one request to the next: a probe may send 8 MiB, in packets of 1 kB, to a hub as slow as a Raspberry Pi 2."""
COMMAND = Traffic(bytes=320 << 20, packets=250_000, loop_seconds=90.0)
"""While a command runs: a control, a fix, a test, the package manager."""
PER_SECOND = Traffic(bytes=32 << 10, packets=50, loop_seconds=0.05)
"""Refill of the budget after the login, up to that of a poll: what a host may send for weeks without a request."""

NOTICES, NOTICES_PER_SECOND = 200, 2.0
"""Packets about the connection itself: debug texts, requests, refusals. Keepalives come at most once a second."""
REKEYS, REKEYS_PER_SECOND = 16, 1 / 60
"""New keys: each costs some milliseconds. OpenSSH renews them after 1 GB, or after `RekeyLimit`."""
NOTICE_BYTES = 35_000
"""Size of a packet without data of a command: the minimum of RFC 4253 (6.1), and far more than any needs."""
HOST_KEYS_BYTES = 8 << 10
"""Size of a list of host keys, each of which costs a signature: two of every type have 3 kB."""

READ_BYTES = 32 << 10
"""Read from the socket at once. asyncssh copies the rest after each packet, so the work grows with its square."""
UNSENT_BYTES = 1 << 20
"""Our data that a host leaves unread; the largest piece, the probe, has less than 200 kB."""
PACKET_BYTES = 1024
"""Minimum packet size that a host must accept on a channel. All must accept 32,768 (RFC 4253, 6.1), and OpenSSH and
dropbear announce it; with 1, the probe would become a hundred thousand packets, written in one go."""
UNTAKEN_BYTES = 4096
"""Bytes of earlier requests that a host has given no room for when the next one is due: a request or two. A host that
answers has read the request, so nothing of it is left here."""
LOOP_SHARE, LOOP_BURST_SECONDS = 0.25, 0.1
"""Share of the event loop's time for one host: beyond it, its socket is read later, so that others have their turn."""
LOOP_SHARE_OF_ALL = 0.4
"""Share of the event loop's time for all hosts beyond their burst: they divide it, the others are read at once."""
UNCLOSED_CHANNELS = 3
"""Channels that we ended and the host did not: with more of them the connection is replaced, as asyncssh keeps each."""
UNASKED_RECORDS = 8
"""Unrequested records of a probe, including late replies, between two requests; each is dropped unread."""
COMMAND_OUTPUT_BYTES = 256 << 20
"""Both outputs of a command together, including the discarded part; a command with more is ended."""
EXCESS_REST_SECONDS, EXCESS_REST_LIMIT = 30.0, 480.0
"""How long a host that exceeded its budget is not contacted: doubled each time, up to the limit."""
EXCESS_FORGOTTEN_SECONDS = 3600.0
"""After so long within its budget, a host starts with the first rest again."""
HELLO_SECONDS: Final = 20.0
"""How long a command may take to send its hello; until then nothing is written to it."""
SILENCE_SECONDS: Final = 2.0
"""How long a command without a hello may take to end after its input has, which shows what it was."""
QUESTION_SECONDS: Final = 20.0
"""How long a command that may ask for something may neither ask nor begin; sudo may look up its host's name."""
ENDING_SECONDS: Final = 3.0
"""How long a killed command may take to end."""
NOISE_KEPT: Final = 2048
"""Bytes of what a login shell prints that are kept, to quote its first line."""

# ---------------------------------------------------------------- a reply: its bytes, marks and depth

REPLY_LIMIT: Final = 4 << 20
"""Bytes of one reply, as sent and as unpacked."""
EXCHANGE_LIMIT: Final = 2 * REPLY_LIMIT
"""Bytes that a probe may send per request, including dropped replies and noise."""
NOISE_LIMIT: Final = 64 << 10
"""Bytes of noise between two records."""
MARKS_LIMIT = 200_000
"""Number of `[ { , :` in one reply, each of which may become an object; the largest real ones have a tenth."""
NESTING_LIMIT = 16
"""Lists and objects inside one another; the contract has eight."""

# ---------------------------------------------------------------- items and lists of a section

NAME_LIMIT = 255
"""Characters of a name, a version, a word: the limit of a file name, a systemd unit and a state of Home Assistant."""
LINE_LIMIT = 1024
"""Characters of a description, an image, a unit inside another one's name."""
PATH_LIMIT = 4096
"""Characters of a path (PATH_MAX) and of a line of a log."""
NUMBER_LIMIT = 10**18
"""Absolute value of any number: a million terabytes, and still a 64-bit integer, as orjson writes them."""
AGE_LIMIT = 10_000_000_000
"""Seconds ago, three centuries: datetime cannot represent a moment that is much longer ago."""
EPOCH_LIMIT = 100_000_000_000
"""Absolute value of Unix seconds: three thousand years before and after 1970."""

_ITEMS = 1000
"""Rows that may become entities: several times what large hosts have."""
_SOURCES = 256
"""Sources of a list: each engine of each user."""
LISTS: Mapping[str, int] = MappingProxyType(
    {
        "Cpu.cores": 4096,
        "Network.interfaces": _ITEMS,
        "DiskIo.disks": _ITEMS,
        "Sensors.temperatures": _ITEMS,
        "Sensors.fans": _ITEMS,
        "Sensors.asleep": _ITEMS,
        "Gpus.gpus": 64,
        "Gpu.throttle_reasons": 8,
        "Services.counts": 32,
        "Services.units": _ITEMS,
        "Services.complete": _SOURCES,
        "Containers.engines": _SOURCES,
        "Containers.containers": _ITEMS,
        "Containers.complete": _SOURCES,
        "Container.ports": 32,
        "Filesystems.filesystems": _ITEMS,
        "Filesystems.complete": _SOURCES,
        "Filesystems.late": _ITEMS,
        "Filesystems.late_devices": _ITEMS,
        "Filesystems.unwatched": _ITEMS,
        "GpuProcesses.processes": 50,
        "GpuProcesses.complete": _SOURCES,
        "Hardware.disks": _ITEMS,
        "Hardware.interfaces": _ITEMS,
        "Interfaces.interfaces": _ITEMS,
        "Interfaces.dns_servers": 64,
        "Interfaces.search_domains": 64,
        "Interface.ipv4": 256,
        "Interface.ipv6": 256,
        "Updates.packages": 200,
        "Updates.complete": _SOURCES,
        "Updates.reboot_reasons": 16,
        "Updates.reboot_packages": 20,
        "SshServer.ports": 64,
        "SshServer.conditional": 64,
        "Fail2ban.jails": 256,
        "Processes.processes": 2000,
        "Processes.complete": _SOURCES,
        "Log.lines": 500,
        "Sockets.sockets": 1000,
        "Sockets.complete": _SOURCES,
        "Socket.families": 8,
        "_Stored.missing": 64,
        "_Stored.errors": 64,
        "_Stored.ages": 64,
        "_Stored.seconds": 64,
        "_Stored.moments": 64,
    }
)
"""Rows of every list and mapping of a section, by class and field of its model; the rest is cut."""

# ---------------------------------------------------------------- what is remembered of a host

UNREAD_LIMIT = 1000
"""Problems that stay because they can no longer be read, and entries of the baseline of events."""
ITEMS_LIMIT = 1000
"""Items of one kind that are remembered of a host: several times what large hosts have; a limit to invented ones."""
GUEST_ITEMS_LIMIT, GUESTS_ITEMS_LIMIT = 100, 500
"""Of these, those of one user of the host who is neither root nor the login user, and of all such users."""
EARLY_TURNS = (4, 60.0)
"""How often all sections are requested at once because a host reports a boot, and hardware because of new devices, and
the seconds until one more."""
NEW_ITEMS = (200, 900.0)
"""Items that appear after the first report of their kind, and the seconds until one more, across restarts: 96 a day.
Each becomes entities in the registry."""
DELETED_ENTITIES = 2000
"""Deleted entities of a host that Home Assistant remembers, to restore them as they were: it would keep all."""
DELETED_DEVICES = 300
"""The same for deleted devices; a container has one."""
KEY_LIMIT = 120
"""Bytes of the key of an item: it is in the ids of its entities, and Home Assistant also keeps those of deleted ones.
A longer key is replaced by its beginning and a digest of all."""
LABEL_LIMIT, LABEL_BYTES = 120, 240
"""Characters and bytes of an item's label."""
ALIKE = 20
"""Items of a kind whose names would become the same entity id; further ones have numbers in their names."""
ODD_LABELS = 100
"""Names of a kind with other characters than ids have that are checked for that: 0.1 ms each."""
LONG_LABEL, CALLED_BYTES = 90, 510
"""Bytes of a label beyond which the whole label is stored as well, up to these bytes and NAME_LIMIT characters: a key
with the label and a few more words is shortened."""
HOST_KEYS_LIMIT = 8
"""Pinned host keys; a server has one of each of three types, and two of each while it rotates them."""

# ---------------------------------------------------------------- what becomes rows, attributes and registry entries

CONNECTIONS_LIMIT = 16
"""Network addresses of a host's device: more ports than a machine at home has."""
DEVICE_TEXT_LIMIT = 120
"""Characters of a maker, model, serial number or system in the device registry."""
TITLE_LIMIT = 64
"""Characters of a machine's own name: the limit of Linux (HOST_NAME_MAX)."""
DEVICE_WRITES = (6, 3600.0)
"""Changes of a device at once, and the seconds until one more: each rewrites the registry of all devices."""
WAKES = (5, 60.0)
"""Wake-ups of a host at once, and the seconds until one more: each is a broadcast to every network."""
TESTS = (5, 60.0)
"""Requested tests of a host at once, and the seconds until one more: each is a login that the host may count."""
RENEWALS = (1, 60.0)
"""New logins of a host's polling at once, for possibly new rights, and the seconds until one more."""
EVENTS = (20, 60.0)
"""Events of one type at once, and the seconds until one more: each is a row in the database."""
EVENT_OWNERS = 8
"""Owners whose events of one type are counted separately; those of all others are counted together."""
ENTITY_WRITES = (20, 60.0)
"""Changes of an entity's text at once, and the seconds until one more; numbers are not counted."""
HOST_WRITES = (1000, 1.0)
"""The same for all entities of a host together, and separately for those of its other users' items: sixty that change
all the time do not reach it, and there may be a thousand."""
ANSWER_WRITES = (20, 15.0)
"""The same for one entity's on and off states, which automations wait for, counted separately: its attributes use none
of these."""
STORE_SAVES = (5, 900.0)
"""Immediate saves of the store, and the seconds until one more: as often as the rest is saved anyway."""
JUDGEMENTS = (5, 900.0)
"""Whole tests caused by new connections of a host, and changes of its pinned keys: each is an immediate save."""
STORED_BYTES = 1 << 20
"""Bytes of a host's last sections that are stored; the rest comes again with the next poll."""
LARGE_FILE_BYTES = 1 << 20
"""Bytes of all that is stored of a host. Thousands of items with the longest names have 6 MB."""
LARGE_FILE_SECONDS, LARGE_FILE_SAVES = 4 * 3600.0, (4, 3600.0)
"""Seconds that changes of a larger file wait, its immediate saves, and the seconds until one more."""
UNTOLD_LIMIT = 1000
"""Events that wait until automations listen."""
UNTOLD_STORED = 200
"""Of these, those that are kept over a restart; events that others than the host can cause are dropped first."""
BASELINE_BYTES = 128 << 10
"""Bytes of the stored baseline of events, beyond the sections."""
PROBLEMS_STORED = 200
"""Problems that are still known after a restart, if their names have the usual length."""
PREAMBLE_KEPT = 200
"""Bytes kept from the start of a connection: a server that refuses it sends the reason instead of a greeting."""
DISKS_ASKED = 64
"""Disks that the capability test lists."""
SUDO_LIST_CHARACTERS = 16384
"""Characters of the output of `sudo -l` that are read, as many as the script sends."""
LOG_LINES = (10, 3600.0)
"""Lines in the log about a host that comes and goes, and the seconds until one more."""
ISSUE_WRITES = (10, 600.0)
"""How often polls may create or change the issue of one check, and the seconds until one more."""
ALARM_WRITES = (10, 60.0)
"""The same for an issue and a log line about an attacker, who wants them unseen."""
STATE_LIMIT = 255
"""Characters of a state: Home Assistant's limit."""
ATTRIBUTES_LIMIT = 4096
"""Bytes of an entity's attributes, as they are stored."""
OWN_ATTRIBUTES_BYTES = 1024
"""The part of these for attributes that no host fills: options, types of events, unit, name."""
PACKAGES_SHOWN = 200
"""Packages that the release notes of an update list."""
PACKAGE_TEXT_LIMIT = 80
"""Characters of a package's name or version in them."""
VERSION_LIMIT = 80
"""Characters of the operating system in the versions of an update."""
ENTITIES_AT_ONCE, ENTITIES_AT_FIRST = 100, 10
"""Entities that are added in one go: at most, and at first; then other tasks of the event loop run."""
ENTITIES_SECONDS = 0.05
"""Seconds that they may take, estimated from earlier ones: about a millisecond each, much longer on a slow system."""
MOVES, MOVES_AT_ONCE = (2, 60.0), 2
"""How often a host is searched at an address that was just announced in the network, and how many hosts at once; the
others wait, each of them once."""
MOVES_KEPT = 4
"""Announced addresses of one host that are remembered, the latest: a single wrong one displaces no right one."""
MOVES_AGAIN = (MOVES_KEPT, 300.0)
"""How often a host that does not answer is searched again at announced addresses where it was not found: once soon at
all of them, as a server may start later than its network, and then at one of them every five minutes."""
MOVES_FORGOTTEN_SECONDS = 600.0
"""After a host was online for so long, earlier announcements are ignored."""
MOVES_MADE = (4, 1800.0)
"""How often a host is followed to another address, which reloads its entry with all counters in it."""
LOOKS_BACK = (2, 300.0)
"""How often a host that does not answer is searched at its configured address: that may now belong to another machine,
which may ban clients that connect too often."""
CARDS_LIMIT = 50
"""Machines that wait to be added, of the announced ones and of those found by a scan: further ones are dropped, except
those that a person selects."""
ROWS_LIMIT = 512
"""Machines that a scan lists for selection, as many as a whole subnet has: a machine that answers at very many
addresses cannot flood the page."""
ANNOUNCED_ADDRESSES = 8
"""Addresses of one machine that an announcement counts for: no other machine at one of them gets a separate card."""
