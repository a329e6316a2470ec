"""Authorize our key: add one line to the authorized_keys of the login user.

Done over a connection that a password opened. The scripts run from standard input, so that no
login shell has to quote anything, and change nothing if the key is already installed.
"""

from base64 import b64encode
import shlex
from typing import Final

from ..errors import CommandNotRun, KeyNotInstalled, first_line, reason_in
from .keys import dropbear_line
from .ssh import Connection

INSTALL_SECONDS: Final = 30.0
_DONE: Final = "homelab_monitor: the key is in"

_POSIX_SCRIPT: Final = """
umask 077
line={line}
key={key}
file=$HOME/.ssh/authorized_keys
refused='^[[:space:]]*#'
if [ {server} = dropbear ]; then refused="$refused"'|from="'; fi
shared=/etc/dropbear/authorized_keys
if [ {server} = dropbear ] && [ "$(id -u)" = 0 ] && {{ [ -f /etc/openwrt_release ] || [ -f $shared ]; }}; then
  file=$shared
else
  mkdir -p "$HOME/.ssh" && chmod 700 "$HOME/.ssh" || exit 1
fi
if ! grep -F "$key" "$file" 2>/dev/null | grep -Eqv "$refused"; then
  if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo >>"$file" || exit 1; fi
  printf '%s\\n' "$line" >>"$file" || exit 1
fi
chmod 600 "$file" || exit 1
if command -v restorecon >/dev/null 2>&1; then restorecon "$HOME/.ssh" "$file" >/dev/null 2>&1; fi
echo {done}
"""
"""Any line with our key counts, whatever its options: these are the administrator's choice.

A file without its last newline would swallow the key. OpenWrt's dropbear reads one file for root, that of other
systems the one in the home folder; it ignores a line with `from=`. restorecon: SELinux lets sshd read only labelled
files.
"""

_WINDOWS_SCRIPT: Final = r"""
$ErrorActionPreference = 'Stop'
$line = '{line}'
$key = '{key}'
$identity = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
$isAdministrator = $identity.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
$config = Get-Content "$env:ProgramData\ssh\sshd_config" -ErrorAction SilentlyContinue
$pattern = '^\s*AuthorizedKeysFile\s.*administrators_authorized_keys'
$isShared = @($config | Where-Object {{ $_ -match $pattern }}).Count -gt 0
if ($isAdministrator -and $isShared) {{ $file = "$env:ProgramData\ssh\administrators_authorized_keys" }}
else {{
  $file = "$env:USERPROFILE\.ssh\authorized_keys"
  New-Item -ItemType Directory -Force (Split-Path $file) | Out-Null
}}
$lines = Get-Content $file -ErrorAction SilentlyContinue
$known = @($lines | Where-Object {{ $_ -notmatch '^\s*#' -and $_.Contains($key) }})
if ($known.Count -eq 0) {{ Add-Content -Encoding ascii $file '', $line }}
if ($isAdministrator -and $isShared) {{
  icacls.exe $file /inheritance:r /grant '*S-1-5-32-544:F' /grant '*S-1-5-18:F' | Out-Null
}}
Write-Output '{done}'
"""
"""Windows' sshd reads one file for all administrators, and ignores it unless only they can write it."""


async def install_key(connection: Connection, host: str, line: str) -> None:
    """Add an `authorized_line` if it is missing; raise KeyNotInstalled with the host's own words."""
    command, script = _program(connection.server_version, line)
    try:
        result = await connection.run(command, stdin=script.encode(), timeout=INSTALL_SECONDS)
    except CommandNotRun as err:
        raise KeyNotInstalled(host, err.detail or err.what) from err
    if _DONE not in result.stdout:
        raise KeyNotInstalled(host, reason_in(result.stderr) or first_line(result.stderr) or first_line(result.stdout))


def _program(server_version: str, line: str) -> tuple[str, str]:
    """Return the command that reads a script, and the script."""
    key = line.split()[2]
    if "Windows" in server_version:
        script = _WINDOWS_SCRIPT.format(line=line, key=key, done=_DONE)
        encoded = b64encode(script.encode("utf-16-le")).decode()
        return f"powershell.exe -NoProfile -NonInteractive -EncodedCommand {encoded}", ""
    is_dropbear = "dropbear" in server_version
    words = {
        "line": dropbear_line(line) if is_dropbear else line,
        "key": key,
        "server": "dropbear" if is_dropbear else "openssh",
        "done": _DONE,
    }
    return "sh", _POSIX_SCRIPT.format_map({name: shlex.quote(word) for name, word in words.items()})
