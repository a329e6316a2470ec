"""Pending updates of the operating system's packages, and whether a reboot is due."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .kinds import Age


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package that could be updated; `security` if the package manager distinguishes that."""

    name: str
    available: str
    installed: str | None = None
    security: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """How many packages one cause keeps from being upgraded, and how many of them have security fixes."""

    count: int
    security: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """What a package manager knows without network access; a count that it cannot know is None.

    `pending` are those that would be installed, without the three below: packages that are held, locked or ignored;
    those that are rolled out to this host later; those that cannot be upgraded now.
    """

    manager: str
    pending: int | None = None
    security: int | None = None
    unfinished: int | None = None
    """How many of the pending packages an earlier run has left half installed or not configured."""
    held: Withheld | None = None
    phased: Withheld | None = None
    kept_back: Withheld | None = None
    image: str | None = None
    """How the system is updated if that is done as a whole: then no package is installed."""
    packages: tuple[Package, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)
    metadata_age_seconds: Age | None = None
    reboot_required: bool | None = None
    reboot_reasons: tuple[str, ...] = ()
    reboot_packages: tuple[str, ...] = ()
