"""A host that makes everything up: replies drawn from a grammar of the sections, for the fuzz target.

    host = MadeUpHost(random.Random(7))
    payload = host.reply(["cpu", "filesystems"])     # JSON, as a probe would send it

The grammar is the typed sections themselves (`client/models`): a field that is added there is made up here. The
host remembers what it told and changes some of it before each reply (`CHANGES`): it doubles and renames things, takes
keys away, tells numbers that nothing can hold, texts without end, lists of thousands, fields and sections that nobody
knows. Nothing of it is random but by the seed that it was given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import copy
from dataclasses import MISSING, fields, is_dataclass
import json
import random
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from custom_components.homelab_monitor.client.models import ON_DEMAND, SECTIONS

REPLY_LIMIT = 4 << 20
ROUTER_MAC = "52:54:00:ab:cd:ef"
"""The address of a device that Home Assistant knows from elsewhere."""
TYPES: Mapping[str, type] = {name: kind.type for name, kind in SECTIONS.items()} | dict(ON_DEMAND)

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, -0.0, 0.5, 1e-300, 1e18, -1e18, 1e308, -1e308, 9.9e15, 253402300800.0, -62135596801.0),
    *(1 << 31, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, -(1 << 63), (1 << 64) - 1, -(1 << 64) + 1, 1 << 64, 10**40),
    *(float("nan"), float("inf"), True, None, "12", [], {}),
)
TEXTS: tuple[Any, ...] = (
    *(
        "",
        " ",
        "\x00",
        "\n",
        "\ud800",
        "\u202egnp.sh",
        "\x1b[31m",
        "{{ 7*7 }}",
        "<b>x</b>",
        "[x](y)",
        "../../etc/passwd",
    ),
    *("x" * 300, "é" * 5000, '"\\' * 20_000, "k" * 200_000, "_", "#2", "/", "//", "None", "unavailable"),
    *(None, 7, True, [], {}, ["x"]),
)
BEGINNINGS = ("", "", "\u337f" * 17, "&#13183;" * 14, "\U0001f4e6-", "'" * 99)
"""What names of a crowd begin with: most are much else in an entity id, or nothing, or push the rest out of it."""
ADDRESSES = (
    *(ROUTER_MAC, ROUTER_MAC.upper(), "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01"),
    *("52-54-00-ab-cd-ef", "5254.00ab.cdef", "525400abcdef", "52:54:00", "02:00:00:00:00:01"),
)
IDENTITIES = ("", "0" * 32, "g" * 32, "a" * 31, "A" * 32, "x" * 4096, "../" * 10, "f" * 32)


class MadeUpHost:
    """One host that tells what a seed lets it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._made = 0
        self.clock = 1000.0
        self.sections: dict[str, Any] = {name: self.honest(kind) for name, kind in TYPES.items()}
        self.envelope: dict[str, Any] = {}
        self.done: list[str] = []
        """The changes since the beginning, for who has to find out what did it."""

    # ------------------------------------------------------------ the grammar

    def honest(self, kind: Any, name: str = "") -> Any:
        """Return a JSON value that a well-meaning host could tell of a type."""
        origin, arguments = get_origin(kind), get_args(kind)
        if is_dataclass(kind):
            return self._object(kind)
        if origin in (Union, types.UnionType):
            present = next(each for each in arguments if each is not type(None))
            return self.honest(present, name)
        if origin is tuple and Ellipsis not in arguments:
            return [self.honest(each, name) for each in arguments]
        if origin is tuple:
            return [self.honest(arguments[0], name) for _ in range(self._rng.randint(1, 3))]
        if origin is not None:  # a mapping
            values = [self.honest(arguments[1], name) for _ in range(self._rng.randint(1, 3))]
            return {self._word(name): value for value in values}
        return self._leaf(kind, name)

    def _object(self, kind: type) -> dict[str, Any]:
        """Return the fields of a dataclass, some of those with a default left out."""
        hints = get_type_hints(kind)
        told = {}
        for field in fields(kind):
            is_optional = field.default is not MISSING or field.default_factory is not MISSING
            if not is_optional or self._rng.random() < 0.8:
                told[field.name] = self.honest(hints[field.name], field.name)
        return told

    def _leaf(self, kind: type, name: str) -> Any:
        """Return a number, a word or a yes."""
        if kind is bool:
            return self._rng.random() < 0.5
        if kind is int:
            return self._rng.randint(0, 1000)
        if kind is float:
            return self.clock if name == "at" else round(self._rng.uniform(0, 100), 2)
        if name in ("mac", "permanent_mac"):
            self._made += 1
            return f"52:54:00:{self._made >> 16 & 255:02x}:{self._made >> 8 & 255:02x}:{self._made & 255:02x}"
        if name == "machine_id_hash":
            return "c" * 32
        return self._word(name)

    def _word(self, name: str) -> str:
        """Return a text that no other thing has."""
        self._made += 1
        return f"{name or 'x'}{self._made}"

    # ------------------------------------------------------------ a reply

    def reply(self, wanted: Sequence[str]) -> bytes:
        """Change something, and answer a request for these sections; at most 4 MiB."""
        self.clock += 10
        for _ in range(self._rng.choice((0, 1, 1, 2, 3))):
            self._change()
        payload = self._payload(wanted)
        if len(payload) > REPLY_LIMIT:
            self.start_over()
            payload = self._payload(wanted)
        return payload

    def start_over(self) -> None:
        """Be an honest host again, another one."""
        self.done.append("start_over")
        self.sections = {name: self.honest(kind) for name, kind in TYPES.items()}
        self.envelope = {}

    def _payload(self, wanted: Sequence[str]) -> bytes:
        """Return the reply as bytes; besides what is wanted, now and then also what is not."""
        names = list(wanted) if self._rng.random() < 0.9 else list(self.sections)
        names += [name for name in self.sections if name not in TYPES]
        told = {name: self.sections[name] for name in names if name in self.sections}
        for section in told.values():
            if isinstance(section, dict) and isinstance(section.get("at"), float) and abs(section["at"]) < 1e9:
                section["at"] = self.clock
        document = {"id": "1", "protocol": 1, "boot_id": "b", "epoch": 1.7e9, "sections": told} | self.envelope
        return json.dumps(document).encode()

    # ------------------------------------------------------------ what it changes

    def _change(self) -> None:
        """Change one thing of one section."""
        change = self._rng.choice(CHANGES)
        name = self._rng.choice(list(self.sections))
        self.done.append(f"{change.__name__} {name}")
        try:
            change(self, name)
        except RecursionError, LookupError:  # too deep to be copied, or one list that stands in several places
            self.start_over()

    def places(self, name: str, fits: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
        """Return (container, key) of what fits in a section; of long lists only the first things are looked at."""
        return [place for place in _walk(self.sections, name) if fits(place[0][place[1]])]

    def number(self, name: str) -> None:
        """Tell numbers that few things can hold."""
        found = self.places(name, lambda value: isinstance(value, (int, float)))
        for container, key in self._rng.sample(found, min(len(found), self._rng.choice((1, 1, 5, 50)))):
            container[key] = self._rng.choice(NUMBERS)

    def text(self, name: str) -> None:
        """Tell texts that nobody expects."""
        found = self.places(name, lambda value: isinstance(value, str))
        for container, key in self._rng.sample(found, min(len(found), self._rng.choice((1, 1, 5)))):
            container[key] = self._rng.choice(TEXTS)

    def take_away(self, name: str) -> None:
        """Leave a field out."""
        container, key = self._rng.choice(self.places(name, lambda _: True))
        if container is not self.sections:
            del container[key]

    def twin(self, name: str) -> None:
        """Tell a thing twice, or another name for the same."""
        if lists := self.places(name, lambda value: isinstance(value, (list, dict)) and bool(value)):
            container, key = self._rng.choice(lists)
            many = container[key]
            for _ in range(self._rng.choice((1, 1, 2, 30))):
                if isinstance(many, list):
                    many.append(self._alike(self._rng.choice(many)))
                elif container is not self.sections:
                    many[self._word("twin")] = self._alike(self._rng.choice(list(many.values())))

    def _alike(self, value: Any) -> Any:
        """Return the same thing, perhaps with one field of its own."""
        other = copy.deepcopy(value)
        if isinstance(other, dict) and other and self._rng.random() < 0.7:
            key = self._rng.choice(list(other))
            other[key] = self._word("own") if isinstance(other[key], str) else other[key]
        return other

    def crowd(self, name: str) -> None:
        """Tell thousands of things, each of its own or all alike."""
        lists = self.places(name, lambda value: isinstance(value, list) and bool(value))
        if not lists:
            return
        container, key = self._rng.choice(lists)
        beginning = self._rng.choice(BEGINNINGS)
        pattern = json.dumps(_numbered(container[key][0], 0, beginning))
        if len(pattern) > 20_000:
            return
        count = min(self._rng.choice((200, 2000, 20_000)), (REPLY_LIMIT >> 1) // (len(pattern) + 8))
        is_distinct = self._rng.random() < 0.7
        # Each is a thing of its own, also of those that are alike: what is put into one would else be in all of them.
        alike = json.dumps(container[key][0])
        container[key] = [
            _numbered(container[key][0], number, beginning) if is_distinct else json.loads(alike)
            for number in range(count)
        ]

    def shuffle(self, name: str) -> None:
        """Tell the same in another order."""
        # Found before the first is shuffled: they lie in one another.
        found = [container[key] for container, key in self.places(name, lambda value: isinstance(value, list))]
        for each in found:
            self._rng.shuffle(each)

    def rename(self, name: str) -> None:
        """Give things of a mapping other names."""
        if found := [
            place for place in self.places(name, lambda value: isinstance(value, dict)) if place[0] is not self.sections
        ]:
            container, key = self._rng.choice(found)
            container[key] = {self._word("renamed"): value for value in container[key].values()}

    def unknown(self, name: str) -> None:
        """Tell a field or a section that nobody knows, of any size."""
        size = self._rng.choice((1, 1000, 300_000))
        junk = self._rng.choice(
            ({"x": "y"}, [[]] * size, "z" * size, {str(number): number for number in range(size // 10)})
        )
        found = [place[0] for place in self.places(name, lambda _: True) if isinstance(place[0], dict)]
        self._rng.choice(found)[self._rng.choice(("junk", "id2", "\ud800", "x" * 500))] = junk

    def deep(self, name: str) -> None:
        """Tell a list in a list in a list."""
        value: Any = []
        for _ in range(self._rng.choice((5, 17, 300))):
            value = [value]
        container, key = self._rng.choice(self.places(name, lambda _: True))
        container[key] = value

    def address(self, name: str) -> None:
        """Show network cards with addresses that belong to others or to nobody."""
        for section in ("hardware", "interfaces"):
            for container, key in self.places(section, lambda value: isinstance(value, str)):
                if key in ("mac", "permanent_mac"):
                    container[key] = self._rng.choice(ADDRESSES)

    def identity(self, name: str) -> None:
        """Be another machine."""
        if isinstance(self.sections.get("system"), dict):
            self.sections["system"]["machine_id_hash"] = self._rng.choice(IDENTITIES)

    def fail(self, name: str) -> None:
        """Tell why sections are missing, also those that do not exist."""
        words = {self._rng.choice([*TYPES, "made_up", "x" * 999]): self._rng.choice(TEXTS) for _ in range(5)}
        self.envelope[self._rng.choice(("missing", "errors", "seconds"))] = words

    def forge(self, name: str) -> None:
        """Tell an envelope that is none."""
        self.envelope[self._rng.choice(("boot_id", "epoch", "protocol", "id"))] = self._rng.choice((*NUMBERS, *TEXTS))

    def honest_again(self, name: str) -> None:
        """Tell one section or the envelope as a well-meaning host would."""
        self.envelope = {}
        if name in TYPES:
            self.sections[name] = self.honest(TYPES[name])
        else:
            del self.sections[name]


CHANGES: tuple[Callable[[MadeUpHost, str], None], ...] = (
    *(MadeUpHost.number, MadeUpHost.text, MadeUpHost.take_away, MadeUpHost.twin, MadeUpHost.twin, MadeUpHost.crowd),
    *(MadeUpHost.shuffle, MadeUpHost.rename, MadeUpHost.unknown, MadeUpHost.deep, MadeUpHost.address),
    *(MadeUpHost.identity, MadeUpHost.fail, MadeUpHost.forge),
    *(MadeUpHost.honest_again,) * 4,
)


def _walk(container: Any, key: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of a value and of all in it."""
    yield container, key
    value = container[key]
    if depth > 8:
        return
    keys = (
        list(value)[:40] if isinstance(value, dict) else range(min(len(value), 40)) if isinstance(value, list) else ()
    )
    for each in keys:
        yield from _walk(value, each, depth + 1)


def _numbered(value: Any, number: int, beginning: str = "") -> Any:
    """Return a copy of a thing whose texts are its own."""
    if isinstance(value, dict):
        return {name: _numbered(each, number, beginning) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbered(each, number, beginning) for each in value[:3]]
    return f"{beginning}{value}{number}" if isinstance(value, str) else value
