"""Which units the section services shows in full, and which of them fit."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host

UNITS_SHOWN = 200
INSTANCES_SHOWN = 50  # of one template, if not all fit: anyone who connects to one can create any number
INSTANCES_READ = 500  # of one template from systemctl, each for failed instances and for others
LIST_MARKS = "\u25cf\u00d7* "  # before failed units, in an old systemd even with --plain
UNSETTLED = ("activating", "deactivating", "reloading")
USERS_UNIT = re.compile(r"(?:user|user-runtime-dir)@(\d{1,10})\.service")
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,250}\.service$")


class Unit:
    """One line of systemd's list."""

    def __init__(self, name: str, states: "tuple[str, ...]", description: str) -> None:
        self.name = name
        self.load, self.active, self.sub = states
        self.description = description

    def is_present(self) -> bool:
        """Tell whether it is one: some are only named by others, or masked. One that failed may have lost its file."""
        return self.load == "loaded" or self.active != "inactive"


def template_of(name: str) -> str:
    """Return the template of an instance, the name itself of any other unit.

    backup@home.service  →  backup@.service
    """
    stem, at, _ = name.partition("@")
    return stem + "@.service" if at else name


class LinesKept:
    """A filter of systemctl's list, line by line: however many instances there are, they displace no other unit.

    Instances beyond INSTANCES_READ are only counted, by state. `named` units are kept in any case.
    """

    def __init__(self, named: "set[str]", admin: "set[str]") -> None:
        self.named = named
        self.admin = admin
        self.is_cut = False
        self.room = {}  # type: dict[tuple[str, bool], int]
        self.left_out = {}  # type: dict[str, int]
        self.without_room = 0

    def search(self, line: bytes) -> bool:
        """Return whether a line is kept."""
        words = line.decode("utf-8", "replace").lstrip(LIST_MARKS).split(None, 4)
        if len(words) < 4:
            return False
        name, load, state = words[:3]
        template = template_of(name)
        if template == name or name in self.named:
            return True
        key = (template, state == "failed")
        self.room[key] = self.room.get(key, INSTANCES_READ) - 1
        if self.room[key] >= 0:
            return True
        if load == "loaded" or state != "inactive":
            self.left_out[state] = self.left_out.get(state, 0) + 1
            self.without_room += state == "failed" or template in self.admin
        return False


def chosen_units(listed: "list[Unit]", admin: "set[str]", watch: "list[str]") -> "dict[str, str]":
    """Return the origin by name of the units to show in full: the administrator's, failed and watched ones."""
    import fnmatch  # noqa: PLC0415

    names = [unit.name for unit in listed if unit.is_present()]
    chosen = {name: "admin" for name in sorted(admin) if "@." not in name}
    chosen.update((name, "admin") for name in names if template_of(name) in admin)
    for unit in listed:
        if unit.active == "failed":
            chosen.setdefault(unit.name, "package")
    for pattern in watch:
        full = full_name(pattern)
        fitting = fnmatch.filter(names, full) if re.search(r"[*?[]", full) else [full]
        for name in fitting:
            chosen.setdefault(name, "package")
    return {name: origin for name, origin in chosen.items() if UNIT_NAME.match(name)}


def full_name(name: str) -> str:
    """Return the name of a service with its suffix.

    nginx  →  nginx.service
    """
    return name if name.endswith(".service") else name + ".service"


def shown_units(chosen: "dict[str, str]", by_name: "dict[str, Unit]", watch: "list[str]") -> "list[str]":
    """Return the names that fit, the most important first.

    Anyone who can connect to a service, or log in, can create any number of instances of a template, and let them
    fail: units that are no instances come first, and no template displaces another.
    """
    if len(chosen) <= UNITS_SHOWN:
        return list(chosen)
    named = {full_name(name) for name in watch}
    healthy = {name: name not in by_name or by_name[name].active != "failed" for name in chosen}

    def rank(name: str) -> "tuple[bool, bool]":
        return name not in named, healthy[name] and chosen[name] == "admin"

    singles = sorted((name for name in chosen if template_of(name) == name or name in named), key=rank)
    taken = set(singles)
    instances = instances_in_turn([name for name in chosen if name not in taken], by_name)
    return (singles + instances)[:UNITS_SHOWN]


def instances_in_turn(instances: "list[str]", by_name: "dict[str, Unit]") -> "list[str]":
    """Return some instances of each template in turn, failed ones first."""
    templates = {}  # type: dict[str, list[str]]
    for name in instances:
        templates.setdefault(template_of(name), []).append(name)

    def rank(name: str) -> int:
        active = by_name[name].active if name in by_name else "inactive"
        return 0 if active == "failed" else 1 if active in UNSETTLED else 2

    dealt = []  # type: list[tuple[int, str]]
    for names in templates.values():
        dealt.extend(enumerate(sorted(names, key=rank)[:INSTANCES_SHOWN]))
    return [name for _, name in sorted(dealt, key=lambda one: one[0])]


def guest_of(host: "Host", name: str) -> "int | None":
    """Return the uid of the user whose service manager a unit is, None for other units, root's, and this user's.

    Users end their own service manager at will, also by letting it fail.

    user@1501.service  →  1501
    """
    match = USERS_UNIT.fullmatch(name)
    return int(match.group(1)) if match and int(match.group(1)) not in (0, host.uid()) else None
