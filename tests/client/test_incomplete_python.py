"""The probe's own words about an incomplete Python, over a real sshd, understood by the client."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from custom_components.homelab_monitor.client.errors import PythonIncomplete
from custom_components.homelab_monitor.client.probe.programs import load_programs, make_program
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from tests.sshd import Sshd

# What Debian's python3-minimal answers to `import json`.
WITHOUT_JSON = b"""
import sys
class Minimal:
    def find_spec(self, name, path=None, target=None):
        if name == "json":
            raise ModuleNotFoundError("No module named 'json'", name="json")
sys.meta_path.insert(0, Minimal())
sys.modules.pop("json", None)
"""


@pytest.fixture
async def session(socket_enabled: None, sshd: Sshd) -> AsyncIterator[ProbeSession]:
    whole = load_programs()
    program = make_program("probe.py", WITHOUT_JSON + whole.linux.source)
    session = ProbeSession(sshd.target, sshd.key, sshd.host_keys, replace(whole, linux=program))
    yield session
    await session.close()


async def test_a_python_without_json_is_named_with_what_it_lacks(session: ProbeSession) -> None:
    with pytest.raises(PythonIncomplete) as caught:
        await session.poll(["load"])
    assert caught.value.placeholders["module"] == "json"
