"""Print what a host tells, as JSON, through the integration's own client and without Home Assistant.

    scripts/snapshot user@host                             every section
    scripts/snapshot user@host:2222 --sections cpu,memory  some of them
    scripts/snapshot user@host --checks                    the capability test, too
    scripts/snapshot user@host | jq .sections.cpu

The client never reads ~/.ssh; this script does: your key (without passphrase), and known_hosts to know the host by.
A host that is not in it is shown with its fingerprints and you are asked; nothing is written anywhere.
"""

import argparse
import asyncio
import getpass
import json
from pathlib import Path
import shutil
import subprocess
import sys
import time

# Last in the path, so that no file of the integration hides a module of the standard library by its name.
sys.path.append(str(Path(__file__).resolve().parents[1] / "custom_components" / "homelab_monitor"))

from client.checks.testing import run_checks
from client.errors import HomelabError
from client.models import SECTIONS
from client.probe.programs import load_programs
from client.probe.session import ProbeSession
from client.probe.snapshot import Snapshot
from client.transport.keys import KeyPair, fingerprint
from client.transport.ssh import read_host_key
from client.transport.target import Target

SSH = Path.home() / ".ssh"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/snapshot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", metavar="[user@]host[:port]")
    parser.add_argument("--key", type=Path, default=SSH / "id_ed25519", help="private key (default: %(default)s)")
    parser.add_argument("--accept-new", action="store_true", help="trust a host that is not in known_hosts, unasked")
    parser.add_argument("--sections", default=",".join(SECTIONS), metavar="NAME,NAME", help="default: %(default)s")
    parser.add_argument("--checks", action="store_true", help="run the capability test and add its rows")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="per step (default: %(default)g)"
    )
    return parser.parse_args(argv)


def known_keys(target: Target) -> tuple[str, ...]:
    """Return the keys that known_hosts has for the host; ssh-keygen knows how to read hashed names."""
    if not shutil.which("ssh-keygen") or not (SSH / "known_hosts").exists():
        return ()
    name = target.host if target.port == 22 else f"[{target.host}]:{target.port}"  # noqa: PLR2004
    found = subprocess.run(
        ["ssh-keygen", "-F", name, "-f", SSH / "known_hosts"], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = [line.split() for line in found.stdout.splitlines()]
    # Lines with a mark (@revoked, @cert-authority) have four words and are no plain keys.
    return tuple(f"{words[1]} {words[2]}" for words in lines if len(words) == 3 and words[0] != "#")  # noqa: PLR2004


async def trusted_keys(target: Target, options: argparse.Namespace) -> tuple[str, ...]:
    """Return the host keys to pin: known ones, else the one that the user confirms; exit when refused."""
    if known := await asyncio.to_thread(known_keys, target):
        return known
    key = (await read_host_key(target.host, target.port, options.timeout)).line
    print(f"{target.address} is not in known_hosts. It shows {fingerprint(key)} ({key.split()[0]}).", file=sys.stderr)
    if options.accept_new:
        return (key,)
    if not sys.stdin.isatty():
        sys.exit("scripts/snapshot: nobody to ask; connect once with ssh, or use --accept-new")
    print("Trust it this once? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = await asyncio.to_thread(sys.stdin.readline)
    return (key,) if answer.strip().lower() in {"y", "yes"} else sys.exit("scripts/snapshot: not trusted")


async def snapshot(options: argparse.Namespace) -> dict[str, object]:
    """Return what the host tells."""
    target = Target.parse(options.target, getpass.getuser())
    # The public half is not needed to log in, so any type of key will do.
    key = KeyPair(options.key.read_text(), "")
    host_keys = await trusted_keys(target, options)
    session = ProbeSession(target, key, host_keys, load_programs(), timeout=options.timeout)
    try:
        reply = await session.poll(options.sections.split(","))
        told = Snapshot().merged(reply, time.time(), 0.0).as_dict()
        if options.checks:
            report, _ = await run_checks(session, target, host_keys)
            told["checks"] = report.as_dict()
    finally:
        await session.close()
    return told


def main() -> int:
    """Print the snapshot; errors as one line."""
    options = arguments()
    try:
        told = asyncio.run(snapshot(options))
    except (HomelabError, OSError, ValueError) as err:
        print(f"scripts/snapshot: {err}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
