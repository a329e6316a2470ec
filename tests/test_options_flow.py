"""The options of a host: what is offered, what is kept, and that it is set up anew with them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, fields
import json
from pathlib import Path
import re
from typing import get_type_hints
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
import pytest

from custom_components.homelab_monitor.client.errors import TimedOut
from custom_components.homelab_monitor.settings import OPTIONS, HostOptions

from .scripted import ScriptedSession, make_entry, set_up

ROOT = Path(__file__).parents[1]
INTEGRATION = ROOT / "custom_components" / "homelab_monitor"
WORDS = json.loads((INTEGRATION / "translations" / "en.json").read_text(encoding="utf-8"))["options"]
TEXTS = WORDS["step"]["init"]
KEPT = json.loads((ROOT / "tests" / "fixtures" / "kept.json").read_text())
PAGE = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
UNIT = {
    "description": "",
    "load_state": "loaded",
    "active_state": "active",
    "sub_state": "running",
    "origin": "package",
}
DEFAULTS = {
    "thresholds": {"disk_threshold": 90, "memory_threshold": 95},
    "connection": {"interval": 10, "timeout": 10, "may_be_off": False, "connect_each_poll": False},
    "privileges": {
        "power": False,
        "control_services": False,
        "control_containers": False,
        "install_updates": False,
    },
}


@pytest.fixture
async def session(hass: HomeAssistant, hass_storage) -> AsyncIterator[ScriptedSession]:
    """A host that tells of more services when it is asked for all."""
    session = ScriptedSession()
    ask = session.poll

    async def poll(sections, watch=None, *more):
        told = session.document["sections"]["services"]["units"]
        if watch == {"services": ["*"]}:
            session.document["sections"]["services"]["units"] = [*told, {"name": "cron.service", **UNIT}]
        try:
            return await ask(sections, watch, *more)
        finally:
            session.document["sections"]["services"]["units"] = told

    with (
        patch.object(session, "poll", poll),
        patch("custom_components.homelab_monitor.async_new_session", return_value=session),
    ):
        yield session


async def shown(hass: HomeAssistant, entry) -> dict[str, object]:
    """Open the options; return the form's fields."""
    result = await hass.config_entries.options.async_init(entry.entry_id)
    assert result["type"] is FlowResultType.FORM
    fields = {"flow_id": result["flow_id"]}
    for key, selector in result["data_schema"].schema.items():
        fields[str(key)] = (key, selector)
    return fields


def offered(form: dict[str, object], name: str) -> list[str]:
    """Return what can be chosen."""
    return form[name][1].config["options"]


async def test_what_the_host_has_is_offered(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry(filesystems=["/mnt/nas"])
    session.document["sections"]["filesystems"]["unwatched"] = [{"mountpoint": "/mnt/films", "type": "nfs4"}]
    await set_up(hass, entry, session)
    form = await shown(hass, entry)
    assert [name for name in form if name != "flow_id"][:4] == ["services", "filesystems", "interfaces", "containers"]
    sections = session.document["sections"]
    assert offered(form, "interfaces") == sorted(sections["network"]["interfaces"])
    assert offered(form, "filesystems") == sorted(
        {"/mnt/nas", "/mnt/films", *(each["mountpoint"] for each in sections["filesystems"]["filesystems"])}
    )
    known = {unit["name"] for unit in sections["services"]["units"]}
    assert offered(form, "services") == sorted({"cron.service", *known})
    assert "cron.service" not in known


async def test_a_host_that_does_not_answer_offers_what_is_known(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry()
    await set_up(hass, entry, session)
    known = sorted(unit["name"] for unit in session.document["sections"]["services"]["units"])
    session.error = TimedOut("plain")
    assert offered(await shown(hass, entry), "services") == known


async def test_the_form_of_a_host_that_hangs_opens_all_the_same(
    hass: HomeAssistant, session: ScriptedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.homelab_monitor.flow.options._WAIT_SECONDS", 0.05)
    entry = make_entry()
    await set_up(hass, entry, session)
    known = sorted(unit["name"] for unit in session.document["sections"]["services"]["units"])
    ask, answered = session.poll, asyncio.Event()

    async def hang(*about):
        await answered.wait()
        return await ask(*about)

    with patch.object(session, "poll", hang):
        async with asyncio.timeout(5):
            assert offered(await shown(hass, entry), "services") == known
        answered.set()
        await hass.async_block_till_done(wait_background_tasks=True)


async def test_a_host_that_is_offline_is_not_asked(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry()
    session.error = TimedOut("plain")
    await set_up(hass, entry, session)
    asked = len(session.asked)
    assert offered(await shown(hass, entry), "services") == []
    assert len(session.asked) == asked


async def test_a_host_that_is_not_set_up_has_options_all_the_same(hass: HomeAssistant, hass_storage) -> None:
    entry = make_entry(services=["nginx.service"])
    entry.add_to_hass(hass)
    assert offered(await shown(hass, entry), "services") == ["nginx.service"]


async def test_what_is_chosen_is_kept_flat_and_the_host_set_up_anew(
    hass: HomeAssistant, session: ScriptedSession
) -> None:
    entry = make_entry()
    await set_up(hass, entry, session)
    coordinator = entry.runtime_data
    form = await shown(hass, entry)
    result = await hass.config_entries.options.async_configure(
        form["flow_id"],
        {
            "services": ["nginx*"],
            "filesystems": [],
            "thresholds": {"disk_threshold": 80, "memory_threshold": 95, "temperature_threshold": 70},
            "connection": DEFAULTS["connection"] | {"interval": 30},
            "privileges": DEFAULTS["privileges"] | {"sudo": ["security"], "power": True},
        },
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done(wait_background_tasks=True)
    assert entry.runtime_data is not coordinator
    options = HostOptions.from_options(entry.options)
    assert options.services == ("nginx*",)
    assert (options.interval, options.disk_threshold, options.temperature_threshold) == (30, 80, 70)
    assert (options.sudo, options.power, options.install_updates) == (("security",), True, False)
    assert "filesystems" not in entry.options


async def test_what_was_chosen_is_suggested_again(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry(services=["nginx*"], interval=30, temperature_threshold=70)
    await set_up(hass, entry, session)
    form = await shown(hass, entry)
    assert form["services"][0].description == {"suggested_value": ["nginx*"]}
    suggested = {
        str(key): (key.description or {}).get("suggested_value")
        for name in ("thresholds", "connection")
        for key in form[name][1].schema.schema
    }
    assert (suggested["interval"], suggested["temperature_threshold"]) == (30, 70)


async def test_nothing_chosen_means_every_default(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry()
    await set_up(hass, entry, session)
    form = await shown(hass, entry)
    await hass.config_entries.options.async_configure(form["flow_id"], DEFAULTS)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert HostOptions.from_options(entry.options) == HostOptions()


@pytest.mark.parametrize(("section", "name", "value"), [("connection", "interval", 4), ("connection", "timeout", 91)])
async def test_what_is_out_of_range_is_refused(
    hass: HomeAssistant, session: ScriptedSession, section: str, name: str, value: int
) -> None:
    entry = make_entry()
    await set_up(hass, entry, session)
    form = await shown(hass, entry)
    with pytest.raises(InvalidData):
        await hass.config_entries.options.async_configure(
            form["flow_id"], DEFAULTS | {section: DEFAULTS[section] | {name: value}}
        )


async def test_every_option_has_a_text(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry()
    await set_up(hass, entry, session)
    form = await shown(hass, entry)
    names = {name for name in form if name != "flow_id"}
    sections = names & DEFAULTS.keys()
    assert names - sections == TEXTS["data"].keys() == TEXTS["data_description"].keys()
    assert sections == TEXTS["sections"].keys()
    for name in sections:
        fields = {str(key) for key in form[name][1].schema.schema}
        assert fields == TEXTS["sections"][name]["data"].keys() == TEXTS["sections"][name]["data_description"].keys()


def texts_of(name: str) -> Mapping[str, Mapping[str, str]]:
    """Return the texts of the part of the form that an option is in."""
    part = OPTIONS[name].section
    return TEXTS["sections"][part] if part else TEXTS


def is_on_the_page(name: str) -> bool:
    """Return whether the table of its part has a row about an option; one of several names has a row for each."""
    label, part = re.escape(texts_of(name)["data"].get(name, "")), OPTIONS[name].section
    page = PAGE.partition(f"## {TEXTS['sections'][part]['name']}\n")[2].partition("\n## ")[0] if part else PAGE
    return bool(label) and re.search(rf"^\| {label}(:.*)? \|", page, re.MULTILINE) is not None


def is_used(name: str) -> bool:
    """Tell whether an option changes anything: it is read, or what it allows is required by its constant."""
    declared = {INTEGRATION / place for place in ("const.py", "settings.py", "flow/options.py")}
    sources = (path.read_text() for path in INTEGRATION.rglob("*.py") if path not in declared)
    return any(re.search(rf"\boptions\.{name}\b|\brequire\(\w+, CONF_{name.upper()}\b", each) for each in sources)


def is_kept(name: str) -> bool:
    """Return whether the record would show that a value is lost: it is not the default."""
    return KEPT["options as read"].get(name) not in (None, json.loads(json.dumps(asdict(HostOptions())))[name])


PLACES: Mapping[str, Callable[[str], bool]] = {
    "settings.py": lambda name: get_type_hints(HostOptions)[name] in (bool, float, float | None, tuple[str, ...]),
    "translations/en.json": lambda name: all(name in texts_of(name)[part] for part in ("data", "data_description")),
    "docs/options.md": is_on_the_page,
    "tests/fixtures/kept.json": lambda name: name in KEPT["options of an entry"] and is_kept(name),
    "where it is used": is_used,
}
"""Where an option stands, and whether it does."""


@pytest.mark.parametrize("name", [each.name for each in fields(HostOptions)])
def test_an_option_stands_in_each_of_its_places(name: str) -> None:
    assert [place for place, has in PLACES.items() if not has(name)] == []


def test_the_page_of_the_architecture_names_the_places_of_an_option() -> None:
    rows = ARCHITECTURE.partition("## Where do I add an option?")[2].partition("\n## ")[0].splitlines()
    assert [line.split("|")[1].strip(" `") for line in rows if line.startswith("| ")][1:] == [*PLACES]
    assert len(PLACES) <= 5


async def test_options_that_nobody_was_shown_are_not_taken(hass: HomeAssistant, session: ScriptedSession) -> None:
    entry = make_entry(services=["nginx*"])
    await set_up(hass, entry, session)
    result = await hass.config_entries.options.async_init(entry.entry_id, data=DEFAULTS)
    assert (result["type"], result["errors"]) == (FlowResultType.FORM, {"base": "changed_meanwhile"})
    assert dict(entry.options) == {"services": ["nginx*"]}
    await hass.config_entries.options.async_configure(result["flow_id"], DEFAULTS)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert HostOptions.from_options(entry.options) == HostOptions()


@pytest.mark.parametrize("when", ["before it is sent", "while it is made anew", "while it is opened"])
async def test_the_form_of_a_host_that_was_removed_meanwhile_says_so(
    hass: HomeAssistant, session: ScriptedSession, when: str
) -> None:
    entry = make_entry()
    await set_up(hass, entry, session)
    ask = session.poll

    async def poll(*args: object) -> object:
        if args[0] == ["services"] and hass.config_entries.async_get_entry(entry.entry_id):
            # As in another window: the removal ends whoever asks the host, and the form is made with what is known.
            hass.async_create_task(hass.config_entries.async_remove(entry.entry_id))
        return await ask(*args)

    if when == "while it is opened":
        with patch.object(session, "poll", poll):
            result = await hass.config_entries.options.async_init(entry.entry_id)
    else:
        flow_id = (await hass.config_entries.options.async_init(entry.entry_id))["flow_id"]
        if when == "before it is sent":
            await hass.config_entries.async_remove(entry.entry_id)
        else:
            hass.config_entries.async_update_entry(entry, options={"services": ["nginx*"]})
        with patch.object(session, "poll", poll):
            result = await hass.config_entries.options.async_configure(flow_id, DEFAULTS)
    await hass.async_block_till_done(wait_background_tasks=True)
    if result["type"] is FlowResultType.FORM:
        result = await hass.config_entries.options.async_configure(result["flow_id"], DEFAULTS)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "gone")
    assert WORDS["abort"]["gone"]


@pytest.mark.parametrize(("chosen", "is_offered"), [([], False), (["security"], False), (["storage_health"], True)])
async def test_a_right_that_nothing_uses_yet_is_offered_only_to_be_taken_back(
    hass: HomeAssistant, session: ScriptedSession, chosen: list[str], is_offered: bool
) -> None:
    entry = make_entry(sudo=chosen)
    await set_up(hass, entry, session)
    form = await shown(hass, entry)
    (names,) = (each.config["options"] for name, each in form["privileges"][1].schema.schema.items() if name == "sudo")
    assert ("storage_health" in names, {"security", "sockets"} <= set(names)) == (is_offered, True)
