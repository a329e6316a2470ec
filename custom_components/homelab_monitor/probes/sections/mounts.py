"""The list of mounts, of which several sections need a part: how it is read, and who mounted what."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Host, Json, Late, Remembered

# Single files that container engines mount from a filesystem of the machine below.
CONTAINER_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/localtime", "/etc/timezone")
PATH_BYTES = 4095  # of a path that the kernel takes (PATH_MAX)
SHOWN_CHARACTERS = 200  # of one that it does not
MOUNT_BYTES = 1 << 15  # of each end of a line; a path has 4095 bytes, and a space in it is written with four
MOUNTS_SECONDS = 1.5
REPLACED_FILE = re.compile(r"\d+ \d+ \S+ \S+ (/proc/\S+) ")


def replaced_files(host: "Host", memo: "Json") -> "frozenset[str]":
    """Return the files of /proc that are separate mounts: lxcfs shows a container's numbers there (lxcfs(1)).

    All others, and /sys, describe the whole host: numbers of the two kinds must not be combined.
    """
    found = memo.setdefault("replaced", Remembered())
    return found.get(host.boottime(), None, lambda: frozenset(mounted_files(host)))  # type: ignore[no-any-return]


def mount_lines(host: "Host") -> "Iterator[str]":
    """Yield the lines of the list of mounts (proc_pid_mountinfo(5)); raises OSError, Late.

    A user who nests folders makes the lines of mounts in them as long as they like.
    """
    return host.short_lines("/proc/self/mountinfo", MOUNT_BYTES, MOUNTS_SECONDS)


def mounted_files(host: "Host") -> "Iterator[str]":
    """Yield the files of /proc with something mounted over them, as far as the list of mounts can be read."""
    try:
        for line in mount_lines(host):
            found = REPLACED_FILE.match(line)
            if found:
                yield found.group(1)
    except (OSError, Late):
        return


class Mount:
    """One line of /proc/self/mountinfo, its words before and after the dash."""

    def __init__(self, words: "list[str]", after: "list[str]", is_stump: bool = False) -> None:
        self.id = words[0]  # another one once something is mounted there anew
        # The mount that it is mounted on; the first of all (rootfs) is on itself.
        self.parent = words[1] if words[1] != words[0] else "-"
        self.device = words[2]  # major:minor of the filesystem
        self.root = unescape(words[3])[:PATH_BYTES]  # which folder of the filesystem is mounted
        self.mountpoint = unescape(words[4])
        # Whoever owns a folder above nests it as deep as they like; that may stand in no other's place.
        self.is_too_deep = is_stump or len(self.mountpoint.encode("utf-8", "surrogateescape")) > PATH_BYTES
        if self.is_too_deep:
            self.mountpoint = self.mountpoint[:SHOWN_CHARACTERS] + "\u2026/" + self.id
        self.is_meant_writable = "rw" in words[5].split(",")  # by whoever mounted it here
        self.kind = after[0]
        self.source = unescape(after[1])
        self.options = set(after[2].split(","))  # options of the filesystem itself

    def place(self) -> "tuple[str, str]":
        """Return on which mount it is mounted and where."""
        return self.parent, self.mountpoint.rstrip("/") + "/"

    def rank(self) -> "tuple[bool, bool, int, int, str]":
        """Return what orders the mounts of one filesystem: `/`, then what shows most of it, as df chooses."""
        is_file = self.mountpoint in CONTAINER_FILES
        return self.mountpoint != "/", is_file, len(self.root), len(self.mountpoint), self.mountpoint


def parse_mountinfo(text: str) -> "Iterator[Mount]":
    r"""Yield the mounts (proc_pid_mountinfo(5)); a space in a name is written \040.

    36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    """
    # Not splitlines(): a name may hold what Unicode takes for the end of a line.
    return (mount for mount in map(parse_mount, text.split("\n")) if mount)


def parse_mount(line: str) -> "Mount | None":
    """Return what a line tells, None where it is none; of one that is too long what is left of it (`short_lines`)."""
    head, _, tail = line.partition(" - ")
    words, after = head.split(" "), tail.split(" ")
    begin, is_cut, _ = line.partition("\n")
    # In the path of a place, or of the folder that is mounted there: what is left of it may look like another one.
    is_stump = bool(is_cut) and " - " not in begin
    if is_cut:
        words = (begin.split(" ") + [begin[-PATH_BYTES - 1 :]])[:5] + [""]
    return Mount(words, after, is_stump) if len(words) >= 6 and len(after) >= 3 else None


def unescape(text: str) -> str:
    r"""Return a name without the kernel's octal escapes.

    /mnt/my\040disk  →  /mnt/my disk
    """
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    raw = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code.group(1), 8) & 255]), raw)
    return raw.decode("utf-8", "surrogateescape")


def is_trusted(mount: Mount, uid: int) -> bool:
    """Tell whether root or this user mounted something: with FUSE everybody can, and says what it is and how full.

    The kernel notes who it was (`user_id`); the type behind `fuse.` is that user's own word. Who did not mount it may
    only look into it with `allow_other` (Documentation/filesystems/fuse.rst).
    """
    if not mount.kind.startswith("fuse"):
        return True
    own = "user_id=" + str(uid) in mount.options
    return own or ("user_id=0" in mount.options and "allow_other" in mount.options)


def is_strangers(mount: Mount, uid: int) -> bool:
    """Tell whether a user who is neither root nor this one mounted something: only with FUSE can anybody."""
    return mount.kind.startswith("fuse") and not mount.options.intersection(("user_id=0", "user_id=" + str(uid)))


def guest_uid(mount: Mount) -> int:
    """Return who mounted something with FUSE, -1 where that is not told."""
    told = [option for option in mount.options if re.match(r"user_id=\d{1,10}$", option)]
    return int(told[0][len("user_id=") :]) if told else -1
