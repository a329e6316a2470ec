"""The one program that installs updates on a host: root's own script, which takes nothing from its caller.

sudo compares the words of a rule joined by spaces, so that a user who may run a command with arguments can split them
differently. This script has none: the rule names it with `""`, and what it does is in a file that only root can write.
It is installed by a remedy, compared by the check `updates_rule`, and run by `upgrade`; it stays on the host until the
remedy that removes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
import re
from types import MappingProxyType
from typing import Final

from ..errors import first_line
from ..limits import SUDO_LIST_CHARACTERS
from .sudo_listing import read_listing, wants_terminal

UNIT: Final = "homelab_monitor-update"
SCRIPT: Final = f"/usr/local/sbin/{UNIT}"
VERSION: Final = 2
"""Raise it with each change of the text: hosts with another version are asked to install it again."""
TRIAL_SAYS: Final = f"{UNIT}: its repair is under way or was interrupted"
"""Output of the program in the script's place while the repair tries the rule; it stays if the repair was killed."""
UPDATE_FOLDER: Final = f"/run/{UNIT}"
RULE_TAGS: Final = "NOPASSWD: NOSETENV: "
"""Tags before the command in every rule of ours.

Where `Defaults setenv` (sudoers(5)) is set, a user who may run a program may set any variable for it, also LD_PRELOAD.
"""

_APT: Final = "apt-get -o DPkg::Lock::Timeout=600"
_KEEP: Final = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
UPDATE_COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "apt": "\n".join(
            (
                # First what an earlier run left unfinished; what still fails may be fixed by a newer package.
                "dpkg --configure -a --force-confdef --force-confold",
                f"{_APT} update || exit",
                # Fails with a message where only removing something meets all dependencies: a person decides that.
                "apt-get -s --no-remove -f install >/dev/null || exit",
                f"{_APT} -y {_KEEP} --no-remove -f install",
                # New packages, such as a kernel, are counted as well; nothing is removed.
                f"{_APT} -y {_KEEP} --with-new-pkgs upgrade",
            )
        ),
        "dnf": "dnf -y --refresh upgrade",
        "zypper": "zypper --non-interactive refresh &&\nzypper --non-interactive update",
        # The lists and all packages at once: Arch knows no partial upgrade.
        "pacman": "pacman -Syu --noconfirm",
        "apk": "apk --update-cache upgrade",
    }
)
"""Commands with which each package manager installs what the section `updates` counts.

Without opkg: OpenWrt's packages must not be upgraded one by one, nor by its apk.
"""

_TEXT: Final = """\
#!/bin/sh
# homelab_monitor-update @VERSION@ @MANAGER@
# Installs the pending packages of this machine when Home Assistant asks for it, one job at a time.
# It takes no arguments, reads no input, and leaves how it ended in /run/homelab_monitor-update.
if [ $# -gt 0 ]; then echo "homelab_monitor-update takes no arguments" >&2; exit 2; fi
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
cd / && exec </dev/null || exit 1
stop() { printf "%s\\n" "homelab_monitor-update: $1" >&2; exit 1; }

folder=/run/homelab_monitor-update
mkdir -p $folder
if [ -L $folder ] || ! [ -d $folder ] || ! [ -O $folder ]; then stop "$folder belongs to somebody else"; fi
chmod 755 $folder || exit 1

# systemd would replace a dollar sign before a name or a brace; there is none.
job="umask 022; export PATH=$PATH HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive
cd $folder && rm -f status || exit
exec >output 2>&1 </dev/null
(
@COMMAND@
) 9>&-
echo \\$? >ended
mv ended status"

# A unit starts with nothing of the caller, and systemd starts no second one of that name.
if [ -d /run/systemd/system ]; then
  exec env -i PATH=$PATH LC_ALL=C \\
    systemd-run --quiet --collect --no-ask-password --unit=homelab_monitor-update /bin/sh -c "$job"
fi

# Without systemd the job would inherit what the caller has set: limits, ignored signals, variables, a terminal.
for limit in "t unlimited" "f unlimited" "d unlimited" "v unlimited" "s 8192" "n 1024"; do
  ulimit -$limit || stop "the caller has limits that cannot be lifted"
done
# Processes, locked memory, waiting signals: not every shell knows them, nor may every root lift them.
lift() { ulimit -$1 unlimited || ulimit -S -$1 $(ulimit -H -$1); }
processes=u
(ulimit -u) >/dev/null 2>&1 || processes=p
for limit in $processes l i; do lift $limit; done 2>/dev/null
while read -r limit; do
  set -- $limit
  case $limit in
    "Max processes "*) name=nproc;;
    "Max locked memory "*) name=memlock; shift;;
    "Max pending signals "*) name=sigpending; shift;;
    *) continue;;
  esac
  if prlimit --pid $$ --$name=unlimited 2>/dev/null; then continue; fi
  if prlimit --pid $$ --$name=$4:$4 2>/dev/null; then shift; fi
  [ "$3" = unlimited ] || [ "$3" -ge 100 ] || stop "the caller has limits that cannot be lifted: $limit"
done </proc/self/limits
for tool in "renice 0 -p $$" "chrt -o -p 0 $$" "ionice -c 0 -p $$"; do $tool; done >/dev/null 2>&1
if [ -w /proc/self/oom_score_adj ]; then echo 0 >/proc/self/oom_score_adj; fi
if [ -w /proc/self/timerslack_ns ]; then echo 50000 >/proc/self/timerslack_ns; fi
signals=
if env --default-signal true 2>/dev/null; then signals=--default-signal; fi
for tool in setsid flock; do command -v $tool >/dev/null || stop "$tool is not installed"; done
umask 077
exec 9>>$folder/lock
umask 022
flock -n 9 || stop "updates are being installed already"
rm -f $folder/status
# A terminal that closes must not end the job before it has a session of its own.
trap "" HUP
env -i PATH=$PATH setsid env $signals PATH=$PATH /bin/sh -c "$job" >/dev/null 2>&1 &
# Numbers are given again; with the time of its start (proc_pid_stat(5), 22) it is this process only.
set -- $! $(cat /proc/$!/stat)
printf "%s %s\\n" $1 ${23} >$folder/pid
"""
"""POSIX sh without a single quote, as it stands between those of the command that installs it."""


def update_script(manager: str) -> str:
    """Return the script for one package manager; raise KeyError if none of its commands is known."""
    words = {"@VERSION@": str(VERSION), "@MANAGER@": manager, "@COMMAND@": UPDATE_COMMANDS[manager]}
    return re.sub("|".join(words), lambda found: words[found[0]], _TEXT)


def update_sudoers_line(username: str) -> str:
    """Return the line of sudoers(5) that allows the script without arguments."""
    return f'{username} ALL=(root) {RULE_TAGS}{SCRIPT} ""'


def guard_line(path: str) -> str:
    """Return the line of sudoers(5) that keeps a caller's variables from a program, whatever sudo's settings are.

    `!env_reset` and `env_keep` apply to all programs alike, and many run code that a variable names: iptables loads
    extensions from XTABLES_LIBDIR, systemctl runs what DBUS_SYSTEM_BUS_ADDRESS says, a shell reads its locale.
    """
    return f"Defaults!{path} env_reset, !env_keep, !env_check"


def update_doas_line(username: str) -> str:
    """Return the line of doas.conf(5) that allows the script without arguments."""
    return f"permit nopass {username} as root cmd {SCRIPT} args"


# ---------------------------------------------------------------- what is installed on a host


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesRule:
    """What the facts report of script and rule; all of it is remote text."""

    text: str | None = None
    """The script, None if it is missing or cannot be read."""
    is_there: bool = False
    unsafe: str = ""
    """The first of the script, the folders and the links on its path without the owner and mode that it needs."""
    is_read_only: bool = False
    """Whether the script's folder is on a filesystem that is mounted read-only."""
    has_rule: bool | None = False
    """Whether a rule of sudo or doas allows exactly this without a password; None: not known."""
    is_refused: bool = False
    """Whether `sudo -l` with the script denies it."""
    is_shown: bool = False
    """Whether sudo or doas shows this user all rules that concern the user."""
    is_sudo_rs: bool = False
    """Whether sudo is sudo-rs, which shows neither settings nor the tag SETENV."""
    is_named: bool = False
    """Whether a rule names the script; another one may allow everything."""
    may_run: bool = False
    """Whether a rule that does not allow everything may run the script without a password, even if it is missing."""
    is_open: bool = False
    """Whether that rule allows arguments."""
    overruled_by: str = ""
    """The rule of sudo that overrules the one that would allow it."""
    stopped_by: str = ""
    """The setting of sudo that keeps the script from running."""
    loosened_by: str = ""
    """The setting or tag of sudo that lets the caller of the script choose what it does."""
    has_old_rule: bool = False
    """Whether a rule allows the words of a shell, as the rules of earlier versions did."""


WALK: Final = """
# Call judge for each folder and each link on the way to a place, and for the place itself.
walk() {
  at=; way=${1#/}/; links=40
  judge / || return 1
  while [ -n "$way" ]; do
    step=${way%%/*}; way=${way#*/}
    case $step in ""|.) continue;; ..) at=${at%/*}; continue;; esac
    judge "$at/$step" || return 1
    if [ -L "$at/$step" ]; then
      links=$((links - 1)); [ $links -gt 0 ] || return 1
      step=$(readlink "$at/$step"); way=$step/$way
      case $step in /*) at=;; esac
    else at=$at/$step; fi
  done
}
"""
"""Shell: a user who may change a link on the path chooses what is found behind it."""


_OLD_APT: Final = f"{_APT} update &&\n{_APT} -y {_KEEP} --with-new-pkgs upgrade"
FILES: Final = """
# List what sudo reads, file by file; is_read says whether its folder is. What cannot be looked at is told.
slash=$(printf "%b" "\\0134"); files=; is_read=
break="
"
trim() { at=${1#"${1%%[![:space:]]*}"}; at=${at%"${at##*[![:space:]]}"}; }
meant() {
  case $name in
    \\"*) name=${name#\\"}; name=${name%%\\"*};;
    *) name=${name%%[[:space:]]"#"*}
      until [ "$name" = "${name#*"$slash "}" ]; do name="${name%%"$slash "*} ${name#*"$slash "}"; done;;
  esac
  host=$(uname -n)
  until [ "$name" = "${name#*%h}" ]; do name=${name%%%h*}${host%%.*}${name#*%h}; done
}
add() {
  [ -f "$1" ] || return 0
  case $1 in *"$break"*)
    tell "the name of this file has a line break, so it was not read: $(printf %s "$1" | tr "\\n" " ")"; return 0;;
  esac
  case $break$files in *"$break$1$break"*) return 0;; esac
  files=$files$1$break
  [ -r "$1" ] || { tell "this file could not be read: $1"; return 0; }
  whole=
  while IFS= read -r line || [ -n "$line" ]; do
    trim "$line"
    # What is cut by a backslash goes on in the next line, but a comment does not.
    case $whole$at in
      "#include"*|"#"[0-9]*|"#-"[0-9]*) ;;
      "#"*) whole=; continue;;
    esac
    case $at in
      *[[:space:]]"#"[!0-9-]*|*[[:space:]]"#-"[!0-9]*) ;;
      *"$slash") whole="$whole${at%"$slash"} "; continue;;
    esac
    trim "$whole$at"; whole=; word=${at%%[[:space:]]*}
    case $word in @include|"#include"|@includedir|"#includedir") ;; *) continue;; esac
    trim "${at#"$word"}"; name=$at
    meant
    case $name in "") continue;; /*) ;; *) name=${1%/*}/$name;; esac
    case $word in *dir) ;; *) add "$name"; continue;; esac
    if [ "${name%/}" = /etc/sudoers.d ] || [ "$name" -ef /etc/sudoers.d ]; then
      is_read=yes; name=/etc/sudoers.d
    fi
    add_folder "${name%/}"
  done <"$1"
}
add_folder() { for each in "$1"/*; do case ${each##*/} in *.*|*~) ;; *) add "$each";; esac; done; }
# Files by another name than those that are known.
add_other() {
  other=$1
  printf %s "$files" | while IFS= read -r each; do [ ! "$each" -ef "$other" ] || exit 1; done || return 0
  add "$other"
}
add_all() { while IFS= read -r top; do add_other "$top"; done; }
# Which one counts sudo says to root, as sudo.conf may name another; sudo-rs prefers one of its own.
version=$(sudo -V </dev/null 2>&1) || :
tops=$(printf "%s\\n" "$version" | sed -n "s/^Sudoers path: //p" | tr ":" "\\n")
case $version in *sudo-rs*) if [ -f /etc/sudoers-rs ]; then tops=/etc/sudoers-rs; fi;; esac
if [ -n "$tops" ]; then
  add_all <<END_OF_FILES
$tops
END_OF_FILES
  counts=$is_read
fi
word="[^[:space:]]*"
named=$(sed -n "s/^ *Plugin .* sudoers_file=\\($word\\).*/\\1/p" /etc/sudo.conf 2>/dev/null) || :
# What a line is taken for here is not all: visudo tells which files it has read.
checked=$($visudo -c </dev/null 2>/dev/null | sed -n "s/: parsed OK$//p")
add_all <<END_OF_FILES
/etc/sudoers-rs
/etc/sudoers
/usr/etc/sudoers
$(printf %s "$named" | tr ":" "\\n")
$checked
END_OF_FILES
if [ -n "$tops" ]; then is_read=$counts; fi
[ -n "$is_read" ] || add_folder /etc/sudoers.d
"""
"""Shell without a single quote: puts the files of sudo's rules into `files`, one per line; calls `tell`, `$visudo`."""


DOAS_FILES: Final = """
# Whether doas reads /etc/doas.d, as that of Alpine does; it names what it reads.
has_doas_folder() { [ -d /etc/doas.d ] && [ ! -L /etc/doas.d ] && grep -qsF /etc/doas.d "$(command -v doas)"; }
# The files that doas reads, one a line, in its order: the last rule of all that fits counts.
doas_files() {
  has_doas_folder || { echo /etc/doas.conf; return 0; }
  # Before Alpine 3.19 it reads nothing but the folder, and wants a file there.
  grep -qsF "no matching configuration files" "$(command -v doas)" || echo /etc/doas.conf
  for each in /etc/doas.d/.conf /etc/doas.d/.*.conf /etc/doas.d/*.conf; do
    if [ -f "$each" ] || { [ -L "$each" ] && [ ! -e "$each" ]; }; then printf "%s\\n" "$each"; fi
  done | LC_ALL=C sort
}
doas_rules() { doas_files | while IFS= read -r each; do cat "$each"; echo; done 2>/dev/null; }

# Take a text of doas.conf(5) apart as doas does (yylex in its parse.y), and call on_rule for each rule: its lines are
# in text, from the line of the number from on, what its words mean in plain, how they are written in exact, its lines
# without nopass in strict; loose says whether variables of the caller come along.
slash=$(printf "%b" "\\0134"); tab=$(printf "%b" "\\t")
break="
"
read_doas() {
  number=0; from=1; text=; forget_rule
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1)); text=$text$line$break; rest=$line
    while [ -n "$rest" ]; do
      char=${rest%"${rest#?}"}; rest=${rest#?}
      case $quoted$escaped$char in
        # A comment begins also in the middle of a word, and ends where its line ends, whatever it ends in.
        "#") end_word; exact="$exact #$rest"; break;;
        " "|"$tab") end_word; strict=$strict$char;;
        "{"|"}")
          end_word; other=; strict=$strict$char; plain="$plain $char"; exact="$exact $char"
          if [ "$char" = "{" ]; then in_braces=yes; else in_braces=; fi;;
        "$slash"|q"$slash") escaped=e;;
        \\"|q\\")
          if [ -n "$quoted" ]; then quoted=; else quoted=q; was_quoted=yes; other=yes; fi
          raw=$raw$char; written=$written$char;;
        *)
          word=$word$char
          if [ -n "$escaped" ]; then char=$slash$char; escaped=; fi
          raw=$raw$char; written=$written$char;;
      esac
    done
    # A word that goes on in the next line is none of those that doas knows.
    if [ -n "$escaped" ]; then escaped=; other=yes; raw=$raw$slash$break; continue; fi
    end_rule
  done
  if [ -n "$text" ]; then end_rule; fi
}
end_word() {
  if [ -z "$word$was_quoted" ]; then strict=$strict$raw; raw=; return 0; fi
  exact="$exact $written"
  if [ -n "$word" ]; then plain="$plain $word"; else plain="$plain $written"; fi
  if [ -n "$in_braces" ]; then
    # What it takes out or gives a value of its own is not the one of the caller.
    case $word in -*) ;; *=\\$*) loose=yes;; *=*) ;; *) loose=yes;; esac
  else
    case $other$word in nopass) raw=;; keepenv) loose=yes;; esac
  fi
  strict=$strict$raw
  raw=; written=; word=; other=; was_quoted=
}
end_rule() {
  end_word
  plain=${plain# }; exact=${exact# }; strict=$strict$break
  on_rule
  from=$((number + 1)); text=; forget_rule
}
forget_rule() {
  raw=; written=; word=; plain=; exact=; strict=; loose=; in_braces=; quoted=; escaped=; other=; was_quoted=
}
"""
"""Shell without a single quote; the order is that of Alpine's configuration-directory.patch, whose names are bytes."""


def _old_rules() -> Iterator[str]:
    """Yield what followed the user's name in the rules of earlier versions."""
    for command in (dict(UPDATE_COMMANDS) | {"apt": _OLD_APT}).values():
        job = (
            f"umask 022; mkdir -p {UPDATE_FOLDER} && cd {UPDATE_FOLDER} && rm -f status || exit; "
            "export LC_ALL=C DEBIAN_FRONTEND=noninteractive; "
            f"{{ {command.replace('\n', ' ')}; }} >output 2>&1 </dev/null; echo $? >ended; mv ended status"
        )
        words = f"--quiet --collect --no-ask-password --unit={UNIT} /bin/sh -c {job}"
        yield "ALL=(root) NOPASSWD: /usr/bin/systemd-run " + re.sub(r"([\\,:=#*?!\[\]])", r"\\\1", words)


OLD_RULES: Final = tuple(_old_rules())
"""The rules that earlier versions documented: a user with one could run anything as root."""
_OLD_JOB: Final = f"systemd-run[^,]*{UNIT}"
"""Basic regular expression of the dangerous part of them, within one command of a rule."""

_MOUNTS_READ: Final = 1 << 18
"""Bytes: a shell reads them one by one, and users can make a line of the list of mounts as long as they like."""

UPDATES_RULE_FACTS: Final = rf"""say updates_rule
file={SCRIPT}; folder={SCRIPT.rpartition("/")[0]}
until [ -d "${{folder:-/}}" ]; do folder=${{folder%/*}}; done
folder=$(cd "${{folder:-/}}" && pwd -P)
options=$(head -c {_MOUNTS_READ} /proc/self/mounts | {{
  point=; options=
  while read -r _ at _ how _; do
    case $folder/ in ("${{at%/}}/"*) [ "${{#at}}" -lt "${{#point}}" ] || {{ point=$at; options=$how; }};; esac
  done
  printf %s "$options"
}})
case ,$options, in *,ro,*) echo read_only;; esac
{WALK}
# Where the script is missing, whoever can write above it may put one there.
word=way
judge() {{ [ -e "$1" ] || [ -L "$1" ] || return 1; set -- "$1" $(ls -ldn "$1"); printf '%s\n' "$word $2 $4 $1"; }}
if [ -e "$file" ] || [ -L "$file" ]; then
  word=place; judge "$file"; walk "${{file%/*}}"; printf '%s\n' "real $at/${{file##*/}}"
  [ -f "$file" ] && [ -r "$file" ] && head -c 8192 "$file" | sed 's/^/text /'
else walk "${{file%/*}}"
fi
if have sudo; then
  listed=$(unasked -l); told=$?
  case $kind in sudo-rs*) echo sudo_rs;; esac
  printf '%s\n' "$listed" | head -c 16384 | sed 's/^/sudo /'
  [ ${{#listed}} -gt 16384 ] && printf '\ncut\n'
  # A rule may name the script by a link.
  [ -e "$file" ] && printf '%s\n' "$listed" | head -c 16384 | tr -s ' ,!' '\n' | grep '^/' | sort -u | timed sh -c '
    while read -r word; do
      case $word in */) set -- "$word"*;; *) set -- $word;; esac
      for each do [ "$each" -ef "$0" ] && {{ printf "link %s\n" "$word"; break; }}; done
    done' "$file"
  case $listed in *"may run the following"*)
    echo listed
    if [ -f "$file" ]; then
      # What a rule says is weighed by sudo itself: dates, checksums, patterns. It does not tell of passwords.
      answer=$(unasked -l "$file"); told=$?
      if printf '%s\n' "$answer" | grep -q '^/.*/{UNIT}$'; then echo allowed
      elif [ $told -lt 124 ]; then echo refused; fi
    fi
    case $kind in sudo-rs*) unasked -l "$file" anything | grep -q '^/.*/{UNIT} anything$' && echo open;; esac;;
  esac
fi
if have doas; then
{DOAS_FILES}
  as_doas() {{ timed doas -C /proc/self/fd/0 "$@" 2>/dev/null; }}
  stops=
  if has_doas_folder && ! {{ [ -r /etc/doas.d ] && [ -x /etc/doas.d ]; }}; then stops=hidden; fi
  while IFS= read -r each; do
    # One that is missing, that others can change or that it cannot read to the end stops doas for everybody.
    set -- $(ls -lnL "$each" 2>/dev/null)
    case $1$3 in -????-??-*0) ;; *) stops=${{stops:-broken}}; continue;; esac
    [ -r "$each" ] || {{ stops=hidden; continue; }}
    limited doas -C "$each" 2>/dev/null || stops=${{stops:-broken}}
  done <<END_OF_FILES
$(doas_files)
END_OF_FILES
  if [ "$stops" ]; then printf '%s\n' "$stops"
  else
    answer=$(doas_rules | as_doas "$file"); folded doas "$answer"
    case $(doas_rules | as_doas "$file" anything),$(doas_rules | as_doas "$file-") in
      *nopass,*nopass) echo all;;
      *nopass,*) echo open;;
      *)
        # What the caller sets comes along by a rule that says so. Is the one that counts among them?
        on_rule() {{ if [ "$loose" ]; then printf %s "$strict"; else printf %s "$text"; fi; }}
        case $answer,$(doas_rules | read_doas | as_doas "$file") in *nopass,*nopass) ;; *nopass,*) echo keeps;; esac
        # So may one with arguments. What its words are shows where none is quoted.
        doas_rules | (
          on_rule() {{
            case $loose,$plain,$exact in
              yes,permit*" cmd $file args "*,*" args "*[\"\\]*) echo; echo quoted;;
              yes,permit*" cmd $file args "*) printf '%s\n' "${{plain#*" cmd $file args "}}";;
            esac
          }}
          read_doas
        ) | while IFS= read -r said; do
          [ "$said" ] || {{ echo keeps; break; }}
          set -f; set -- $said
          case $(doas_rules | as_doas "$file" "$@"),$(doas_rules | read_doas | as_doas "$file" "$@") in
            *nopass,*nopass) ;;
            *nopass,*) echo keeps;;
          esac
        done;;
    esac
  fi
fi
# A comment does not go on in the next line; a comma with a backslash ends no command; what is forbidden is harmless.
visudo=visudo; have visudo || visudo=visudo-rs
tell() {{ :; }}
{FILES}
printf %s "$files" | while IFS= read -r each; do
  [ -f "$each" ] && [ -r "$each" ] &&
    sed -e ':a' -e 's/^#-*[^0-9-].*//' -e 's/[[:space:]]#-*[^0-9-].*//' \
      -e '/\\[[:space:]]*$/{{N;s/\\[[:space:]]*\n//;ba' -e '}}' -e 's/\\,//g' -e 's/![^ ,]*systemd-run//g' "$each" |
      grep -qs '{_OLD_JOB}' && echo old
done
if have doas; then
  on_rule() {{ case $plain in "deny "*) ;; *) printf '%s\n' "$plain" | tr -d ,;; esac; }}
  for each in /etc/doas.conf /etc/doas.d/*.conf /etc/doas.d/.*conf; do
    [ -f "$each" ] && [ -r "$each" ] && read_doas <"$each" | grep -qs '{_OLD_JOB}' && echo old
  done
fi
"""
"""The part of the facts' script that reports script and rule."""


def parse_updates_rule(lines: Sequence[str]) -> UpdatesRule:
    """Parse what this part of the facts reported.

    place -rwxr-xr-x 0 /usr/local/sbin/homelab_monitor-update
    real /usr/local/sbin/homelab_monitor-update
    text #!/bin/sh
    sudo     (root) NOPASSWD: /usr/local/sbin/homelab_monitor-update ""
    """
    reported: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        reported.setdefault(word, []).append(rest)
    rules = _within(reported.get("sudo", []), SUDO_LIST_CHARACTERS)
    # What is missing came last, and the last rule counts.
    is_cut = "cut" in reported or len(rules) < len(reported.get("sudo", []))
    reported["sudo"] = rules
    places = reported.get("place", [])
    ways = places or reported.get("way", [])
    by_doas = "permit nopass" in reported.get("doas", [])
    listed = read_listing(
        reported["sudo"],
        (SCRIPT, *reported.get("real", [])[:1]),
        is_sudo_rs="sudo_rs" in reported,
        is_allowed="allowed" in reported,
        links=frozenset(reported.get("link", [])),
    )
    has_rule = True if by_doas else listed.has_rule
    is_refused = "refused" in reported and not by_doas
    if is_refused and listed.has_root_folder:
        is_refused, has_rule = False, None if has_rule else has_rule
    is_open = listed.is_open or (bool(has_rule) and "open" in reported and not listed.has_all)
    if not by_doas and (is_cut or (places and has_rule and not reported.keys() & {"allowed", "refused"})):
        has_rule = None
    # What sudo forbids may be allowed by rules of doas that are hidden.
    is_hidden = "hidden" in reported and (not has_rule or is_refused or listed.stopped_by != "")
    if is_hidden:
        has_rule, is_refused = None, False
    # Without a terminal, sudo does not even list.
    is_mute = not by_doas and wants_terminal("\n".join(reported["sudo"]))
    return UpdatesRule(
        text="\n".join([*reported["text"], ""]) if "text" in reported else None,
        is_there=bool(places),
        unsafe=next((first_line(_path(place)) for place in ways if not _is_roots_own(place)), ""),
        is_read_only="read_only" in reported,
        has_rule=None if is_mute else has_rule,
        is_refused=is_refused,
        is_shown=("listed" in reported or ("doas" in reported and not reported["sudo"])) and "hidden" not in reported,
        is_named=listed.is_named or (by_doas and "all" not in reported),
        is_sudo_rs="sudo_rs" in reported and not by_doas,
        may_run=listed.may_run or (by_doas and "all" not in reported),
        is_open=is_open,
        overruled_by="" if by_doas or is_cut or is_hidden else listed.overruled_by,
        stopped_by="" if by_doas or is_hidden else "requiretty" if is_mute else listed.stopped_by,
        loosened_by="keepenv" if "keeps" in reported else listed.loosened_by,
        has_old_rule="old" in reported or any(map(_is_old_job, reported.get("sudo", []))),
    )


def _within(lines: Sequence[str], characters: int) -> list[str]:
    """Return the first lines that have at most so many characters together."""
    return [line for line, end in zip(lines, accumulate(map(len, lines)), strict=True) if end <= characters]


def _path(place: str) -> str:
    """Return the path in a line of a place: `drwxr-xr-x 0 /usr` → /usr."""
    return place.split(" ", 2)[-1]


def _is_roots_own(place: str) -> bool:
    """Return whether only root can change it; ls(1) shows the widest permission of an ACL as the group's."""
    mode = "-rwxr-xr-x" if _path(place) == SCRIPT else "(?:l|d.{4}-..-.)"
    return re.match(rf"{mode}\S* 0 ", place) is not None


_NEXT: Final = re.compile(r",\s+(?=[!/]|[A-Z_]+: )")
"""Separator of two commands in a listing; sudo-rs shows the commas of arguments without a backslash."""


def _is_old_job(line: str) -> bool:
    """Return whether a command in the line is the job of earlier versions."""
    for command in _NEXT.split(line):
        before, _, after = command.partition("systemd-run")
        if UNIT in after and not re.split(r"[\s:=]", before)[-1].startswith("!"):
            return True
    return False
