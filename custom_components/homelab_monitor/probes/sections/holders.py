"""The owner of a socket: the processes that hold it, the one that it belongs to, and ss(8) if sudo allows it.

A process can send its descriptors to others, whether they want them or not: a daemon that receives messages holds the
descriptors in them. So a holder counts only if the socket belongs to its user, or if root has lent the socket to it.
"""

import re
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

    from ..host import DESCRIPTORS_READ, Host, Json, Late, TooLong
    from .owners import belongs_to, in_turn, list_pids, owner_of, owner_of_group, real_uid

HOLDERS_SECONDS = 3.0
HOLDERS_OF_ONE = 16
DESCRIPTORS_FIRST = 256
SS_SECONDS = 3.0
SS_AGAIN_SECONDS = 600.0  # pause after it was late, doubled each time that it is late again
SS_AGAIN_MOST = 4800.0
SS = ["--", "ss", "-H", "-l", "-t", "-u", "-n", "-p", "-e"]


# ---------------------------------------------------------------- holders


def find_holders(host: "Host", owned: "dict[int, int]", accounts: "dict[str, str]") -> "dict[int, set[int]]":
    """Return the processes that hold each socket, as far as this user has access, until time is up.

    `owned` is the uid by inode: processes of these users come first.
    """
    deadline = time.monotonic() + HOLDERS_SECONDS
    holders = {}  # type: dict[int, set[int]]
    left = in_turn(host, list_pids(host), accounts, set(owned.values()))
    # First a few descriptors of each: processes with very many descriptors must not hide the others.
    for most in (DESCRIPTORS_FIRST, DESCRIPTORS_READ):
        pids, left = left, []
        for pid in pids:
            inodes, is_whole = host.open_sockets(pid, most)
            add_holder(holders, pid, owned.keys() & inodes)
            left += [] if is_whole else [pid]
            if time.monotonic() > deadline:
                return holders
    return holders


def add_holder(holders: "dict[int, set[int]]", pid: int, inodes: "Iterable[int]") -> None:
    """Add a process to each of its sockets, keeping the lowest pids of each: a thousand may share ten thousand sockets."""
    for inode in inodes:
        known = holders.setdefault(inode, set())
        known.add(pid)
        if len(known) > HOLDERS_OF_ONE:
            known.remove(max(known))


# ---------------------------------------------------------------- ss


class LinesOf:
    """A filter of ss' output, for `Host.run`: keeps the lines of some sockets, however many others there are."""

    PLACE = re.compile(rb" ino:(\d{1,20}) sk:")

    def __init__(self, inodes: "Iterable[int]") -> None:
        self.wanted = {b"%d" % inode for inode in inodes}

    def search(self, line: bytes) -> bool:
        """Return whether to keep a line; a group's name may imitate an inode, so any match in the line counts."""
        return not self.wanted.isdisjoint(self.PLACE.findall(line))


def ask_ss(host: "Host", inodes: "Iterable[int]", memo: "Json", deadline: float) -> "dict[int, set[int]]":
    """Return the holders of some sockets from ss(8) as root, empty if sudo wants a password, is missing, or time is short.

    ss reads every descriptor of the host before it prints anything, and any user may have half a million of them. The
    probe cannot end it, as it is root's: after it was late, it is not run for a while, each time for longer.
    """
    seconds = min(SS_SECONDS, deadline - time.monotonic())
    if not host.may_ask_sudo(SS) or seconds < SS_SECONDS / 3:
        return {}
    try:
        status, output, _ = host.run_sudo(SS, seconds, wanted=LinesOf(inodes))
    except TooLong as err:
        status, output, _ = err.result  # each line stands alone, and a socket without one has no known holder
    except Late:
        pause = min(2 * memo.get("ss_pause", SS_AGAIN_SECONDS / 2), SS_AGAIN_MOST)
        memo["ss_pause"] = pause
        host.note_refusal(SS, pause)
        return {}
    except OSError:
        return {}
    memo.pop("ss_pause", None)
    if status:
        host.note_refusal(SS)
        return {}
    return parse_ss(output)


SS_LINE = re.compile(r"(?:tcp|udp) +\S+ +\d+ +\d+ +\S+ +\S+ +users:\((.*?)\) (?:timer:\S* )?(?:uid:\d+ )?ino:(\d+) sk:.*")
SS_HOLDER = re.compile(r'".{0,15}",pid=(\d{1,10}),fd=\d{1,10}', re.DOTALL)


def parse_ss(text: str) -> "dict[int, set[int]]":
    """Return the pids that hold each socket, by inode.

    Users choose the names of processes (15 characters) and control groups: a line counts only if all of it matches,
    and a process name is too short to imitate a holder and the end of a name.

    tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=812,fd=3),("systemd",pid=1,fd=50)) ino:12345 sk:1 cgroup:/x <->
    """
    holders = {}
    for line in text.split("\n"):
        match = SS_LINE.fullmatch(line)
        found = [SS_HOLDER.fullmatch(holder) for holder in match.group(1)[1:-1].split("),(")] if match else []
        if match and all(found):
            holders[int(match.group(2))] = {int(holder.group(1)) for holder in found if holder}
    return holders


# ---------------------------------------------------------------- owners


class Holders:
    """The processes that hold sockets, and which of them owns each; each process and group is read once."""

    def __init__(self, host: "Host", found: "dict[int, set[int]]", accounts: "dict[str, str]") -> None:
        self.host = host
        self.found = found
        self.accounts = accounts
        self.known = {}  # type: dict[tuple[Any, ...], Any]

    def cached(self, read: "Any", *what: int) -> "Any":
        """Return a function's cached result for this host."""
        key = (read, *what)
        if key not in self.known:
            self.known[key] = read(self.host, *what)
        return self.known[key]

    def unit(self, pid: int) -> "dict[str, str]":
        """Return `{unit?, container?}` of a process."""
        return self.cached(owner_of, pid)  # type: ignore[no-any-return]

    def made_in(self, row: "Json") -> str:
        """Return the path of the control group in which a socket was made, "" if unknown."""
        number = row.get("group", 0)
        return str(self.cached(group_ids).get(number, "")) if number else ""

    def holder(self, row: "Json") -> "int | None":
        """Return the process that a socket belongs to: of several the one that started first, as others inherited it."""
        pids, uid = self.found.get(row["inode"], set()), row.get("uid", 0)
        # systemd keeps the sockets that it opened for services (systemd.socket(5)): it counts only without other holders.
        pids = pids - {1} or pids
        mine = {pid for pid in pids if self.acts_for(pid, uid, row)} if uid else self.lent(pids, row)
        return min(mine, key=lambda pid: (self.cached(started, pid), pid)) if mine else None

    def acts_for(self, pid: int, uid: int, row: "Json") -> bool:
        """Return whether a process is the socket user's, or has no account and is in that user's container."""
        real = self.cached(real_uid, pid)
        if real == uid or str(real) in self.accounts or real < 0:
            return real == uid  # type: ignore[no-any-return]
        container = self.unit(pid).get("container")
        is_same = container is not None and container == owner_of_group(self.made_in(row)).get("container")
        return is_same or bool(self.cached(belongs_to, pid, uid))

    def lent(self, pids: "set[int]", row: "Json") -> "set[int]":
        """Return the holders that a socket of root may belong to, empty if they are of several users and nothing decides.

        Root opens sockets for others: a daemon opens them and becomes another user, or systemd passes on what it has
        opened. These may send it to others, so a shared unit counts, and the group in which it was made.
        """
        if len(pids) < 2 or len({self.cached(real_uid, pid) for pid in pids}) == 1:
            return pids
        units = {pid: self.unit(pid) for pid in pids}
        first = units[min(pids)]
        if first and all(one == first for one in units.values()):
            return pids
        made_in = owner_of_group(self.made_in(row))
        same = {pid for pid in pids if made_in and units[pid] == made_in}
        is_systemds = 1 in self.found[row["inode"]]
        return same or {pid for pid in pids if self.cached(real_uid, pid) == 0 and not is_systemds}


def group_ids(host: "Host") -> "dict[int, str]":
    """Return the path of every control group (v2) by its inode number."""
    return host.group_ids()


def started(host: "Host", pid: int) -> int:
    """Return when a process started, in ticks since boot (proc_pid_stat(5)); sys.maxsize if it is gone."""
    words = host.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[19]) if len(words) > 19 else sys.maxsize
