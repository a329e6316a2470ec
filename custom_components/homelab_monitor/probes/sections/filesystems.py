"""The section filesystems: what is mounted and how full it is, one row per filesystem, as in `df`."""

import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import json
    from typing import Any, Callable, Iterable

    from ..host import Host, Json, Late, Request, SingleFile, Theirs, difference, without_none, within
    from .automounts import Automounts
    from .mounts import Mount, guest_uid, is_strangers, is_trusted, mount_lines, parse_mount
    from .patience import ask_each
    from .watched import Watched

# Filesystems that store data on this host, or stand for some that do (pools, encryption). Network filesystems and
# memory (tmpfs) only when watched; read-only images (squashfs, iso9660) are always full and of no interest.
LOCAL_FILESYSTEMS = re.compile(
    r"(ext[234]|xfs|btrfs|zfs|f2fs|jfs|reiserfs|nilfs2|bcachefs|ntfs3?|fuseblk|exfat|vfat|msdos|hfs|hfsplus|apfs|ufs|udf"
    r"|ubifs|jffs2|ecryptfs|fuse\.(mergerfs|mhddfs|unionfs|apfs|shfs|gocryptfs|encfs|cryfs|securefs))$"
)
NETWORK_FILESYSTEMS = re.compile(
    r"(nfs4?|cifs|smb3|smbfs|ceph|glusterfs|davfs|afs|ncpfs|lustre|ocfs2|gfs2|9p|virtiofs|vboxsf|prl_fs|beegfs"
    r"|fuse\.(glusterfs|sshfs|rclone|s3fs|davfs|vmhgfs-fuse))$"
)
# Where engines mount for their containers: none of the user's own, where nobody but root has made such a folder.
FOREIGN_MOUNT = re.compile(
    r"/docker/(zfs/graph|overlay2|btrfs/subvolumes|devicemapper/mnt)/|/containers/storage/(zfs|btrfs|overlay)/"
    r"|/kubelet/(pods|plugins)/"
)
MOST_MOUNTS, MOST_STRANGERS_MOUNTS = 5000, 1000
MOST_UNWATCHED, MOST_ROWS = 200, 1000  # the reader accepts no more of these
MOST_ENGINES = 64
NAMES_BYTES = 1 << 20  # of all names that are told, as they are written in a reply


def visible_mounts(mounts: "Iterable[Mount]") -> "dict[str, Mount]":
    """Return the reachable mounts by mountpoint: not those hidden by another mount at the same place or above it."""
    by_id = {mount.id: mount for mount in mounts}  # in the order of mounting, unless one was moved
    hidden = hidden_mounts(by_id.values())
    pairs = [(start, by_id[start.parent]) for start in by_id.values() if start.parent in by_id]
    below = {parent.id for start, parent in pairs if start.mountpoint == parent.mountpoint}
    covered = {}  # type: dict[str, bool]
    for start in by_id.values():
        mount, way = start, []  # type: Mount | None, list[str]
        while mount and mount.id not in covered:  # up to a mount whose result is known
            way.append(mount.id)
            covered[mount.id] = mount.id in hidden
            mount = mount if covered[mount.id] else by_id.get(mount.parent)
        covered.update(dict.fromkeys(way, mount is not None and covered[mount.id]))
    return {mount.mountpoint: mount for mount in by_id.values() if not covered[mount.id] and mount.id not in below}


def hidden_mounts(mounts: "Iterable[Mount]") -> "set[str]":
    """Return the ids of the mounts hidden by another mount above them on the same parent mount.

    A path enters the first mount on its way. Sorted by path, what a mount hides comes right after it.
    """
    hidden, above = set(), ("", "")
    for mount in sorted(mounts, key=Mount.place):
        place = mount.place()
        if place[0] == above[0] and place[1] != above[1] and place[1].startswith(above[1]):
            hidden.add(mount.id)
        else:
            above = place
    return hidden


class Row:
    """The mounts that may represent one row, best first; a chosen mount represents itself."""

    def __init__(self, mounts: "list[Mount]", is_chosen: bool, is_named: bool) -> None:
        self.mounts = mounts
        self.first = mounts[0]
        self.is_chosen = is_chosen
        self.is_named = is_named  # by its full name: then it may be a single file
        self.key = ("=" if is_chosen else "") + self.first.id


def rows_of(mounts: "Iterable[Mount]", watched: "Watched", uid: int, automounts: "Automounts") -> "list[Row]":
    """Return the rows of the reachable mounts: each local filesystem once, and each mount that the user chose."""
    groups = {}  # type: dict[str, list[Mount]]
    for mount in sorted(mounts, key=Mount.rank):
        if mount.kind != "autofs":
            groups.setdefault(mount.device, []).append(mount)
    rows = []
    for group in groups.values():
        chosen = [mount for mount in group if watched.fits(mount, uid)]
        usual = [mount for mount in group if not automounts.is_made(mount)]
        # A mount that shows all of a filesystem is a folder: if it is chosen, it represents both.
        if usual and is_usual(usual[0], uid) and not (usual[0].root == "/" and usual[0] in chosen):
            rows.append(Row(usual, False, False))
        rows += [Row([mount], True, watched.is_named(mount)) for mount in chosen]
    return sorted(rows, key=lambda row: (row.first.mountpoint, row.key))


def own_mounts(host: "Host", mounts: "list[Mount]", watched: "Watched", held: "Json") -> "list[Mount]":
    """Return the mounts without those of container engines and snapshots, unless they are watched by name.

    A ZFS snapshot shows in its source. Mounts of engines are recognized by their path, if only root can rename it.
    """
    found = {mount.id: FOREIGN_MOUNT.search(mount.mountpoint) for mount in mounts if not watched.is_named(mount)}
    places = {ident: mount.string[: mount.end()] for ident, mount in found.items() if mount}
    folders = sorted(set(places.values()), key=lambda folder: (len(folder), folder))[:MOST_ENGINES]
    kept = ask_each(folders, lambda folder: is_kept(host, folder), held, time.monotonic() + WAY_SECONDS)
    return [
        mount
        for mount in mounts
        if kept.get(places.get(mount.id, "")) is not True and not (mount.kind == "zfs" and "@" in mount.source)
        or watched.is_named(mount)
    ]


WAY_SECONDS = 1.0


def is_kept(host: "Host", folder: str) -> bool:
    """Return whether only root can rename a folder, as far as this user can see; may block."""
    try:
        host.roots_status(folder)
    except Theirs:
        return False
    except OSError:  # inside a folder of root's without access, or gone
        return True
    return True


def is_usual(mount: "Mount", uid: int) -> bool:
    """Tell whether a mount is reported without being watched: local ones, `/` whatever it is."""
    return mount.mountpoint == "/" or bool(LOCAL_FILESYSTEMS.match(mount.kind) and is_trusted(mount, uid))


def bounded_mounts(mounts: "Iterable[Mount]", uid: int) -> "tuple[list[Mount], bool, bool]":
    """Return the first mounts, whether these are all, and whether all but those of strangers; both have separate limits.

    A mount beyond the limit that covers another one is noticed when the sizes are read.
    """
    room = {True: MOST_STRANGERS_MOUNTS, False: MOST_MOUNTS}
    kept = []
    try:
        for mount in mounts:
            is_guest = is_strangers(mount, uid)
            room[is_guest] -= 1
            if room[is_guest] >= 0:
                kept.append(mount)
            elif not is_guest:
                break
    except Late:
        return kept, False, False
    return kept, min(room.values()) >= 0, room[False] >= 0


def may_hang(mount: "Mount") -> bool:
    """Tell whether somebody else than this kernel answers for a mount."""
    return mount.kind.startswith("fuse") or not LOCAL_FILESYSTEMS.match(mount.kind)


def ask_rows(host: "Host", rows: "list[Row]", stuck: "Json", seconds: float) -> "dict[str, Any]":
    """Return the result of each row that answers in time, by its key; mounts that may hang come last."""
    deadline = time.monotonic() + seconds
    answers, by_key = {}, {row.key: row for row in rows}  # type: dict[str, Any], dict[str, Row]
    for is_risky in (False, True):
        asked = [key for key, row in by_key.items() if may_hang(row.first) == is_risky]
        held = stuck.setdefault("risky" if is_risky else "own", {})
        answers.update(ask_each(asked, lambda key: answer_of(host, by_key[key]), held, deadline))
    return answers


def answer_of(host: "Host", row: Row) -> "tuple[Mount, tuple[int, ...]] | None":
    """Return the best mount that answers and is no single file, and its sizes; None if all are files.

    May block, raises OSError: the path to one of them may be inaccessible, or it is being moved.
    """
    failed = None  # type: OSError | None
    for mount in row.mounts:
        try:
            if mount.is_too_deep:
                raise OSError("a path that is too long")
            return mount, host.statvfs(mount.mountpoint, mount.id, mount.root == "/" or row.is_named)
        except SingleFile:
            continue
        except OSError as err:
            failed = failed or err
    if failed:
        raise failed
    return None


def parse_uevent_name(text: str) -> str:
    r"""Return the last part of DEVNAME in a uevent file, as links to it end (cciss/c0d0p1).

    MAJOR=8\nMINOR=1\nDEVNAME=sda1\nDEVTYPE=partition
    """
    found = re.search(r"^DEVNAME=(.*)$", text, re.MULTILINE)
    return os.path.basename(found.group(1)) if found else ""


def uuids_by_device(host: "Host") -> "dict[str, str]":
    """Return the filesystem UUID by kernel name; udev's links are readable without root."""
    folder = "/dev/disk/by-uuid"
    uuids = {host.link_name(folder + "/" + name): name for name in host.names(folder)}
    for uuid in host.names("/sys/fs/btrfs"):  # udev's link points to one of its devices, the mount to another
        devices = host.names(f"/sys/fs/btrfs/{uuid}/devices")
        uuids.update((name.rpartition("!")[2], uuid) for name in devices)
    return uuids


def kernel_name(host: "Host", mount: "Mount") -> str:
    """Return the block device below a mount; the source may be a mapper's name, a UUID or /dev/root."""
    told = host.text("/sys/dev/block/" + mount.device + "/uevent")
    if told:
        return parse_uevent_name(told)
    # With FUSE the source is the word of whoever mounted it, and could lead anywhere.
    is_path = mount.source.startswith("/dev/") and not mount.kind.startswith("fuse")
    return os.path.basename(host.real_path(mount.source)) if is_path else ""


def filesystem(mount: "Mount", sizes: "tuple[int, ...]", uuid: str) -> "Json":
    """Return one filesystem's row, sizes as df prints them: used counts what root reserved as not used.

    Raises OSError if the sizes are inconsistent.
    """
    unit_bytes, blocks, free, available, inodes, free_inodes = sizes
    row = {"mountpoint": mount.mountpoint, "device": mount.source, "type": mount.kind}  # type: Json
    row.update(device_number=mount.device, mount_id=int(mount.id))
    if uuid:
        row["uuid"] = uuid
    # The kernel returns a negative number when the reserve itself is in use; Python may read its sign as a bit.
    available = 0 if available >> 63 else available
    row["total_bytes"] = blocks * unit_bytes
    for key, count in (("used_bytes", difference(blocks, free)), ("available_bytes", within(available, 0, blocks))):
        if count is None:
            raise OSError("its numbers do not fit each other")
        row[key] = count * unit_bytes
    if inodes:
        row.update(inodes_total=inodes, inodes_used=difference(inodes, free_inodes))
    row["read_only"] = "ro" in mount.options or is_stopped(mount)
    return without_none(row)


# Since Linux 6.15 ext4 stays `rw` after an error, and refuses writes (fs/ext4/super.c); ioctl_ext4(2), SHUTDOWN.
STOPPED = {"emergency_ro", "shutdown"}


def is_stopped(mount: "Mount") -> bool:
    """Tell whether the kernel itself says of a filesystem that it takes nothing more."""
    return mount.kind.startswith("ext") and not STOPPED.isdisjoint(mount.options)


def is_read_only_by_error(host: "Host", mount: "Mount", device: str) -> bool:
    """Tell whether an error made a filesystem read-only (errors=remount-ro).

    The superblock keeps errors across boots, until e2fsck(8) has repaired them. The kernel makes only the filesystem
    read-only, while mounting or remounting it read-only marks the mountpoint as well (mount(8)); in that case the time
    of the error decides, by the clock at that time.
    """
    if is_stopped(mount):
        return True
    if "ro" not in mount.options or not mount.kind.startswith("ext") or not device:
        return False
    last, now = host.number(f"/sys/fs/ext4/{device}/last_error_time"), host.epoch()
    return last is not None and last > 0 and (mount.is_meant_writable or now - host.boottime() < last <= now)


def unwatched_mounts(mounts: "Iterable[Mount]", watched: "Watched", uid: int, automounts: "Automounts") -> "list[Json]":
    """Return the mounts offered for watching: network filesystems and autofs mounts; of too many, not those of users."""
    found = [
        mount
        for mount in mounts
        if not watched.fits(mount, uid)
        and (NETWORK_FILESYSTEMS.match(mount.kind) or (automounts.is_made(mount) and is_usual(mount, uid)))
        and mount.mountpoint != "/"
    ]
    offered = sorted(found, key=lambda mount: not is_trusted(mount, uid))[:MOST_UNWATCHED]
    offered.sort(key=lambda mount: mount.mountpoint)
    return [{"mountpoint": mount.mountpoint, "type": mount.kind} for mount in offered if not mount.is_too_deep]


def hidden_by_strangers(
    own: "list[Mount]", visible: "list[Mount]", watched: "Watched", uid: int, automounts: "Automounts"
) -> "list[Mount]":
    """Return the filesystems that would be reported if no stranger had mounted something over them or above.

    The owner of a folder can hide in this way what root mounted there. It still exists, and another of its mounts may
    represent it, unless the hidden mount is the chosen one.
    """
    honest = [mount for mount in own if not is_strangers(mount, uid)]
    if len(honest) == len(own):
        return []
    known = {mount.device for mount in visible if not is_strangers(mount, uid)}
    there = {mount.id for mount in visible}
    rows = rows_of(visible_mounts(honest).values(), watched, uid, automounts)
    return [row.first for row in rows if (row.first.id not in there if row.is_chosen else row.first.device not in known)]


class Room:
    """The space left for names in the reply: users who choose names may make each as long as a path can be."""

    def __init__(self) -> None:
        self.left = NAMES_BYTES
        self.is_full = False

    def fits(self, rows: "Iterable[Any]", name_of: "Callable[[Any], str]", most: int) -> "list[Any]":
        """Return the rows that fit, preferring those with short names, sorted by name."""
        kept = []  # type: list[Any]
        for row in sorted(rows, key=lambda row: len(name_of(row))):
            self.left -= len(json.dumps(row))
            if self.left < 0 or len(kept) >= most:
                self.is_full = True
                break
            kept.append(row)
        return sorted(kept, key=name_of)


class Report:
    """The report on filesystems, row by row; each mount appears once.

    A late mount is reported by name and by device number: the owner of a folder above can change the name, only root
    the number.
    """

    def __init__(self, host: "Host", hidden: "list[Mount]") -> None:
        self.host = host
        self.uuids = uuids_by_device(host)
        self.rows = {}  # type: dict[str, Json]
        self.late = [mount.mountpoint for mount in hidden]
        self.closed = []  # type: list[str]
        self.devices = [mount.device for mount in hidden]

    def add(self, mount: "Mount", answer: "Any", age: float = 0.0) -> None:
        """Tell of a mount: its answer as `answer_of` gave it, or the OSError that it raised, and how old that is."""
        if isinstance(answer, (PermissionError, FileNotFoundError)):
            # A stranger's FUSE mount denies access: no failure, and permanent. For any other, only the path is inaccessible.
            if not is_strangers(mount, self.host.uid()):
                self.closed.append(mount.mountpoint)
                self.devices.append(mount.device)
        elif isinstance(answer, OSError):
            self.late.append(mount.mountpoint)
            self.devices.append(mount.device)
        elif answer and (answer[1][1] or mount.mountpoint == "/"):
            self.add_row(answer[0], answer[1], age)

    def add_row(self, mount: "Mount", sizes: "tuple[int, ...]", age: float) -> None:
        """Tell of a mount that answered."""
        try:
            device = kernel_name(self.host, mount)
            row = filesystem(mount, sizes, self.uuids.get(device, ""))
        except OSError:
            self.closed.append(mount.mountpoint)
            self.devices.append(mount.device)
            return
        if is_strangers(mount, self.host.uid()):
            row["guest_uid"] = guest_uid(mount)
        if row["read_only"] and is_read_only_by_error(self.host, mount, device):
            row["read_only_by_error"] = True
        if age:
            row["age_seconds"] = round(age)
        self.rows[mount.mountpoint] = row


def collect_filesystems(host: "Host", request: "Request", memo: "Json") -> "Json":
    """Read the list of mounts and the sizes of each reported filesystem."""
    until = time.monotonic() + min(4.0, request.timeout * 0.9)
    watched, uid, stuck = Watched(request.watch.get("filesystems", [])), host.uid(), memo.setdefault("stuck", {})
    lines = (mount for mount in map(parse_mount, mount_lines(host)) if mount)
    mounted, is_all, is_all_own = bounded_mounts(lines, uid)
    own = own_mounts(host, mounted, watched, stuck.setdefault("kept", {}))
    automounts = memo.setdefault("automounts", Automounts())
    automounts.look(own, host.boottime())
    visible = list(visible_mounts(own).values())
    hidden = hidden_by_strangers(own, visible, watched, uid, automounts)
    rows = rows_of(visible, watched, uid, automounts)
    # A stranger's mount over a mountpoint says nothing about the filesystem that belongs there, even if watched.
    covered = {mount.mountpoint for mount in hidden}
    rows = [row for row in rows if not (is_strangers(row.first, uid) and row.first.mountpoint in covered)]
    report = Report(host, hidden)
    report_rows(report, rows, automounts, stuck, until - time.monotonic())
    report_unmounted(report, watched, uid, automounts)
    report_absent(report, watched, {mount.mountpoint for mount in mounted}, stuck)
    unwatched = unwatched_mounts(visible, watched, uid, automounts)
    section = section_of(report, unwatched, is_all_own)
    section["complete"]["mounts"] &= is_all
    return section


def section_of(report: Report, unwatched: "list[Json]", is_all: bool) -> "Json":
    """Return the section as far as it fits; rows that do not fit are late. `is_all`: no mount was left out."""
    room = Room()
    filesystems = room.fits(report.rows.values(), mountpoint_of, MOST_ROWS)
    shown = {row["mountpoint"] for row in filesystems}
    lost = [row for row in report.rows.values() if row["mountpoint"] not in shown]
    late = room.fits(
        dict.fromkeys([row["mountpoint"] for row in lost] + report.late + report.closed), lambda name: name, MOST_ROWS
    )
    is_whole = is_all and not room.is_full
    section = {"complete": {"mounts": is_whole and not report.late}, "filesystems": filesystems}  # type: Json
    if not is_whole:
        section["complete"]["names"] = False
    devices = sorted({row["device_number"] for row in lost}.union(report.devices))[:MOST_ROWS]
    section.update((name, value) for name, value in (("late", late), ("late_devices", devices)) if value)
    unwatched = room.fits(unwatched, mountpoint_of, MOST_UNWATCHED)
    if unwatched:
        section["unwatched"] = unwatched
    return section


def mountpoint_of(row: "Json") -> str:
    """Return a row's mountpoint."""
    return str(row["mountpoint"])


def report_rows(report: Report, rows: "list[Row]", automounts: "Automounts", stuck: "Json", seconds: float) -> None:
    """Add what is mounted; autofs mounts are read rarely, and keep the age of their last answer."""
    answers = ask_rows(report.host, [row for row in rows if not automounts.rests(row.first)], stuck, seconds)
    for row in rows:
        if automounts.rests(row.first):
            report.add(row.first, automounts.answer(row.first), automounts.age(row.first))
            continue
        answer = answers.get(row.key, OSError("late"))
        if row.key in answers or any(row.key in held for held in stuck.values()):
            automounts.note(row.first, answer)
        report.add(row.first, answer)


def report_unmounted(report: Report, watched: "Watched", uid: int, automounts: "Automounts") -> None:
    """Add what is chosen and autofs has unmounted, with its last answer, as reading it would mount it."""
    known = {*report.rows, *report.late, *report.closed}
    for mount in automounts.unmounted(known):
        answer = automounts.answer(mount)
        if watched.fits(mount, uid) and not isinstance(answer, OSError):
            report.add(mount, answer, automounts.age(mount))
            known.add(mount.mountpoint)
    report.closed += [name for name in watched.in_full if name not in known and automounts.would_mount(name)]


def report_absent(report: Report, watched: "Watched", there: "set[str]", stuck: "Json") -> None:
    """Add the chosen names where nothing is mounted, if users other than root could have moved the mount away.

    Users who may rename a folder above can change its path; below folders of root's it has really been unmounted.
    """
    known = there.union(report.rows, report.late, report.closed)
    folders = {name: os.path.dirname(name) for name in watched.in_full if name not in known}
    held, until = stuck.setdefault("kept", {}), time.monotonic() + WAY_SECONDS
    kept = ask_each(sorted(set(folders.values())), lambda folder: is_kept(report.host, folder), held, until)
    report.closed += [name for name, folder in folders.items() if kept.get(folder) is not True]
