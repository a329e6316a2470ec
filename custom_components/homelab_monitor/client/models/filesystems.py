"""Mounted filesystems."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .vitals import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """One mounted filesystem, sizes as `df` tells them."""

    mountpoint: str
    device: str
    type: str
    total_bytes: int
    used_bytes: int
    available_bytes: int
    uuid: str | None = None
    inodes_total: int | None = None
    inodes_used: int | None = None
    read_only: bool = False

    @property
    def used_percent(self) -> float | None:
        """Return the used share of what users may use, as `df` (which rounds it up)."""
        return percent(self.used_bytes, self.used_bytes + self.available_bytes)

    @property
    def inodes_used_percent(self) -> float | None:
        """Return the used share of the inodes, None where they are not limited."""
        return percent(self.inodes_used, self.inodes_total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One filesystem that was left alone."""

    mountpoint: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystems:
    """All filesystems that hold data.

    `late` names mountpoints that did not answer, `unwatched` network filesystems, which are only
    asked when they are watched.
    """

    filesystems: tuple[Filesystem, ...]
    complete: Mapping[str, bool] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    unwatched: tuple[Mount, ...] = ()
