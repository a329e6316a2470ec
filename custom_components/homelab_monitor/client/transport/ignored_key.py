"""Why an SSH server ignores an installed key: looked up on the host, over a connection that a password opened.

From outside all causes look like an unknown key. A login with a password leaves few of them: the
account is neither locked nor missing in AllowUsers. What only root may read is not checked (sshd_config(5)).
"""

import shlex
from typing import Final

from ..errors import HomelabError, KeyFileElsewhere, KeyFileWritable, KeyLineLimited, KeyRefused, KeyTypeRefused
from .keys import ECDSA
from .ssh import Connection

LOOK_SECONDS: Final = 15.0
_FOUND: Final = "homelab_monitor: ignored "

_SCRIPT: Final = r"""
kind={kind}; key={key}; file=$HOME/.ssh/authorized_keys; user=$(id -un); uid=$(id -u)
PATH=$PATH:/usr/sbin:/sbin
found() {{ printf '%s%s\n' {found} "$*"; exit 0; }}

settings() {{
  if [ "$uid" = 0 ] && sshd -T -C "user=$user,host=localhost,addr=127.0.0.1" 2>/dev/null; then return; fi
  files=/etc/ssh/sshd_config
  if grep -qi '^[[:space:]]*include' $files 2>/dev/null; then files="/etc/ssh/sshd_config.d/*.conf $files"; fi
  for each in $files; do
    [ ! -r "$each" ] || awk 'tolower($1) == "match" {{ exit }} {{ print }}' "$each"
  done
}}
settings=$(settings)
setting() {{
  printf '%s\n' "$settings" | awk -v name="$1" '{{ sub(/^[ \t]+/, ""); sub(/[ \t]*=[ \t]*/, " ") }}
    tolower($1) == name {{ sub(/^[^ \t]+[ \t]+/, ""); print; exit }}'
}}

policy=/etc/crypto-policies/back-ends/opensshserver.config
types=$(setting pubkeyacceptedalgorithms)
[ -n "$types" ] || types=$(setting pubkeyacceptedkeytypes)
[ -n "$types" ] || types=$(tr " '" '\n\n' <$policy 2>/dev/null | awk '
  next_is {{ print; exit }} /^PubkeyAccepted(Algorithms|KeyTypes)$/ {{ next_is = 1 }}
  sub(/^-oPubkeyAccepted(Algorithms|KeyTypes)=/, "") {{ print; exit }}')
listed() {{
  set -f; list=${{types#-}}; IFS=,
  for each in $list; do case $1 in $each) unset IFS; set +f; return 0;; esac; done
  unset IFS; set +f; return 1
}}
takes() {{
  case $types in
    ''|+*|^*) [ "$1" != ssh-ed25519 ] || [ "$(cat /proc/sys/crypto/fips_enabled 2>/dev/null)" != 1 ];;
    -*) ! listed "$1";;
    *) listed "$1";;
  esac
}}
if ! takes "$kind"; then
  if takes {ecdsa}; then found type {ecdsa}; else found type "$types"; fi
fi

places=$(setting authorizedkeysfile)
first=
for each in ${{places:-.ssh/authorized_keys}}; do
  each=$(printf '%s\n' "$each" | sed "s|%h|$HOME|g; s|%u|$user|g; s|%U|$uid|g; s|%%|%|g")
  case $each in /*|none) ;; *) each=$HOME/$each;; esac
  first=${{first:-$each}}
  if [ "$each" = "$file" ]; then first=; break; fi
done
if [ -n "$first" ]; then found elsewhere "$first"; fi

line=$(grep -F "$key" "$file" 2>/dev/null | grep -v '^[[:space:]]*#' | head -n 1)
case $line in *from=*"$kind"*) found limited "${{line%%"$kind"*}}";; esac

if [ "$(setting strictmodes)" != no ]; then
  home=$(cd "$HOME" && pwd -P)
  path=$(readlink -f "$file" 2>/dev/null || printf '%s\n' "$file")
  while :; do
    set -- $(ls -ldn "$path" 2>/dev/null)
    case $1 in ????????w*|?????w*) found writable "$path";; esac
    case ${{3:-0}} in 0|"$uid") ;; *) found writable "$path";; esac
    case $path in "$home"|/) break;; esac
    path=${{path%/*}}; path=${{path:-/}}
  done
fi
"""
"""Follows sshd: the first value of a setting counts, and from the file up to the home folder nothing may be writable
for others, nor belong to them. Settings after `Match` may be about others, and are left out."""


async def why_ignored(connection: Connection, host: str, line: str) -> KeyRefused | None:
    """Return the error for why sshd does not accept an installed `authorized_line`, None if that is not known."""
    if "OpenSSH" not in connection.server_version or "Windows" in connection.server_version:
        return None
    kind, key = line.split()[-3:-1]
    words = {"kind": kind, "key": key, "found": _FOUND, "ecdsa": ECDSA}
    script = _SCRIPT.format_map({name: shlex.quote(word) for name, word in words.items()})
    try:
        printed = (await connection.run("sh", stdin=script.encode(), timeout=LOOK_SECONDS)).stdout
    except HomelabError:
        return None  # The refusal of the key is known without it.
    return _error(host, printed.partition(_FOUND)[2].partition("\n")[0]) if _FOUND in printed else None


def _error(host: str, found: str) -> KeyRefused | None:
    """Return the error for a word of the script."""
    word, _, rest = found.partition(" ")
    if word == "type":
        error = KeyTypeRefused(host, rest)
        error.wants_ecdsa = rest == ECDSA
        return error
    kinds = {"elsewhere": KeyFileElsewhere, "limited": KeyLineLimited, "writable": KeyFileWritable}
    return kinds[word](host, rest) if word in kinds else None
