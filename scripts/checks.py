"""All checks of the project: what scripts/test runs, in order, with a summary.

`scripts/test` runs all of these, `scripts/test NAME …` only the named ones, `scripts/test pytest -- ARGUMENTS` hands
arguments on to pytest:

  ruff     lint and formatting
  mypy     types, strict
  probe    the tests of the probe, under every Python from 3.6 on that this machine has (PATH and pyenv); the costly
           ones under the oldest and the newest
  pytest   all other tests, on the newest test harness, with coverage
  minimum  import and set-up under the oldest Home Assistant that is supported

Without names a check that has passed on this machine with the very same files is not run again; with CI=true all are.
At the end, `left` ends the processes of the run that are still there, and names them and its files: a
failure, but for files that another run may have made beside this one; with CI=true there is none.

Tests use real SSH servers, shells and tools. Missing system packages are installed when this runs as root on a machine
with apt; otherwise the tests that want them are skipped and the summary says so. With CI=true such a skip is a failure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import time

from environments import environment
import leftovers
from passed import Passed

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_PACKAGES = {
    "sshd": "openssh-server",
    "dropbear": "dropbear-bin",
    "ssh": "openssh-client",
    "zsh": "zsh",
    "fish": "fish",
    "tcsh": "tcsh",
    "ksh": "ksh",
    "mksh": "mksh",
    "busybox": "busybox",
    "sudo": "sudo",
    "doas": "opendoas",
    "cc": "gcc",
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "ufw": "ufw",
    "systemctl": "systemd",
    "dbus-daemon": "dbus",
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "chromium": "chromium",
}
"""Program that tests look for → Debian package that brings it."""
WHOLLY_COVERED = (
    *("config_flow", "repairs", "capability", "known_hosts", "markdown", "settings", "sessions"),
    *(f"flow/{name}" for name in ("onboarding", "connection", "discovery", "options")),
    *(f"health/{name}" for name in ("issues", "monitor", "checklist")),
    *(f"client/checks/{name}" for name in ("testing", "evaluation", "host_facts", "report", "remedies")),
    *(f"client/checks/{name}" for name in ("rule_remedies", "update_script", "updates_rule")),
    *(f"client/transport/{name}" for name in ("install", "scan", "keys", "target", "ip_addresses")),
)
"""Files of which every line has to be run by a test: what adds a host, tests it and repairs it."""
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
OLDEST_PROBE_PYTHON = (3, 6)
WORKERS = 3
"""Processes that run the tests: more than two cores, as many a test waits for a server or a clock."""
PROBE_TESTS = ["-B", "-m", "unittest", "discover", "-s", "tests/probe"]


@dataclass
class Result:
    """How one check ended; `notes` go into the summary."""

    name: str
    passed: bool
    seconds: float
    notes: list[str]


class Checks:
    """The checks, one method each: True when passed; what people should know goes into `notes`."""

    def __init__(self, pytest_arguments: list[str]) -> None:
        self.pytest_arguments = pytest_arguments
        self.notes: list[str] = []

    def ruff(self) -> bool:
        """Lint and compare the formatting."""
        linted = run_in("dev", "-m", "ruff", "check", ".")
        return run_in("dev", "-m", "ruff", "format", "--check", ".") and linted

    def mypy(self) -> bool:
        """Check the types."""
        return run_in("dev", "-m", "mypy")

    def probe(self) -> bool:
        """Run the probe's tests under every Python; the output of passing ones is not shown."""
        pythons = dict(sorted(pythons_here()))
        ends = {min(pythons), max(pythons)}
        which = ["all" if version in ends else "quick" for version in pythons]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(probe_tests, pythons.values(), which))
        for (major, minor), (passed, output) in zip(pythons, outcomes, strict=True):
            print(f"Python {major}.{minor}: {output.strip().splitlines()[-1] if passed else output}")
        names = ", ".join(f"{major}.{minor}" for major, minor in pythons)
        self.notes.append(f"under Python {names}")
        return all(passed for passed, _ in outcomes)

    def pytest(self) -> bool:
        """Run the tests on the newest harness."""
        missing = install_system_packages()
        if missing:
            self.notes.append(f"not installed here, so their tests are skipped: {', '.join(missing)}")
        if "chromium" not in missing:
            environment("tour")  # what drives the browser: to make it would cost its test a minute
        passed = run_in("dev", "-m", "pytest", *self.pytest_arguments) if self.pytest_arguments else whole_suite()
        if passed and not missing and not self.pytest_arguments and os.geteuid() == 0:
            passed = self.covered()
        return passed and not (missing and os.environ.get("CI") == "true")

    def covered(self) -> bool:
        """Look for lines that no test runs, where no test was skipped for want of a program or of root's rights."""
        files = ",".join(f"custom_components/homelab_monitor/{name}.py" for name in WHOLLY_COVERED)
        if run_in("dev", "-m", "coverage", "report", "--fail-under=100", f"--include={files}"):
            return True
        self.notes.append("lines of onboarding, checks or repairs that no test runs: see the report above")
        return False

    def minimum(self) -> bool:
        """Import and set up under the oldest supported Home Assistant."""
        return run_in("minimum", "-m", "pytest", "tests/smoke", "-p", "no:cacheprovider")


NAMES = ("ruff", "mypy", "probe", "pytest", "minimum")


def whole_suite() -> bool:
    """Run the whole suite, files side by side, and count the lines that it runs; True when all passed."""
    arguments = ["-p", "no:cacheprovider", "--cov", "--cov-report=", "-n", str(WORKERS), "--dist", "loadgroup"]
    passed = run_in("dev", "-m", "pytest", *arguments)
    return run_in("dev", "-m", "coverage", "report") and passed


def run_in(group: str, *arguments: str) -> bool:
    """Run the Python of a group's environment in the project's folder; True when it ends well."""
    command = [str(environment(group)), *arguments]
    with tempfile.TemporaryDirectory(prefix="homelab_monitor.") as folder:
        # pytest closes its usual folder to other users at each start; two runs at once would shut each other out.
        Path(folder).chmod(0o755)
        environ = clean_environment() | {"PYTEST_DEBUG_TEMPROOT": folder}
        return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0


def clean_environment() -> dict[str, str]:
    """Return the environment without what would change how Python finds or keeps modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def install_system_packages(programs: Mapping[str, str] = SYSTEM_PACKAGES) -> list[str]:
    """Install with apt, as root, the packages of programs that are not here; return the packages still missing."""
    wanted = missing_packages(programs)
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(wanted)}", flush=True)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "-qq", "update"], env=environ, check=False)
        for package in wanted:  # one by one: a name that this release lacks must not stop the others
            install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", package]
            subprocess.run(install, env=environ, stdout=subprocess.DEVNULL, check=False)
    return missing_packages(programs)


def missing_packages(programs: Mapping[str, str] = SYSTEM_PACKAGES) -> list[str]:
    """Return the Debian packages of the programs, or of the files with a whole path, that are not here."""
    return [
        package
        for program, package in programs.items()
        if not (Path(program).exists() if program.startswith("/") else shutil.which(program, path=SEARCH_PATH))
    ]


def pythons_here() -> Iterator[tuple[tuple[int, int], str]]:
    """Find the Pythons on this machine that the probe supports: (major, minor), path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(folder) for folder in SEARCH_PATH.split(os.pathsep) if folder]
    found = [
        path for folder in folders for path in folder.glob("python3*") if re.fullmatch(r"python3(\.\d+)?", path.name)
    ]
    for python in {*found, *pyenv.glob("versions/*/bin/python3"), Path(sys.executable)}:
        version = version_of(python)
        if version and version >= OLDEST_PROBE_PYTHON:
            yield version, str(python)


def version_of(python: Path) -> tuple[int, int] | None:
    """Return a Python's version, None when it does not run (a shim without a version) or lacks unittest."""
    code = "import sys, unittest, json; print(*sys.version_info[:2])"
    try:
        ran = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    except OSError, subprocess.TimeoutExpired:
        return None
    if ran.returncode:
        return None
    major, minor = ran.stdout.split()
    return int(major), int(minor)


def probe_tests(python: str, which: str) -> tuple[bool, str]:
    """Run the probe's tests under one Python, all or the quick ones: whether they passed, and what was printed."""
    environ = {**clean_environment(), "PROBE_TESTS": which}
    ran = subprocess.run([python, *PROBE_TESTS], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    output = ran.stdout + ran.stderr
    return ran.returncode == 0 and "Ran 0 tests" not in output, output


def run_check(name: str, check: Callable[[], bool], notes: list[str]) -> Result:
    """Run one check under a headline."""
    print(f"\n=== {name}", flush=True)
    started = time.monotonic()
    try:
        passed = check()
    except subprocess.CalledProcessError as error:
        passed = False
        notes.append(f"could not be set up: {error.cmd[0]} ended with {error.returncode}")
    return Result(name, passed, time.monotonic() - started, notes)


def report(results: list[Result]) -> bool:
    """Print the summary; return whether all passed."""
    print("\n=== summary")
    for result in results:
        word = "ok    " if result.passed else "FAILED"
        print(f"{word}  {result.name:<8} {result.seconds:6.1f} s  {'; '.join(result.notes)}".rstrip())
    return all(result.passed for result in results)


def main() -> None:
    """Run the checks that the command line names, all by default."""
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names, pytest_arguments = arguments[:split], arguments[split + 1 :]
    if {"-h", "--help"} & set(names) or set(names) - set(NAMES):
        print(__doc__)
        sys.exit(0 if {"-h", "--help"} & set(names) else 2)
    passed, left = leftovers.watch(lambda: run_all(names, pytest_arguments), ROOT)
    for line in left:
        print(f"left    {line}")
    # In CI nothing else makes such files; elsewhere they may be those of another run beside this one.
    is_alone = os.environ.get("CI") == "true"
    failures = [line for line in left if is_alone or not line.startswith("file /")]
    if failures:
        print(f"FAILED  {len(failures)} left by the run")
    sys.exit(0 if passed and not failures else 1)


def run_all(names: Sequence[str], pytest_arguments: list[str]) -> bool:
    """Run checks one after the other, all without names, and report on them; return whether all passed."""
    results = []
    before = Passed(ROOT, sorted(set(SYSTEM_PACKAGES.values()) - set(missing_packages())))
    may_skip = not names and os.environ.get("CI") != "true"
    for name in names or NAMES:
        if before.look(name) and may_skip:
            note = f"has passed with the same files; `scripts/test {name}` runs it again"
            results.append(Result(name, passed=True, seconds=0.0, notes=[note]))
            continue
        checks = Checks(pytest_arguments)
        results.append(run_check(name, getattr(checks, name), checks.notes))
        if results[-1].passed and not pytest_arguments:
            before.add(name)
    return report(results)


if __name__ == "__main__":
    main()
