"""Mounted filesystems."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Age, Path
from .ranges import percent, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """One mounted filesystem, with sizes as `df` reports them."""

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
    """Whether the kernel has made it read-only, or an error since the boot may have."""
    device_number: str | None = None
    """The kernel's number of the filesystem until it is unmounted; only root can change it."""
    mount_id: int | None = None
    """The kernel's number of this mount."""
    guest_uid: int | None = None
    """The user who mounted it, if neither root nor the login user: its type and usage are then that user's claims."""
    age_seconds: Age | None = None
    """Age of its values: automounted filesystems are not read each time, as that would keep them mounted."""

    @property
    def used_percent(self) -> float | None:
        """Return the used share of the space for users in percent, as `df` (which rounds it up)."""
        used = within(self.used_bytes, 0, self.total_bytes)
        available = within(self.available_bytes, 0, self.total_bytes)
        return None if used is None or available is None else percent(used, used + available)

    @property
    def inodes_used_percent(self) -> float | None:
        """Return the used share of the inodes in percent, None if they are not limited."""
        return percent(self.inodes_used, self.inodes_total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One filesystem that was not read."""

    mountpoint: Path
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystems:
    """All filesystems that hold data.

    `late` has mountpoints that did not answer, `late_devices` their numbers: the owner of a folder above one can rename
    it. `unwatched` are network filesystems and automounted ones, which are read only if they are selected.
    """

    filesystems: tuple[Filesystem, ...]
    complete: Mapping[str, bool] = field(default_factory=dict)
    """`mounts`: whether all filesystems answered; `names`: False if not even all their names are known."""
    late: tuple[Path, ...] = ()
    late_devices: tuple[str, ...] = ()
    unwatched: tuple[Mount, ...] = ()
