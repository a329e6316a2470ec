"""Mounted filesystems."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Age, Path
from .ranges import percent, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """One mounted filesystem, sizes as `df` tells them."""

    mountpoint: Path
    device: Path
    type: str
    total_bytes: int
    used_bytes: int
    available_bytes: int
    uuid: str | None = None
    inodes_total: int | None = None
    inodes_used: int | None = None
    read_only: bool = False
    read_only_by_error: bool = False
    """Whether the kernel has made it so, or an error since the boot may have."""
    device_number: str | None = None
    """The kernel's number of the filesystem, until it is unmounted; nobody but root can give it another one."""
    mount_id: int | None = None
    """The same of this mount of it."""
    guest_uid: int | None = None
    """Who mounted it, where that is neither root nor who logs in: what it is and how full is that user's own word."""
    age_seconds: Age | None = None
    """How old its values were: what autofs mounts is not asked each time, as that would keep it mounted."""

    @property
    def used_percent(self) -> float | None:
        """Return the used share of what users may use, as `df` (which rounds it up)."""
        used = within(self.used_bytes, 0, self.total_bytes)
        available = within(self.available_bytes, 0, self.total_bytes)
        return None if used is None or available is None else percent(used, used + available)

    @property
    def inodes_used_percent(self) -> float | None:
        """Return the used share of the inodes, None where they are not limited."""
        return percent(self.inodes_used, self.inodes_total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One filesystem that was left alone."""

    mountpoint: Path
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystems:
    """All filesystems that hold data.

    `late` names mountpoints that did not answer, `late_devices` their numbers: whoever owns a folder above one gives it
    another name. `unwatched` are network filesystems and what autofs mounted, which are asked when they are watched.
    """

    filesystems: tuple[Filesystem, ...]
    complete: Mapping[str, bool] = field(default_factory=dict)
    """`mounts`: whether all answered that there are; `names`: no, where some of them are not even named."""
    late: tuple[Path, ...] = ()
    late_devices: tuple[str, ...] = ()
    unwatched: tuple[Mount, ...] = ()
