"""The sensors of the host as a whole."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import EntityCategory

from ..client.checks.report import CheckStatus, Report
from ..client.models import FailedLogins
from ..entity import always
from ..readings import CPU, FAILED_LOGINS, LAST_TEST, UPTIME
from ..state import HostState
from ..subjects import HOST
from .descriptions import (
    AVERAGE,
    CELSIUS,
    COUNT,
    GIGAHERTZ,
    MILLISECONDS,
    PERCENT,
    SIZE,
    STALL,
    HomelabSensorDescription,
    measured,
)

TEST_RESULTS = [CheckStatus.OK.value, CheckStatus.AMBER.value, CheckStatus.RED.value]


def _failed_logins_attributes(part: FailedLogins) -> Mapping[str, Any]:
    """Return why the number is known or unknown, and whether it is only a lower bound."""
    return {"reason": part.reason, "lower_bound": part.lower_bound}


def _checks(test: Report) -> Mapping[str, Any]:
    """Return the time of the test and the status of each check; no text of the host, as every user sees this."""
    tested = datetime.fromtimestamp(test.at, UTC).isoformat(timespec="seconds")
    return {"tested": tested, "checks": {row.check: row.status.value for row in test.rows}}


HOST_SENSORS: tuple[HomelabSensorDescription[HostState], ...] = (
    # A share of time needs two readings; its entity is there from the first.
    measured(HOST, "cpu_usage", PERCENT, exists_fn=CPU.exists),
    measured(HOST, "cpu_temperature", CELSIUS),
    measured(HOST, "load1", AVERAGE),
    measured(HOST, "load5", AVERAGE, enabled=False),
    measured(HOST, "load15", AVERAGE, enabled=False),
    measured(HOST, "memory_usage", PERCENT, threshold_fn=lambda options: options.memory_threshold),
    measured(HOST, "memory_used", SIZE, enabled=False),
    measured(HOST, "memory_available", SIZE, enabled=False),
    measured(HOST, "swap_usage", PERCENT),
    HomelabSensorDescription(
        key="boot_time",
        subject=HOST,
        device_class=SensorDeviceClass.UPTIME,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=UPTIME.exists,
    ),
    HomelabSensorDescription(
        key="primary_address",
        subject=HOST,
        entity_category=EntityCategory.DIAGNOSTIC,
        exists_fn=HOST.has("primary_address"),
    ),
    measured(HOST, "failed_services", COUNT),
    measured(HOST, "pending_updates", COUNT),
    measured(HOST, "security_updates", COUNT),
    HomelabSensorDescription(
        key="package_lists",
        subject=HOST,
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        exists_fn=HOST.has("package_lists"),
    ),
    measured(
        HOST,
        "failed_logins",
        COUNT,
        enabled=False,
        diagnostic=True,
        exists_fn=FAILED_LOGINS.exists,
        attributes_fn=FAILED_LOGINS.read(_failed_logins_attributes),
    ),
    measured(HOST, "fail2ban_bans", COUNT, enabled=False, diagnostic=True),
    measured(HOST, "active_services", COUNT, enabled=False, diagnostic=True),
    measured(HOST, "inactive_services", COUNT, enabled=False, diagnostic=True),
    measured(HOST, "running_containers", COUNT),
    measured(HOST, "unhealthy_containers", COUNT),
    measured(HOST, "containers", COUNT, enabled=False, diagnostic=True),
    measured(HOST, "processes", COUNT, enabled=False, diagnostic=True),
    measured(HOST, "cpu_iowait", PERCENT, enabled=False, diagnostic=True, exists_fn=CPU.exists),
    measured(HOST, "cpu_frequency", GIGAHERTZ, enabled=False, diagnostic=True),
    measured(HOST, "poll_duration", MILLISECONDS, enabled=False, diagnostic=True, exists_fn=always),
    HomelabSensorDescription(
        key="last_test",
        subject=HOST,
        device_class=SensorDeviceClass.ENUM,
        options=TEST_RESULTS,
        entity_category=EntityCategory.DIAGNOSTIC,
        # The cause of a failure is most useful while the host is offline.
        stays_available=True,
        exists_fn=LAST_TEST.exists,
        attributes_fn=LAST_TEST.read(_checks),
        moment_fn=LAST_TEST.read(lambda test: test.at),
    ),
    measured(HOST, "cpu_pressure_some", STALL, enabled=False, diagnostic=True),
    measured(HOST, "memory_pressure_some", STALL, enabled=False, diagnostic=True),
    measured(HOST, "memory_pressure_full", STALL, enabled=False, diagnostic=True),
    measured(HOST, "io_pressure_some", STALL, enabled=False, diagnostic=True),
    measured(HOST, "io_pressure_full", STALL, enabled=False, diagnostic=True),
)
