"""What items are called where many of them would become one id; Home Assistant's `slugify` says what that is."""

from collections import Counter
import random
import unicodedata

from homeassistant.util import slugify
import pytest

from custom_components.homelab_monitor.client.limits import ALIKE, ITEMS_LIMIT, LABEL_LIMIT
from custom_components.homelab_monitor.client.tracking.crowds import fitting, numbered, plain_slug, simple_slug
from custom_components.homelab_monitor.client.tracking.inventory import FoundItem, Inventory, restore_inventory


def disks(labels: list[str]) -> list[FoundItem]:
    return [FoundItem(name=f"{n:04}", label=label, keys={"wwn": f"{n:04}"}) for n, label in enumerate(labels)]


def titles(inventory: Inventory) -> dict[str, str]:
    return {item_id: known.title for item_id, known in inventory.items["disk"].items()}


def match(inventory: Inventory, labels: list[str]) -> dict[str, str]:
    inventory.match("disk", disks(labels), complete=True, now=0.0)
    return titles(inventory)


def test_a_simple_name_is_in_an_id_what_home_assistant_makes_of_it() -> None:
    rng = random.Random(7)
    signs = [chr(code) for code in range(128)]
    texts = ["".join(rng.choices(signs, k=rng.randint(1, 8))) for _ in range(20_000)]
    found = {text: slug for text in texts if (slug := simple_slug(text)) is not None}
    assert len(found) > 2000
    # A text of signs alone is "unknown" there, and never alone in a name.
    assert {
        text: slug for text, slug in found.items() if slugify(f"a {text} a") != f"a_{slug}_a".replace("__", "_")
    } == {}


@pytest.mark.parametrize("text", ["ä", "a&amp;b", "it's", "1,000", "\u337f"])
def test_what_home_assistant_treats_by_rules_of_its_own_is_not_simple(text: str) -> None:
    assert simple_slug(text) is None


def test_a_label_with_a_number_has_room_in_an_id_whatever_it_is_made_of() -> None:
    # One character of each length in an id, and the longest ones of all.
    widest: dict[int, str] = {}
    for code in (0xFDFA, 0x337F, 0x0489, 0x722B, 0xFA49, *range(128, 0x1F800, 13)):
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs"):
            widest.setdefault(len(slugify(f"a{chr(code)}a")), chr(code))
    assert max(widest) == len("a") + 16 + len("a")
    texts = [*widest.values(), *(f"&#{ord(sign)};" for sign in widest.values()), "&AMP;", "&yen;", "'", ",", "9,9"]
    for text in texts:
        label = (text * LABEL_LIMIT)[:LABEL_LIMIT]
        slug = slugify(f"x {numbered(label, 999)} usage")
        assert slug.endswith("_999_usage"), text
        assert len(slug) <= LABEL_LIMIT + len("x__999_usage"), text
        assert label.startswith(fitting(label))


def test_simple_labels_keep_their_length() -> None:
    assert fitting("x" * 200) == "x" * LABEL_LIMIT
    assert numbered("x" * 100, 7) == "x" * 100 + " (7)"
    assert numbered("Größe " * 5, 2) == "Größe " * 5 + " (2)"


@pytest.mark.parametrize(
    "labels",
    [
        [f"{'-' * (n % 30)}a{'.' * (n // 30)}b" for n in range(ITEMS_LIMIT)],
        ["\u337f" * 17 + str(n) for n in range(ITEMS_LIMIT)],
        ["\u337f" * 17 for n in range(ITEMS_LIMIT)],
        ["\u337f" * (n % 120) + "\u339c" * (120 - n % 120) for n in range(ITEMS_LIMIT)],
        ["".join("a\u0430"[n >> bit & 1] for bit in range(10)) for n in range(ITEMS_LIMIT)],
    ],
    ids=["signs", "late", "alike", "other", "scripts"],
)
def test_of_each_id_there_are_few_names_and_each_name_is_one_items(labels: list[str]) -> None:
    inventory = Inventory(slug=slugify)
    called = match(inventory, labels)
    assert len(called) == len(set(called.values())) == ITEMS_LIMIT
    ids = Counter(slugify(f"x {title} usage")[:230] for title in called.values())
    assert max(ids.values()) <= 2 * ALIKE
    # They stay what they were, over a restart as well, in whatever order they come, and where the first ones leave.
    again = restore_inventory(inventory.as_dict())
    again.slug = slugify
    again.match("disk", reversed(disks(labels)), complete=True, now=1.0)
    assert titles(again) == called
    again.match("disk", disks(labels)[100:], complete=True, now=2.0)
    assert titles(again) == called


def test_names_of_few_items_are_left_alone_however_alike_they_are() -> None:
    labels = [f"\u337f{n:02}".rjust(n + 20, "\u337f") for n in range(ALIKE)]
    assert list(match(Inventory(slug=slugify), labels).values()) == labels
    assert list(match(Inventory(), labels).values()) == labels


def test_names_that_have_ids_of_their_own_are_left_alone_however_many_they_are() -> None:
    labels = [*(f"Disk {n}" for n in range(700)), *(f"Größe {n}" for n in range(90))]
    assert list(match(Inventory(slug=slugify), labels).values()) == labels


def test_items_that_are_called_anew_all_at_once_get_numbers_as_well() -> None:
    inventory = Inventory(slug=slugify)
    match(inventory, [f"Disk {n}" for n in range(300)])
    called = match(inventory, [f"{'-' * (n % 30)}a{'.' * (n // 30)}b" for n in range(300)])
    assert max(Counter(slugify(title) for title in called.values()).values()) <= ALIKE


def test_without_home_assistant_ids_are_made_of_what_is_a_letter_anyway() -> None:
    assert plain_slug("Größe 1/2: \u337f") == "groe_1_2"
