"""The section filesystems: what is mounted and how full it is, one row per filesystem, as `df` tells it."""

import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

    from ..probe import Host, Json, Request

# Filesystems that keep data of their own on this machine. Network filesystems and memory (tmpfs) only when
# watched; read-only images (squashfs, iso9660) are always full and nobody's business.
LOCAL_FILESYSTEMS = re.compile(
    r"(ext[234]|xfs|btrfs|zfs|f2fs|jfs|reiserfs|nilfs2|bcachefs|ntfs3?|fuseblk|exfat|vfat|msdos|hfs|hfsplus|apfs|ufs|udf"
    r"|ubifs|jffs2|fuse\.(mergerfs|mhddfs|unionfs|apfs))$"
)
NETWORK_FILESYSTEMS = re.compile(
    r"(nfs4?|cifs|smb3|smbfs|ceph|glusterfs|davfs|afs|ncpfs|lustre|ocfs2|gfs2|9p|virtiofs|vboxsf|prl_fs|beegfs"
    r"|fuse\.(glusterfs|sshfs|rclone|s3fs|davfs|vmhgfs-fuse))$"
)
# Single files that container engines mount from a filesystem of the machine below.
CONTAINER_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/localtime", "/etc/timezone")
# What engines mount for their containers, and ZFS for whoever looks into a snapshot: none of the user's own.
FOREIGN_MOUNT = re.compile(
    r"/docker/(zfs/graph|overlay2|btrfs/subvolumes|devicemapper/mnt)/|/containers/storage/(zfs|btrfs|overlay)/"
    r"|/kubelet/(pods|plugins)/|/\.zfs/snapshot/"
)
PATIENCE_SECONDS = 1.0


class Mount:
    """One line of /proc/self/mountinfo, its words before and after the dash."""

    def __init__(self, words: "list[str]", after: "list[str]") -> None:
        self.id = words[0]  # another one once something is mounted there anew
        self.parent = words[1]  # the mount that it is mounted on
        self.device = words[2]  # major:minor of the filesystem
        self.root = unescape(words[3])  # which folder of the filesystem is mounted
        self.mountpoint = unescape(words[4])
        self.kind = after[0]
        self.source = unescape(after[1])
        self.options = set(words[5].split(",") + after[2].split(","))

    def rank(self) -> "tuple[bool, bool, int, int, str]":
        """Return what orders the mounts of one filesystem: `/`, then what shows most of it, as df chooses."""
        is_file = self.mountpoint in CONTAINER_FILES
        return self.mountpoint != "/", is_file, len(self.root), len(self.mountpoint), self.mountpoint


def parse_mountinfo(text: str) -> "Iterator[Mount]":
    r"""Yield the mounts (proc_pid_mountinfo(5)); a space in a name is written \040.

    36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    """
    for line in text.split("\n"):  # not splitlines(): a name may hold what Unicode takes for the end of a line
        head, _, tail = line.partition(" - ")
        words, after = head.split(" "), tail.split(" ")
        if len(words) >= 6 and len(after) >= 3:
            yield Mount(words, after)


def unescape(text: str) -> str:
    r"""Return a name without the kernel's octal escapes.

    /mnt/my\040disk  →  /mnt/my disk
    """
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    raw = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code.group(1), 8) & 255]), raw)
    return raw.decode("utf-8", "surrogateescape")


def visible_mounts(mounts: "Iterable[Mount]") -> "dict[str, Mount]":
    """Return by mountpoint what can be reached: not what lies below another mount at the same place or above it."""
    by_id, covers = {}, set()  # type: dict[str, Mount], set[tuple[str, str]]
    for mount in mounts:  # in the order of mounting
        by_id[mount.id] = mount
        covers.add((mount.parent, mount.mountpoint))

    def is_covered(mount: Mount) -> bool:
        for _ in by_id:  # so deep at most
            # A path leads from the parent into the first mount on its way.
            if any((mount.parent, folder) in covers for folder in folders_above(mount.mountpoint)):
                return True
            if mount.parent == mount.id or mount.parent not in by_id:
                return False
            mount = by_id[mount.parent]
        return False

    return {mount.mountpoint: mount for mount in by_id.values() if not is_covered(mount)}


def folders_above(path: str) -> "Iterator[str]":
    """Yield the folders that a path leads through.

    /srv/data/photos  →  /srv/data, /srv, /
    """
    while path.strip("/"):
        path = path.rpartition("/")[0]
        yield path or "/"


def one_per_filesystem(mounts: "Iterable[Mount]") -> "list[Mount]":
    """Return the best of the mounts of each filesystem that can be reached."""
    visible = visible_mounts(mounts)
    best = {}  # type: dict[str, Mount]
    for mount in sorted(visible.values(), key=Mount.rank):
        best.setdefault(mount.device, mount)
    return sorted(best.values(), key=lambda mount: mount.mountpoint)


def is_own(mount: Mount, watched: "list[str]") -> bool:
    """Tell whether a mount is the machine's, or one that somebody wants to see."""
    return mount.mountpoint in watched or not FOREIGN_MOUNT.search(mount.mountpoint)


def is_wanted(mount: Mount, watched: "list[str]") -> bool:
    """Tell whether a mount is reported: local ones, `/` whatever it is, watched ones; autofs never."""
    if mount.kind == "autofs":
        return False
    return mount.mountpoint == "/" or mount.mountpoint in watched or bool(LOCAL_FILESYSTEMS.match(mount.kind))


class Round:
    """One thread's way through a list of mounts."""

    def __init__(self, host: "Host", mounts: "list[Mount]") -> None:
        import threading  # noqa: PLC0415

        self.host = host
        self.mounts = mounts
        self.answers = {}  # type: dict[str, tuple[int, ...] | OSError | None]
        self.is_abandoned = False
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Ask one mount after the other; stop after the one that made this thread late."""
        for mount in self.mounts:
            if self.is_abandoned:
                return
            try:
                answer = self.ask(mount)  # type: tuple[int, ...] | OSError | None
            except OSError as err:
                answer = err
            if not self.is_abandoned:
                self.answers[mount.mountpoint] = answer
        self.over.set()

    def ask(self, mount: Mount) -> "tuple[int, ...] | None":
        """Return the sizes, None for a single file that is mounted."""
        if mount.root != "/" and not self.host.is_folder(mount.mountpoint):
            return None
        return self.host.statvfs(mount.mountpoint)

    def left(self) -> "list[Mount]":
        """Return the mounts without an answer; while the thread runs, the first of them is being asked."""
        return self.mounts[len(self.answers) :]

    def wait(self, deadline: float) -> None:
        """Wait until all is answered, one mount takes too long, or time is over."""
        answered = -1
        while not self.over.is_set() and len(self.answers) > answered and time.monotonic() < deadline:
            answered = len(self.answers)
            self.over.wait(min(PATIENCE_SECONDS, max(0.0, deadline - time.monotonic())))
        self.is_abandoned = not self.over.is_set()


def ask_mounts(host: "Host", mounts: "list[Mount]", stuck: "dict[str, Any]", seconds: float) -> "dict[str, Any]":
    """Return the answer of each mount that gives one; a mount that hangs keeps its thread and is not asked again."""
    for place in [place for place, thread in stuck.items() if not thread.is_alive()]:
        del stuck[place]
    deadline = time.monotonic() + seconds
    left = [mount for mount in mounts if mount.id not in stuck]
    left.sort(key=lambda mount: not LOCAL_FILESYSTEMS.match(mount.kind))  # what may hang waits for what cannot
    answers = {}  # type: dict[str, Any]
    while left and time.monotonic() < deadline:
        asking = Round(host, left)
        asking.wait(deadline)
        left = asking.left() if asking.is_abandoned else []
        answers.update(asking.answers)
        if left:
            stuck[left.pop(0).id] = asking.thread
    return answers


def parse_uevent_name(text: str) -> str:
    r"""Return DEVNAME of a uevent file.

    MAJOR=8\nMINOR=1\nDEVNAME=sda1\nDEVTYPE=partition
    """
    found = re.search(r"^DEVNAME=(.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def uuids_by_device(host: "Host") -> "dict[str, str]":
    """Return the filesystem UUID by kernel name; udev's links are readable without root."""
    folder = "/dev/disk/by-uuid"
    uuids = {host.link_name(folder + "/" + name): name for name in host.names(folder)}
    for uuid in host.names("/sys/fs/btrfs"):  # udev's link leads to one of a filesystem's devices, the mount to another
        uuids.update(dict.fromkeys(host.names(f"/sys/fs/btrfs/{uuid}/devices"), uuid))
    return uuids


def kernel_name(host: "Host", mount: Mount) -> str:
    """Return the block device below a mount; the source may be a mapper's name, a UUID or /dev/root."""
    told = host.text("/sys/dev/block/" + mount.device + "/uevent")
    if told:
        return parse_uevent_name(told)
    return os.path.basename(host.real_path(mount.source)) if mount.source.startswith("/dev/") else ""


def filesystem(mount: Mount, sizes: "tuple[int, ...]", uuid: str) -> "Json":
    """Return one filesystem's row, sizes as df prints them: used counts what root reserved as not used."""
    unit_bytes, blocks, free, available, inodes, free_inodes = sizes
    told = {"mountpoint": mount.mountpoint, "device": mount.source, "type": mount.kind}  # type: Json
    if uuid:
        told["uuid"] = uuid
    told["total_bytes"] = blocks * unit_bytes
    told["used_bytes"] = (blocks - free) * unit_bytes
    # The kernel may tell a negative number when the reserve itself is in use.
    told["available_bytes"] = available * unit_bytes if available <= blocks else 0
    if inodes:
        told.update(inodes_total=inodes, inodes_used=inodes - free_inodes)
    told["read_only"] = "ro" in mount.options
    return told


def collect_filesystems(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read the list of mounts and ask each filesystem that counts for its sizes."""
    watched = request.watch.get("filesystems", [])
    mounted = parse_mountinfo(host.read("/proc/self/mountinfo"))
    everything = one_per_filesystem(one for one in mounted if is_own(one, watched))
    mounts = [mount for mount in everything if is_wanted(mount, watched)]
    answers = ask_mounts(host, mounts, memo.setdefault("stuck", {}), min(4.0, request.timeout * 0.9))
    uuids = uuids_by_device(host)
    rows, late = [], []
    for mount in mounts:
        answer = answers.get(mount.mountpoint, OSError("late"))
        if isinstance(answer, OSError):
            # A FUSE mount of another user refuses; that is no failure, and will not change.
            late += [] if isinstance(answer, (PermissionError, FileNotFoundError)) else [mount.mountpoint]
        elif answer and (answer[1] or mount.mountpoint == "/"):
            rows.append(filesystem(mount, answer, uuids.get(kernel_name(host, mount), "")))
    section = {"complete": {"mounts": not late}, "filesystems": rows}  # type: Json
    if late:
        section["late"] = late
    unwatched = [mount for mount in everything if NETWORK_FILESYSTEMS.match(mount.kind) and mount not in mounts]
    if unwatched:
        section["unwatched"] = [{"mountpoint": mount.mountpoint, "type": mount.kind} for mount in unwatched]
    return section


SECTIONS = globals().setdefault("SECTIONS", [])
SECTIONS.append(("filesystems", collect_filesystems, 5))
