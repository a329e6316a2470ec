"""How much a host may say: one table of every limit, held on the hub.

A host that is watched may be anybody's: each list, text, number, message and byte of it has an
end here, so that it can cost this side neither memory nor time without bound. What lies beyond a
limit is cut or refused where it comes in, counted, and said once. Sizes are in bytes, times in
seconds. Every part of the client reads its limits from here; none has one of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# ---------------------------------------------------------------- a connection, from its first byte on


@dataclass(frozen=True, slots=True)
class Traffic:
    """An amount of what a host sends and costs: bytes on the wire, packets, time in the event loop."""

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

More than asyncssh takes for one packet (256 KiB): until that is whole nobody knows whether the host has sent it."""
POLL = Traffic(bytes=12 << 20, packets=8192, loop_seconds=4.0)
"""From one request to the next: a probe may send 8 MiB, in packets of 1 kB, to a hub as slow as a Raspberry Pi 2."""
COMMAND = Traffic(bytes=320 << 20, packets=250_000, loop_seconds=90.0)
"""As long as a command runs: a control, a fix, a test, the package manager."""
PER_SECOND = Traffic(bytes=32 << 10, packets=50, loop_seconds=0.05)
"""What comes back after the login, up to the row of a poll: what a host may send for weeks without being asked."""

NOTICES, NOTICES_PER_SECOND = 200, 2.0
"""Packets about the connection itself: debug texts, requests, refusals. Keepalives come once a second at most."""
REKEYS, REKEYS_PER_SECOND = 16, 1 / 60
"""New keys: each costs some milliseconds. OpenSSH asks for them after 1 GB, or after `RekeyLimit`."""
NOTICE_BYTES = 35_000
"""Of a packet without data of a command: the least that RFC 4253 (6.1) asks for, and far more than any needs."""
HOST_KEYS_BYTES = 8 << 10
"""Of a list of host keys, each of which costs a signature: two of every type have 3 kB."""

READ_BYTES = 32 << 10
"""Taken from the socket at once. asyncssh copies what is left after each packet, so the work grows with its square."""
UNSENT_BYTES = 1 << 20
"""Of ours that a host leaves unread; our largest piece, the probe, has less than 200 kB."""
PACKET_BYTES = 1024
"""The least that a host has to take in one packet of a channel. Everybody must take 32,768 (RFC 4253, 6.1), and OpenSSH
and dropbear say so; who says 1 makes the probe a hundred thousand packets, written in one go."""
UNTAKEN_BYTES = 4096
"""Of earlier requests that a host has given no room for when the next one is due: a request or two. Who answers has
read what it answers, so that there is nothing left of it here."""
LOOP_SHARE, LOOP_BURST_SECONDS = 0.25, 0.1
"""Of the event loop's time for one host: beyond it its socket is read again later, so that others have their turn."""
LOOP_SHARE_OF_ALL = 0.4
"""Of the event loop's time for all hosts that are beyond their burst: they divide it, the others are read at once."""
UNCLOSED_CHANNELS = 3
"""Channels that we ended and the host did not: with more of them the connection is replaced, as asyncssh keeps each."""
UNASKED_RECORDS = 8
"""Records of a probe that nobody waits for, late replies among them, between two requests; each is dropped unread."""
COMMAND_OUTPUT_BYTES = 256 << 20
"""Of both outputs of a command together, the part that is thrown away included; a longer one is ended."""
EXCESS_REST_SECONDS, EXCESS_REST_LIMIT = 30.0, 480.0
"""For how long a host that went beyond its budget is left alone: doubled each time, up to the limit."""
EXCESS_FORGOTTEN_SECONDS = 3600.0
"""A host that kept to its budget for so long starts anew."""
HELLO_SECONDS: Final = 20.0
"""How long a command may take to say that it reads its input; until then nothing is written to it."""
SILENCE_SECONDS: Final = 2.0
"""How long a command that said nothing is given to end once its input has, which shows what it was."""
QUESTION_SECONDS: Final = 20.0
"""How long a command that may ask for something does neither that nor its work; sudo may look for its host's name."""
ENDING_SECONDS: Final = 3.0
"""How long a killed command may take to be gone."""
NOISE_KEPT: Final = 2048
"""Bytes of what a login shell prints that are kept, to quote its first line."""

# ---------------------------------------------------------------- a reply: its bytes, marks and depth

MARKS_LIMIT = 200_000
"""Of `[ { , :` in one reply, each of which may become an object in memory; the largest real ones have a tenth."""
NESTING_LIMIT = 16
"""Lists and objects inside one another; the contract has eight."""

# ---------------------------------------------------------------- items and lists of a section

NAME_LIMIT = 255
"""Characters of a name, a version, a word: what a file name, a systemd unit and a state of Home Assistant may have."""
LINE_LIMIT = 1024
"""Of a description, an image, a unit inside another one's name."""
PATH_LIMIT = 4096
"""Of a path (PATH_MAX) and of a line of a log."""
NUMBER_LIMIT = 10**18
"""Of any number, on both sides of zero: a million terabytes, and still a 64-bit integer, as orjson writes them."""
AGE_LIMIT = 10_000_000_000
"""Seconds that lie behind a moment, three centuries: no calendar holds a moment that is much longer ago."""
EPOCH_LIMIT = 100_000_000_000
"""Unix seconds of a moment, on both sides of 1970: three thousand years."""

_ITEMS = 1000
"""Of what may become entities: several times what large hosts have."""
_SOURCES = 256
"""Of the sources that a list has: each engine of each user."""
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
"""Rows of every list and mapping that a section has, by class and field of its model; what is beyond is cut."""

# ---------------------------------------------------------------- what is remembered of a host

UNREAD_LIMIT = 1000
"""Problems that stand because nobody can read any more whether they are over, and what events are told against."""
ITEMS_LIMIT = 1000
"""Items of one kind that are remembered of a host: several times what large ones have, and an end to made-up ones."""
GUEST_ITEMS_LIMIT, GUESTS_ITEMS_LIMIT = 100, 500
"""Of these, what belongs to one user of the host who is neither root nor the one that logs in, and to all of them."""
EARLY_TURNS = (4, 60.0)
"""How often all sections are asked at once since a host says that it has booted, and hardware since there is some that
is new, and how long until once more."""
NEW_ITEMS = (200, 900.0)
"""Items that come later than at the first look at their kind, and how long until one more, over restarts: a day has 96.
Each becomes entities in the registry."""
DELETED_ENTITIES = 2000
"""Deleted entities of a host that Home Assistant remembers, to bring them back as they were: it keeps all of them."""
DELETED_DEVICES = 300
"""The same of deleted devices; a container has one."""
KEY_LIMIT = 120
"""Bytes of what an item is known by: it is in the ids of its entities, of which Home Assistant keeps those that
are deleted as well. Of a longer one the beginning stands there with a digest of all."""
LABEL_LIMIT, LABEL_BYTES = 120, 240
"""Characters of what an item is called, and bytes."""
ALIKE = 20
"""Items of a kind whose names would all become one entity id; further ones have numbers in their names."""
ODD_LABELS = 100
"""Names of a kind of which each is looked at for that, where it has other characters than ids have: 0.1 ms each."""
LONG_LABEL, CALLED_BYTES = 90, 510
"""Bytes of a label beyond which the whole is kept beside, up to these and NAME_LIMIT characters: a key is shortened
that has it and a few more words."""
HOST_KEYS_LIMIT = 8
"""Pinned host keys; a server has one of each of three types, and two of each while it changes them."""

# ---------------------------------------------------------------- what becomes rows, attributes and registry entries

CONNECTIONS_LIMIT = 16
"""Network addresses of a host's device: more ports than one machine has that somebody keeps at home."""
DEVICE_TEXT_LIMIT = 120
"""Characters of a maker, model, serial number or system in the device registry."""
TITLE_LIMIT = 64
"""Characters of a name that a machine gives itself: what Linux allows (HOST_NAME_MAX)."""
DEVICE_WRITES = (6, 3600.0)
"""Changes of a device at once, and how long until one more: each rewrites the registry of all devices."""
WAKES = (5, 60.0)
"""Times that a machine is woken at once, and how long until one more: each is a broadcast to every network."""
TESTS = (5, 60.0)
"""Tests of a host at once that somebody asks for, and how long until one more: each is a login that it may count."""
RENEWALS = (1, 60.0)
"""New logins of a host's polling at once for rights that may be new, and how long until one more."""
EVENTS = (20, 60.0)
"""Events of one type at once, and how long until one more: each is a row in the database."""
EVENT_OWNERS = 8
"""Owners whose events of one type are counted for themselves; those of all others are counted together."""
ENTITY_WRITES = (20, 60.0)
"""Changes of what an entity says in words at once, and how long until one more; numbers are not counted."""
HOST_WRITES = (1000, 1.0)
"""The same of all entities of a host together, those about what other users of it have apart: sixty that change all the
time do not meet it, and there may be a thousand."""
ANSWER_WRITES = (20, 15.0)
"""The same of one entity for a yes or no that automations wait for, counted apart: what is said about it takes none of
these."""
STORE_SAVES = (5, 900.0)
"""Saves of what is remembered that do not wait, and how long until one more: as often as the rest is saved anyway."""
JUDGEMENTS = (5, 900.0)
"""Whole tests that new connections of a host bring about, and changes of its pinned keys: each is a save at once."""
STORED_BYTES = 1 << 20
"""How much of a host's last words is stored; what has no room comes again with the next poll."""
LARGE_FILE_BYTES = 1 << 20
"""Of all that is stored of a host. What is known of thousands of items with the longest names has 6 MB."""
LARGE_FILE_SECONDS, LARGE_FILE_SAVES = 4 * 3600.0, (4, 3600.0)
"""How long changes of a larger file wait, and how many saves of it do not, and how long until one more."""
UNTOLD_LIMIT = 1000
"""Happenings that wait until somebody listens."""
UNTOLD_STORED = 200
"""Of these, those that wait over a restart; what others than the host itself can bring about has no room first."""
BASELINE_BYTES = 128 << 10
"""Of what happenings are told against, beyond those words."""
PROBLEMS_STORED = 200
"""Problems that are still known after a restart, of those whose names have the usual length."""
PREAMBLE_KEPT = 200
"""Bytes kept of what comes first on a connection: a server that takes none says why instead of greeting."""
DISKS_ASKED = 64
"""Disks that the capability test tells apart."""
SUDO_LIST_CHARACTERS = 16384
"""How much of what `sudo -l` prints is read, as much as the script sends."""
LOG_LINES = (10, 3600.0)
"""Lines in the log about a host that comes and goes, and how long until one more."""
ISSUE_WRITES = (10, 600.0)
"""How often polls may create or change the issue of one check, and how long until once more."""
ALARM_WRITES = (10, 60.0)
"""The same of an issue, and a log line, about somebody who wants them unseen."""
STATE_LIMIT = 255
"""Characters of a state: Home Assistant takes no longer ones."""
ATTRIBUTES_LIMIT = 4096
"""Bytes of an entity's attributes, as they are stored."""
OWN_ATTRIBUTES_BYTES = 1024
"""What is set aside of these for attributes that no host fills: options, types of events, unit, name."""
PACKAGES_SHOWN = 200
"""Packages that the release notes of an update list."""
PACKAGE_TEXT_LIMIT = 80
"""Characters of a package's name or version in them."""
VERSION_LIMIT = 80
"""Characters of the operating system in the versions of an update."""
ENTITIES_AT_ONCE, ENTITIES_AT_FIRST = 100, 10
"""Entities that are added in one go, at most and of many the first ones; then the event loop has a turn."""
ENTITIES_SECONDS = 0.05
"""How long they may take, by what the ones before took: about a millisecond each, on a slow machine much longer."""
MOVES, MOVES_AT_ONCE = (2, 60.0), 2
"""How often a host is looked for at an address that somebody in the network has just announced, and how many hosts at
once; the others wait, each of them once."""
MOVES_KEPT = 4
"""Announced addresses of one host that are remembered, the last ones: a wrong one pushes no right one out."""
MOVES_AGAIN = (MOVES_KEPT, 300.0)
"""How often a host that does not answer is looked for again where it was not when that was announced: at all of them
once soon, as a server may start later than its network, and then at one of them every five minutes."""
MOVES_FORGOTTEN_SECONDS = 600.0
"""A host that was online for so long is where it is, whatever was announced before."""
MOVES_MADE = (4, 1800.0)
"""How often a host is followed to another address, which sets its entry up anew with all that is counted there."""
LOOKS_BACK = (2, 300.0)
"""How often a host that does not answer is looked for where a person said that it is: somebody else's machine by now,
perhaps, which may shut out who knocks too often."""
CARDS_LIMIT = 50
"""Machines that wait to be added, of those that were announced and of those that a scan found: what is beyond them is
dropped. What a person picks is not."""
ROWS_LIMIT = 512
"""Machines that a scan lists to be picked, as many as a whole subnet has: who answers at every address of many fills no
page with rows."""
ANNOUNCED_ADDRESSES = 8
"""Addresses of one machine that an announcement counts for: no other machine at one of them gets a card of its own."""
