"""Declare what a test needs of the machine: skip it if that is missing, fail on CI."""

import os

import pytest


def needs(available: object, what: str) -> None:
    """Skip the test unless `available`; with CI=true a missing thing is a failure."""
    if available:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")
