"""The texts of checks, remedies and repairs: each that is used exists, each that exists is used."""

import ast
import inspect
import itertools
import json
from pathlib import Path
import re
import string
from typing import Any

import pytest
import voluptuous as vol
import yaml

from custom_components.homelab_monitor import controls, repairs, services
from custom_components.homelab_monitor.client.checks.evaluation import CHECKS
from custom_components.homelab_monitor.client.checks.remedies import REMEDIES, Outcome, Where
from custom_components.homelab_monitor.client.checks.report import CheckStatus
from custom_components.homelab_monitor.client.errors import HomelabError
from custom_components.homelab_monitor.const import CONF_SUDO, SUDO_SECTIONS
from custom_components.homelab_monitor.flow import connection
from custom_components.homelab_monitor.health.checklist import _short as shortened

ROOT = Path(__file__).parents[1] / "custom_components" / "homelab_monitor"
TEXTS = json.loads((ROOT / "translations" / "en.json").read_text(encoding="utf-8"))
SELECTOR = {group: set(texts["options"]) for group, texts in TEXTS["selector"].items()}
ISSUES = TEXTS["issues"]
FLOWS = {"check": repairs.RemedyFlow, "host_key_changed": repairs.HostKeyFlow}
OF_ERRORS = {"connection_lost", "connection_refused", "name_not_found", "not_ssh", "timed_out", "unreachable"} | {
    "too_much_traffic",
    "logins_limited",
    "hangs_up",
}
"""Reasons that are keys of errors; `evaluation` names the others itself."""
OF_LOGINS = {"key_refused", "password_refused", "key_type_refused", "publickey_not_offered", "second_factor"} | {
    "account_refused",
    "login_disconnected",
}
"""Home Assistant's own reauthentication words these."""


def python_files() -> list[Path]:
    """Return the files that know Home Assistant."""
    others = {"client", "probes"}
    return [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in others]


def verdicts() -> dict[str, str]:
    """Return reason → status of every verdict that `evaluation` can reach, by its source."""
    found = dict.fromkeys(OF_ERRORS | OF_LOGINS | {"no_python", "python_incomplete"}, CheckStatus.RED.value)
    reasons = set()
    sources = [
        ast.parse((ROOT / "client" / "checks" / f"{name}.py").read_text()) for name in ("evaluation", "updates_rule")
    ]
    for node in itertools.chain.from_iterable(map(ast.walk, sources)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            reasons.add(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Verdict":
            status, reason = node.args[:2]
            names = [each.value for each in ast.walk(reason) if isinstance(each, ast.Constant)]
            found |= {name: status.attr.lower() for name in names if re.fullmatch(r"[a-z_]+", str(name))}
    found |= dict.fromkeys(("clock_fast", "clock_slow"), "amber")
    found |= {name: "info" for name in reasons if name.startswith("sudo_")}
    for engine in ("docker", "podman"):
        found |= {f"{engine}_version": "ok", f"{engine}_usable": "ok"}
    return {name: status for name, status in found.items() if name not in ("_version", "_usable")}


def test_every_reason_has_its_text_and_every_text_its_reason() -> None:
    assert set(verdicts()) == SELECTOR["check_reason"] - {"channel_refused"}


def test_every_wrong_reason_has_a_title_for_its_issue() -> None:
    wrong = {reason for reason, status in verdicts().items() if status in ("amber", "red")}
    assert wrong - OF_LOGINS == SELECTOR["problem"]


def test_reasons_of_errors_are_keys_of_errors() -> None:
    keys = {error.key for error in HomelabError.__subclasses__()}
    keys |= {error.key for child in HomelabError.__subclasses__() for error in child.__subclasses__()}
    assert keys >= OF_ERRORS | OF_LOGINS


def test_every_check_has_a_name() -> None:
    assert {check.key for check in CHECKS} == SELECTOR["check"] - {"powershell"}


def test_every_remedy_that_is_shown_has_its_text() -> None:
    shown = {row.remedy for row in REMEDIES.values() if row.where is not Where.HOME_ASSISTANT}
    assert shown == SELECTOR["remedy"]


def test_every_remedy_that_a_verdict_names_has_a_command() -> None:
    verdicts = [
        node
        for path in (ROOT / "client" / "checks").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Verdict"
    ]
    remedies = [*(each.args[3] for each in verdicts if len(each.args) > 3)]
    remedies += [word.value for each in verdicts for word in each.keywords if word.arg == "remedy"]
    constants = [node for each in remedies for node in ast.walk(each) if isinstance(node, ast.Constant)]
    named = {node.value for node in constants if isinstance(node.value, str)}
    assert named - {row.remedy for row in REMEDIES.values()} == set()
    assert len(named) > 10, "verdicts are written in another way now"


def test_every_word_about_a_result_is_used() -> None:
    source = inspect.getsource(repairs)
    outcomes = {outcome.value for outcome in Outcome if outcome not in (Outcome.DONE, Outcome.FAILED)}
    assert outcomes <= SELECTOR["remedy_result"], "no word of the program is shown"
    named = {word for word in SELECTOR["remedy_result"] if f'"{word}"' in source}
    assert named | outcomes == SELECTOR["remedy_result"]


@pytest.mark.parametrize("key", FLOWS)
def test_every_step_of_a_fix_flow_has_its_text_and_every_text_its_step(key: str) -> None:
    shared = {"test", "ignore", "gone", "ended", "changed", "init", "run", "pin"}
    steps = {name.removeprefix("async_step_") for name in dir(FLOWS[key]) if name.startswith("async_step_")}
    assert steps - shared == set(ISSUES[key]["fix_flow"]["step"])


@pytest.mark.parametrize("key", FLOWS)
def test_every_end_progress_and_error_of_a_fix_flow_has_its_text_and_every_text_its_use(key: str) -> None:
    source = "".join(inspect.getsource(each) for each in FLOWS[key].__mro__ if each.__module__ == repairs.__name__)
    flow = ISSUES[key]["fix_flow"]
    assert set(re.findall(r'async_abort\(reason="(\w+)"', source)) == flow["abort"].keys()
    assert set(re.findall(r'_async_progress\("(\w+)"', source)) == flow["progress"].keys()
    errors = set(re.findall(r'error="(\w+)"', source))
    if "unconfirmed(" in source:
        errors |= set(re.findall(r'"(\w+)"', inspect.getsource(connection.unconfirmed)))
    assert errors == flow.get("error", {}).keys()


def test_the_name_of_a_check_leaves_its_finding_room_on_a_phone() -> None:
    names = [shortened(f"✅ {name}") for name in TEXTS["selector"]["check"]["options"].values()]
    assert max(len(part) for name in names for part in name.split(" ")) <= 16


def test_every_group_of_words_is_used() -> None:
    places = [*python_files(), ROOT / "services.yaml"]
    sources = "".join(place.read_text(encoding="utf-8") for place in places)
    used = set(re.findall(r'(?:words\(\s*[\w.]+,\s*|translation_key[=:]\s*)"?(\w+)', sources)) | {CONF_SUDO}
    assert used >= SELECTOR.keys()
    assert SELECTOR["sudo"] == set(SUDO_SECTIONS)


@pytest.mark.parametrize("key", FLOWS)
def test_every_option_of_a_menu_is_a_step(key: str) -> None:
    for step in ISSUES[key]["fix_flow"]["step"].values():
        for option in step.get("menu_options", ()):
            assert hasattr(FLOWS[key], f"async_step_{option}")


def test_every_option_of_a_menu_fits_on_a_phone() -> None:
    # Home Assistant shows an option on one line, of which 360 px hold about 34 characters.
    options = [(path, text) for path, text in texts(TEXTS) if ".menu_options." in path]
    assert [path for path, text in options if len(text) > 34] == []


DIALOGS: dict[str, Any] = {"config": TEXTS["config"], "options": TEXTS["options"]} | ISSUES
MARKDOWN = re.compile(
    r"(?:\.fix_flow)?(?:\.step\.\w+\.(?:sections\.\w+\.)?(?:description|data_description\.\w+)|\.(?:progress|abort)\.\w+)"
)
"""What Home Assistant's frontend renders; titles, labels, options of menus and errors are shown as they are."""
OWN = {"check", "exit_status"}
"""What is neither a name nor typed, and looks the same in both."""


@pytest.mark.parametrize("dialog", DIALOGS)
def test_no_placeholder_is_for_markdown_and_for_plain_text(dialog: str) -> None:
    markdown, plain = set(), set()
    for path, text in texts(DIALOGS[dialog]):
        if path != ".flow_title":  # It has placeholders of its own.
            (markdown if MARKDOWN.fullmatch(path) else plain).update(fields(text))
    assert markdown & plain <= OWN
    assert markdown or plain


def test_our_own_words_in_titles_look_the_same_as_markdown() -> None:
    names = TEXTS["selector"]["check"]["options"].values()
    assert [name for name in names if re.search(r"[\\*_`<>#\[\]]", name)] == []


def test_every_error_and_refusal_of_an_action_has_its_text_and_every_text_its_error() -> None:
    of_flows = {"unknown", "invalid_target", "username_missing", "password_refused", "key_not_installed"} | {
        "key_file_writable",
        "key_file_elsewhere",
        "key_line_limited",
    }
    errors = {error.key for error in all_errors(HomelabError)} - of_flows
    sources = [
        (ROOT / f"{name}.py").read_text() for name in ("controls", "installation", "services", "capability", "__init__")
    ]
    options = {f"{name.lower()}_off" for name in re.findall(r"\brequire\([\w.]+, CONF_(\w+)\)", "".join(sources[:2]))}
    named = set(re.findall(r'(?:_refuse\(\w+, |_unseen\(|translation_key=)"(\w+)"', "".join(sources)))
    assert (
        errors | options | named | set(controls.REASONS.values()) | {"not_told", "may_have_run"}
        == TEXTS["exceptions"].keys()
    )


def all_errors(parent: type[HomelabError]) -> set[type[HomelabError]]:
    """Return an error and all that are one."""
    return {parent}.union(*(all_errors(child) for child in parent.__subclasses__()))


OF_DIALOGS = {"invalid_target", "username_missing", "password_refused", "key_not_installed", "key_line_limited"} | {
    "key_file_writable",
    "key_file_elsewhere",
}
OF_CONTROLS = {"control_denied", "control_needs_terminal", "control_failed", "engine_denied", "would_lock_out"} | {
    "upgrade_denied",
    "upgrade_failed",
    "upgrade_lost",
    "upgrade_unknown",
    "repair_interrupted",
    "no_such_unit",
    "no_such_container",
}
"""Errors that no poll ends with."""


def test_every_reason_why_a_host_is_offline_has_words_for_people() -> None:
    """The attribute holds a key, for automations; the page of the entity and `state_attr_translated` show words."""
    attributes = TEXTS["entity"]["binary_sensor"]["host_connectivity"]["state_attributes"]
    told = {error.key for error in {HomelabError, *all_errors(HomelabError)}} - OF_DIALOGS - OF_CONTROLS
    assert set(attributes["reason"]["state"]) == told


def test_actions_have_texts_icons_and_fields_that_agree() -> None:
    document = yaml.safe_load((ROOT / "services.yaml").read_text())
    actions = {name: action for name, action in document.items() if not name.startswith(".")}
    icons = json.loads((ROOT / "icons.json").read_text())["services"]
    assert actions.keys() == TEXTS["services"].keys() == icons.keys() == services.ACTIONS.keys()
    for name, action in actions.items():
        sections = {key: each for key, each in action["fields"].items() if "fields" in each}
        assert sections.keys() == TEXTS["services"][name].get("sections", {}).keys()
        fields = {key: each for key, each in action["fields"].items() if "fields" not in each}
        for section in sections.values():
            fields |= section["fields"]
        assert fields.keys() == TEXTS["services"][name]["fields"].keys()
        schema = services.ACTIONS[name].schema.schema
        assert fields.keys() == {str(key) for key in schema}, name
        required = {str(key) for key in schema if isinstance(key, vol.Required)}
        assert required == {key for key, field in fields.items() if field.get("required")}
        for field in fields.values():
            if select := field["selector"].get("select"):
                assert set(select["options"]) == SELECTOR[select["translation_key"]]


def test_the_page_of_options_reports_each_of_them() -> None:
    page = (ROOT.parents[1] / "docs" / "options.md").read_text(encoding="utf-8")
    step = TEXTS["options"]["step"]["init"]
    labels = [*step["data"].values(), *(label for each in step["sections"].values() for label in each["data"].values())]
    sudo = labels.pop(labels.index(step["sections"]["privileges"]["data"][CONF_SUDO]))
    labels += [f"{sudo}: {name}" for name in TEXTS["selector"]["sudo"]["options"].values()]
    assert {label for label in labels if f"\n| {label} |" not in page} == set()


def fields(text: str) -> set[str]:
    """Return the placeholders of a text."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def texts(node: Any, path: str = "") -> list[tuple[str, str]]:
    """Return every text with its path."""
    if isinstance(node, str):
        return [(path, node)]
    return [found for key, child in node.items() for found in texts(child, f"{path}.{key}")]


@pytest.mark.parametrize(("path", "text"), texts(TEXTS), ids=lambda value: value if value.startswith(".") else "")
def test_no_text_holds_html_a_url_or_a_loose_end(path: str, text: str) -> None:
    assert not re.search(r"<[a-z/!][^>]*>", text, re.IGNORECASE)
    assert "://" not in text
    assert text == text.strip()
    assert "'{" not in text
    assert all(re.fullmatch(r"[a-z_]+", name) for name in fields(text)), path


def test_every_rule_file_that_is_named_is_read_and_sorts_after_a_users_own() -> None:
    """In /etc/sudoers.d the last rule that fits wins, in the order of names; one with a dot or a `~` is not read.

    Only names in texts and in the commands of remedies: the script that reads other people's rules names none.
    """
    root = ROOT.parents[1]
    places = [root / "README.md", *(root / "docs").rglob("*.md"), *ROOT.rglob("*.md"), *ROOT.rglob("*.json")]
    places += [ROOT / "client" / "checks" / "rule_remedies.py", *python_files()]
    named = [name for place in places for name in re.findall(r"/etc/sudoers\.d/([\w.~-]+)", place.read_text())]
    ours = [name for name in named if "homelab" in name and not name.startswith(".")]
    assert len(ours) >= 6
    assert [name for name in ours if not re.fullmatch(r"zz_\w+", name)] == []


@pytest.mark.parametrize(("path", "text"), texts(TEXTS))
def test_texts_speak_of_fixing_and_of_what_is_on_the_button(path: str, text: str) -> None:
    assert re.search(r"\b(cur(e|es|ed|able)|continue to go back)\b", text.replace("{cure}", ""), re.IGNORECASE) is None


def test_an_error_of_the_dialog_repeats_no_command_that_its_steps_show_as_code() -> None:
    """Errors are plain text, and the command differs by the machine's system: see `log_command`."""
    assert [key for key, text in TEXTS["config"]["error"].items() if re.search("journalctl|logread", text)] == []
