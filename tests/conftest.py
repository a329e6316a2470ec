"""Fixtures that all tests share."""

# Before the harness's own `custom_components` package is found, ours has to be.
import custom_components.homelab_monitor  # noqa: F401  # isort: skip

import pytest


@pytest.fixture(autouse=True)
def _our_integration(request: pytest.FixtureRequest) -> None:
    """Let Home Assistant find the integration, in tests that have a Home Assistant."""
    if "hass" in request.fixturenames:
        request.getfixturevalue("enable_custom_integrations")
