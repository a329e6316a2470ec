"""Pending updates of the operating system's packages, and whether a reboot is due."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package that could be updated; `security` where the package manager tells it apart."""

    name: str
    available: str
    installed: str | None = None
    security: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """What a package manager knows without asking anybody; a count that it cannot know is None."""

    manager: str
    pending: int | None = None
    security: int | None = None
    packages: tuple[Package, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)
    metadata_age_seconds: float | None = None
    reboot_required: bool | None = None
    reboot_reasons: tuple[str, ...] = ()
    reboot_packages: tuple[str, ...] = ()
