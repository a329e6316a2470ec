"""Containers of Docker and Podman."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import re

from .kinds import Epoch, Line

_IMAGE_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12})[0-9a-f]{52}")
RESTARTING_SECONDS = 60.0
"""For so long after a restart by its engine, a container may be about to restart again."""
AHEAD_SECONDS = 10.0
"""How much later than the time of a reply, which is that of its beginning, a container in it may have been started."""
STOPPED_EXIT_CODES = frozenset({0, 130, 137, 143})
"""Exit codes of a container that was stopped: by itself, or by SIGINT, SIGKILL or SIGTERM (128 + number)."""
NOT_STARTED_EXIT_CODES = frozenset({125, 126, 127, 128})
"""Exit codes that engines record for a container that they could not start."""
STAYS_UP = frozenset({"always", "unless-stopped"})
"""Restart policies with which only a person ends a container permanently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of a container, and where the host publishes it."""

    port: int
    protocol: str = "tcp"
    host_port: int | None = None
    host_ip: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container; what only an inspection reports is None until its engine had time for one."""

    engine: str
    owner: str
    id: str
    name: str
    state: str
    image: Line = ""
    health: str | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int | None = None
    restart_policy: str | None = None
    started_epoch: Epoch | None = None
    compose_project: str | None = None
    compose_service: str | None = None
    swarm_service: str | None = None
    ports: tuple[Port, ...] = ()
    pid: int | None = None
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    uid: int | None = None

    @property
    def source(self) -> str:
        """Return the list that it is on: engine and owner."""
        return f"{self.engine}/{self.owner}"

    @property
    def lasting_name(self) -> str:
        """Return its name without the part that changes at each deployment.

        Swarm names a task by its service, its slot (or, of a global service, its node) and an id: `shop_web.1.x9f2…`.
        """
        slot, dot, _ = self.name.rpartition(".")
        return slot if dot and self.swarm_service and slot.startswith(f"{self.swarm_service}.") else self.name

    @property
    def key(self) -> str:
        """Return the stable key that survives re-creation."""
        return f"{self.source}/{self.lasting_name}"

    @property
    def image_reference(self) -> str:
        """Return its image with the tag and without the digest, as people write it: `ghcr.io/immich-app/server:v2`.

        An image that has lost its tag is only known by its id, of which the beginning is shown.
        """
        name = " ".join(self.image.partition("@")[0].split())
        match = _IMAGE_ID.fullmatch(name)
        return f"sha256:{match[1]}" if match else name

    @property
    def image_repository(self) -> str:
        """Return its image without tag and digest."""
        return self._image_parts[0]

    @property
    def image_tag(self) -> str | None:
        """Return the tag of its image, None if there is none; a port of a registry is no tag."""
        return self._image_parts[1]

    @property
    def _image_parts(self) -> tuple[str, str | None]:
        """Return repository and tag of the image (distribution reference: `[domain[:port]/]path[:tag][@digest]`)."""
        reference = self.image_reference
        repository, _, tag = reference.rpartition(":")
        is_tagged = "/" not in tag and repository not in ("", "sha256")
        return (repository, tag) if is_tagged else (reference, None)

    @property
    def place(self) -> str:
        """Return its name in requests to the probe."""
        return f"{self.source}/{self.name}"

    @property
    def is_running(self) -> bool:
        """Return whether its processes run."""
        return self.state == "running"

    @property
    def is_unhealthy(self) -> bool:
        """Return whether its own health check fails; while it is paused nothing checks it (docker-pause(1))."""
        return self.health == "unhealthy" and self.state != "paused"

    @property
    def has_died(self) -> bool:
        """Return whether it ended by a fault, if that can be distinguished from being stopped."""
        if self.state in ("restarting", "dead"):
            return True
        if self.state != "exited" or self.exit_code is None:
            return False
        if self.restart_policy in STAYS_UP:
            return self.exit_code in NOT_STARTED_EXIT_CODES
        return self.oom_killed or self.exit_code not in STOPPED_EXIT_CODES

    def is_restarting(self, epoch: float) -> bool:
        """Return whether its engine restarts it, or has just done so; `epoch` is the host's clock.

        A start in the future was recorded by a clock that has been set back: how long ago it was is unknown.
        """
        if self.state == "restarting":
            return True
        if not self.restarts or self.started_epoch is None:
            return False
        return self.is_running and -AHEAD_SECONDS <= epoch - self.started_epoch < RESTARTING_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEngine:
    """One engine of one owner; `state` is ok, stopped, permission_denied, timed_out or unreadable."""

    engine: str
    owner: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """All containers of the host; `complete` by engine and owner."""

    at: float
    engines: tuple[ContainerEngine, ...]
    containers: tuple[Container, ...] = ()
    complete: Mapping[str, bool] = field(default_factory=dict)

    @property
    def current(self) -> tuple[Container, ...]:
        """Return the containers without the earlier tasks of Swarm services, which stay for a while when they ended."""
        if not any(container.swarm_service for container in self.containers):
            return self.containers
        newest: dict[str, Container] = {}
        for container in self.containers:
            known = newest.get(container.key)
            if known is None or _age(container) > _age(known):
                newest[container.key] = container
        return tuple(newest.values())

    @property
    def is_known(self) -> bool:
        """Return whether any engine reports its containers."""
        return bool(self.containers) or any(each.state == "ok" for each in self.engines)

    @property
    def total(self) -> int | None:
        """Return the number of containers, None if not known."""
        return len(self.containers) if self.is_known else None

    @property
    def running(self) -> int | None:
        """Return the number of running containers."""
        return sum(each.is_running for each in self.containers) if self.is_known else None

    @property
    def unhealthy(self) -> int | None:
        """Return the number of containers that fail their health check."""
        return sum(each.is_unhealthy for each in self.containers) if self.is_known else None

    def lists(self, source: str) -> bool:
        """Return whether the list of a source is complete; a missing engine has no containers."""
        return self.complete.get(source, True)


def _age(container: Container) -> tuple[bool, float]:
    """Return a sort key that is greatest for the current task of a slot."""
    return container.is_running, container.started_epoch or 0.0
