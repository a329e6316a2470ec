"""What a test needs for a lab: programs can be installed, so on CI they have to be there; rights cannot."""

import pytest

from tests.needs import needs

from .lab import forbidden, missing


def needs_lab(*, systemd: bool = False) -> None:
    """Skip the test where there can be no lab."""
    lacks = missing(systemd=systemd)
    needs(not lacks, f"for a lab: {lacks}")
    if why := forbidden(systemd=systemd):
        pytest.skip(f"a lab is not allowed here: {why}")
