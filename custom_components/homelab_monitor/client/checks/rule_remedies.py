"""The commands that write rules of sudo and doas on a host, and install or remove the script for updates.

They are shown as they are run. POSIX sh without a single quote, as each stands between those of one `sh -c '…'`, and
without two backslashes in a row, which fish would read as one. Words in braces are filled in by `remedies`.

What they do to a file: a rule is removed only if it is, word for word, one that this integration has made or
documented. Any other rule that names the script is not ours: it is reported with its place, and a person
changes it. Everything is made and checked in a folder that only root can write before anything is put in place.
"""

from dataclasses import dataclass
from typing import Final

from .sudo_listing import KEPT
from .update_script import DOAS_FILES, FILES, OLD_RULES, SCRIPT, TRIAL_SAYS, UNIT, WALK, guard_line

RULE_FILE: Final = "/etc/sudoers.d/zz_homelab_monitor_updates"
SMART_RULE_FILE: Final = "/etc/sudoers.d/zz_homelab_monitor"
"""In /etc/sudoers.d the last rule that matches wins, so ours has to follow other files' "with a password"."""
FIREWALL_RULE_FILE: Final = "/etc/sudoers.d/zz_homelab_monitor_security"
DOAS_RULE_FILE: Final = "/etc/doas.d/zz_homelab_monitor_updates.conf"
_FOLDER: Final = SCRIPT.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Change:
    """What a long command does to one file, as a summary; `kind` names the text for it."""

    kind: str
    path: str
    text: str = ""
    """What is written to it, or what a script there runs."""


_BEGINNING: Final = f"""
# Nothing below /usr/local is run, which some people share.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
set -e
umask 077
# Some shells read backslashes in what echo prints.
say() {{ printf "%s\\n" "$1"; }}
stop() {{ say "$1" >&2; exit 1; }}
bad=
tell() {{ say "$1" >&2; bad=yes; }}
visudo=visudo
command -v $visudo >/dev/null || visudo=visudo-rs
# A sudo without visudo may be one that calls doas.
is_sudo() {{
  command -v sudo >/dev/null && {{ command -v $visudo >/dev/null || ! command -v doas >/dev/null; }}
}}
{WALK}
# Whoever can change a file that counts, a folder above it or a link on the way to it, would be root.
judge() {{
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 0; fi
  set -- "$1" $(ls -ldn "$1")
  case $4$2 in 0l*|0[-d]????-??-*) ;; *) say "users other than root can change $1" >&2; return 1;; esac
}}

# One at a time. What an earlier one has left that was cut off is swept.
walk /run
lock=/run/homelab_monitor-rules
work=; new=; held=; trying=
end() {{ [ -z "$trying" ] || set_script $work/script; rm -rf $work; rm -f "$new"; [ -z "$held" ] || rmdir "$held"; }}
trap end EXIT
trap "exit 1" HUP INT TERM
take() {{
  if command -v flock >/dev/null; then flock -n 9; else mkdir $lock.d 2>/dev/null && held=$lock.d; fi
}}
exec 9>>$lock.lock
tries=30
until take; do
  tries=$((tries - 1))
  if [ $tries -gt 0 ]; then :
  elif [ -d $lock.d ]; then stop "another change of these rules is running; if none is, remove $lock.d"
  else stop "another change of these rules is running: try again when it has ended"; fi
  sleep 1
done
rm -rf $lock.??????
rm -f /etc/.homelab_monitor.?????? /etc/sudoers.d/.homelab_monitor.?????? {_FOLDER}/.homelab_monitor.??????
work=$(mktemp -d $lock.XXXXXX)

# Put a new file in place, of root and with this mode: who has opened the one that was there has no hold on it.
put() {{
  make "$1" "$2" && chown 0:0 "$new" && chmod "$3" "$new" && is_left "$2" && mv -f "$new" "$2" && new=
}}
make() {{ new=$(mktemp "${{2%/*}}/.homelab_monitor.XXXXXX") && cat "$1" >"$new"; }}
# Put a file of somebody in place, with the owner and mode of the one that was there: only root can change that.
change() {{
  if [ ! -e "$2" ]; then put "$@"; return; fi
  judge "$2" && make "$1" "$2" && cp -p "$2" "$new" && cat "$1" >"$new" && is_left "$2" && mv -f "$new" "$2" && new=
}}
# What a file said when it was read, and whether it still says so: who edits it meanwhile would lose what they wrote, or
# put back what was taken out. visudo keeps its copy beside the file, that of sudo-rs locks it.
kept=
keep() {{ kept=$1; known_as=; rm -f $work/kept; [ ! -e "$1" ] || cat "$1" >$work/kept; }}
is_left() {{
  [ "$1" = "$kept" ] || return 0
  for each in "$1" "$known_as"; do
    if [ -n "$each" ] && [ -e "$each.tmp" ]; then
      say "$1 is being edited ($each.tmp exists): try again later, or remove that file if nobody edits $1" >&2
      return 1
    fi
  done
  # Whoever may read a file may lock it, and a lock of theirs says nothing.
  case $(ls -ldn "$1" 2>/dev/null) in ""|???????r*) ;; *)
    if command -v flock >/dev/null && ! flock -n "$1" true; then
      say "$1 is being edited: try again later" >&2; return 1
    fi;;
  esac
  if [ -e "$1" ] && [ -e $work/kept ] && [ "$(cat "$1"; printf .)" = "$(cat $work/kept; printf .)" ]; then return 0; fi
  if [ ! -e "$1" ] && [ ! -e $work/kept ]; then return 0; fi
  say "$1 is being edited (it was changed a moment ago): try again" >&2; return 1
}}
known_as=

{FILES}{DOAS_FILES}printf %s "$files" >$work/files
need_folder() {{
  is_sudo || stop "sudo is not installed: only its rules can allow this"
  [ -n "$is_read" ] ||
    stop "sudo does not read /etc/sudoers.d: with visudo, add the line @includedir /etc/sudoers.d at the end"
  walk /etc/sudoers.d
  [ -d /etc/sudoers.d ] || stop "there is no folder /etc/sudoers.d"
}}
"""
_SIFT: Final = """
# Copy a file without the rules of ours; tell of other rules that name what is ours.
sift() {
  : >$work/sifted; taken=; number=0; from=1; whole=; lines=; sifted=$1
  keep "$1"
  if [ "$kind" = doas ]; then read_doas <$work/kept; return 0; fi
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1)); lines=$lines$line$break
    # A comment does not go on where its line ends, whatever it ends in.
    trim "$line"
    case $line in
      "#"[!0-9-]*|"#-"[!0-9]*|*[[:space:]]"#"[!0-9-]*|*[[:space:]]"#-"[!0-9]*) ;;
      # Blanks may stand behind the backslash.
      *) case $at in *"$slash") whole=$whole${line%"$slash"*}; continue;; esac;;
    esac
    whole=$whole$line
    sift_rule "$1"
    from=$((number + 1)); whole=; lines=
  done <$work/kept
  if [ -n "$lines" ]; then sift_rule "$1"; fi
}
on_rule() { whole=$exact; lines=$text; sift_rule "$sifted"; }
sift_rule() {
  set -f
  place="$1, line $from"; set -- $whole; rule="$*"
  set +f
  if is_ours "${rule%% *}" "${rule#* }"; then taken=yes; return 0; fi
  printf %s "$lines" >>$work/sifted
  installed=; if is_rule "${rule%% *}" "${rule#* }"; then installed=yes; fi
  if [ "$kind" = doas ]; then
    rule=$plain
    case $rule in "deny "*) return 0;; esac
  else
    case $rule in "#"[0-9]*|"#-"[0-9]*) ;; "#"*) return 0;; esac
    rule=${rule%%" #"[!0-9-]*}; rule=${rule%%" #-"[!0-9]*}
  fi
  tell_of_script
  tell_of_job
  if [ -n "$weigh" ] && [ "$kind" = sudo ]; then note_rule; fi
}
strip() { while :; do case $rest in *"$1"*) rest=${rest%%"$1"*}${rest#*"$1"};; *) return 0;; esac; done; }
# A path may be written in many ways, so what it ends in counts.
names() { case "$1 " in */@UNIT@[!A-Za-z0-9._/-]*) ;; *) return 1;; esac; }
tell_of_script() {
  # As it was installed, or for another user; what only means the same stays where it had to go.
  if [ -n "$installed" ]; then return 0; fi
  if is_rule "${rule%% *}" "${rule#* }" && ! is_mine "${rule%% *}" "${rule#* }"; then return 0; fi
  rest=$rule
  strip "/run/@UNIT@"; strip "!@SCRIPT@"; names "$rest" || return 0
  case $kind$rest in doas*"cmd @SCRIPT@ args "?*)
    tell "$place: this rule lets its user add arguments to @SCRIPT@. Change it by hand"; return 0;;
  esac
  strip "@SCRIPT@ \\"\\""; [ "$kind" != doas ] || strip "@SCRIPT@ args"
  if names "$rest"; then
    tell "$place: this rule lets its user add arguments to @SCRIPT@. Change it by hand"
  else
    tell_of_odd "$place: this rule differs from the one that was installed, and stays"
  fi
}
tell_of_job() {
  # A comma with a backslash ends no command.
  rest=$rule; strip "$slash,"
  set -f; IFS=,; set -- $rest; unset IFS; set +f
  for part; do
    case $part in *systemd-run*@UNIT@*) ;; *) continue;; esac
    before=${part%%systemd-run*}
    case ${before##*[[:space:]:=]} in "!"*) continue;; esac
    tell "$place: this rule lets its user run anything as root, but is not exactly as documented. Change it by hand"
  done
}
# Note what may let its user choose variables, arguments or a root folder for the script, to be told if sudo lets them.
weigh=
may_name() {
  case $1 in
    "!"*|ALL|*,*) return 1;;
    "^"*) return 0;;
    */@UNIT@|@FOLDER@/) return 0;;
    */) [ "$1@UNIT@" -ef @SCRIPT@ ];;
    /*) case @SCRIPT@ in $1) ;; *) [ "$1" -ef @SCRIPT@ ];; esac;;
    *) return 1;;
  esac
}
note_rule() {
  # Those of ours are right.
  if is_rule "${rule%% *}" "${rule#* }"; then return 0; fi
  case $rule in
    Defaults*env_keep*|Defaults*env_check*|Defaults*env_file*|Defaults*"!env_reset"*|Defaults*setenv*)
      printf "%s\\n" "variables $place: $rule" >>$work/noted;;
    Defaults*runchroot*) printf "%s\\n" "root_folder $place: $rule" >>$work/noted;;
  esac
  case $rule in
    Defaults*@UNIT@*env_*|Defaults*@UNIT@*setenv*) hits=yes;;
    Defaults*) hits=;;
    *)
      hits=; rest=$rule; strip "$slash,"
      set -f; IFS=" ,:="; set -- $rest; unset IFS; set +f
      for word; do if may_name "$word"; then hits=yes; fi; done;;
  esac
  case $rule in *CHROOT=*) printf "%s\\n" "root_folder $place: $rule" >>$work/noted;; esac
  rest=$rule; strip NOSETENV:
  case $hits$rest in
    *SETENV:*)
      printf "%s\\n" "variables $place: $rule" >>$work/noted
      # That is not shown to its user by sudo-rs, and there is no trial.
      case $hits$version in yes*sudo-rs*)
        tell "$place: this rule lets its user choose variables for @SCRIPT@ (SETENV). Change it by hand";;
      esac;;
    yesDefaults*)
      case $version in *sudo-rs*)
        tell "$place: this line lets the user choose variables for @SCRIPT@. Change it by hand";;
      esac;;
  esac
  case $rule in Defaults*) hits=;; esac
  if [ -n "$hits" ]; then printf "%s\\n" "arguments $place: $rule" >>$work/noted; fi
  hits=
}
# No name that means others to sudo, and of which rules are ours.
is_user() { case $1 in ""|*[!A-Za-z0-9_.-]*|-*) return 1;; [!A-Z]*|*[!A-Z0-9_]*) ;; *) return 1;; esac; }
is_old_rule() { is_user "$1" && grep -qxF -e "$2" $work/old; }
cat >$work/old <<"END"
@OLD@
END
is_rule() {
  if [ "$1 $2" = "@GUARD@" ]; then return 0; fi
  case $2 in
    "ALL=(root) NOPASSWD: NOSETENV: @SCRIPT@ "\\"\\") is_user "$1";;
    "nopass "*)
      user=${2#nopass }; user=${user%% *}
      [ "$1 $2" = "permit nopass $user as root cmd @SCRIPT@ args" ] && is_user "$user";;
    *) return 1;;
  esac
}
is_mine() {
  is_rule "$1" "$2" || return 1
  case "$1 $2 " in "@GUARD@ "|"@ACCOUNT@ "*|"permit nopass @ACCOUNT@ "*) ;; *) return 1;; esac
}

# Take the rules of ours out of a file, which must not be broken by it.
clean() {
  sift "$1"
  [ -n "$taken" ] || return 0
  walk "$1" || { tell "$1: nothing was changed"; return 0; }
  target=${at:-/}; kept=$target; known_as=$1
  if is_valid "$target" && ! is_valid $work/sifted; then
    tell "$1: $(check $work/sifted 2>&1)"
  elif change $work/sifted "$target"; then
    drop "$1"
  else
    tell "$1: nothing was changed"
  fi
}
# Files of others stay, if empty: a line of somebody may name them, and a sudo that misses one may refuse everything.
drop() {
  if [ -s $work/sifted ] || [ -L "$1" ] || [ -s "$1" ]; then return 0; fi
  case $1 in "@RULE_FILE@"|"@DOAS_RULE_FILE@") rm -f "$1" || return 0;; *) return 0;; esac
  # It is gone by ourselves.
  kept=
  is_sound || put $work/sifted "$1" 0440
}
# All files together; where they were broken before, that is not for us to say.
sound=
is_sound() { [ -z "$sound" ] || $visudo -c >/dev/null 2>&1; }
check() { case $kind in sudo) $visudo -cf "$1";; *) doas -C "$1";; esac; }
is_valid() { check "$1" >/dev/null 2>&1; }
clean_all() {
  kind=sudo
  if $visudo -c >/dev/null 2>&1; then sound=yes; fi
  while IFS= read -r each; do if [ -r "$each" ]; then clean "$each" </dev/null; fi; done <$work/files
  kind=doas
  command -v doas >/dev/null || return 0
  for each in /etc/doas.conf /etc/doas.d/*.conf /etc/doas.d/.*conf; do if [ -f "$each" ]; then clean "$each"; fi; done
}
"""
_SMART: Final = """
walk {tool}
need_folder
cat >$work/more <<"END"
{lines}
END
"""
FIREWALL_RULES: Final = f"""\
{{account}} ALL=(root) NOPASSWD: NOSETENV: /usr/sbin/nft -j list ruleset
{guard_line("/usr/sbin/nft")}
{{account}} ALL=(root) NOPASSWD: NOSETENV: /usr/sbin/iptables-save ""
{guard_line("/usr/sbin/iptables-save")}
{{account}} ALL=(root) NOPASSWD: NOSETENV: /usr/sbin/ip6tables-save ""
{guard_line("/usr/sbin/ip6tables-save")}"""
_FIREWALL: Final = f"""
need_folder
cat >$work/all <<"END"
{FIREWALL_RULES}
END
# Of the programs that are here.
: >$work/more
while IFS= read -r line; do
  tool=${{line##*: }}; tool=${{tool#Defaults!}}; tool=${{tool%% *}}
  [ -e $tool ] || continue
  walk $tool
  printf "%s\\n" "$line" >>$work/more
done <$work/all
[ -s $work/more ] || stop "neither nft nor iptables-save is in /usr/sbin"
"""
_ADD: Final = """
walk @FILE@
keep "$at"
if [ -e "$at" ]; then
  last=
  # Also a last line that does not end is a line, and one that goes on does not go on in ours.
  while IFS= read -r line || [ -n "$line" ]; do printf "%s\\n" "$line"; last=$line; done <$work/kept >$work/rules
  trim "$last"
  case $at in *"$slash") echo >>$work/rules;; esac
fi
while IFS= read -r line; do
  if grep -qsxF -e "$line" $work/rules; then continue; fi
  printf "%s\\n" "$line" >>$work/rules
done <$work/more

# A file is checked before it counts: a broken one locks sudo.
$visudo -cf $work/rules
put $work/rules "$kept" 0440
"""

_INSTALL: Final = f"""
# Take out the rules of earlier versions, which allow more than they say, whatever else stands in the way.
is_ours() {{ is_old_rule "$1" "$2"; }}
tell_of_odd() {{ say "$1" >&2; }}
: >$work/noted; weigh=yes
clean_all
weigh=

# Make what is needed, and try it, before anything is put in place.
walk {_FOLDER}
folder=${{at:-/}}
cat >$work/script <<"END"
{{script}}END
{{rule}}
umask 022
mkdir -p {_FOLDER}
umask 077
set_script() {{ put "$1" "$folder/{UNIT}" 0755; }}
set_script $work/script
"""
RULE_PREPARED: Final = f"""
# Let this user run it, without any argument.
is_ours() {{ is_mine "$1" "$2"; }}
# What else there is has been told.
tell_of_script() {{ :; }}
tell_of_job() {{ :; }}
rules=
prepare() {{
  rules=$1; kind=$2; : >$work/sifted; lines=
  keep $rules
  if [ -e $rules ]; then walk $rules; rules=${{at:-/}}; sift $rules; fi
  cat $work/sifted >$work/rules
  # A line of somebody that goes on does not go on in ours.
  if [ "$kind" = sudo ]; then
    trim "$lines"
    case $at in *"$slash") echo >>$work/rules;; esac
  fi
  cat >>$work/rules
  check $work/rules
}}
if is_sudo; then
  need_folder
  prepare {RULE_FILE} sudo <<"END"
{{sudoers_line}}
{guard_line(SCRIPT)}
END
elif command -v doas >/dev/null; then
  file=/etc/doas.conf
  if has_doas_folder; then
    file={DOAS_RULE_FILE}
    # What waits in the folder is not for us to let count.
    case $(doas_files) in /etc/doas.conf*)
      [ -e /etc/doas.conf ] || stop "doas is not enabled: there is no /etc/doas.conf";;
    esac
  fi
  walk $file
  prepare "${{at:-/}}" doas <<"END"
{{doas_line}}
END
fi
"""
"""For users other than root, who needs no rule."""
RULE_IN_PLACE: Final = f"""
# What runs as the user gets neither the lock nor anything else of ours, and is waited for so long at most, whatever it
# leaves behind: only head, which is of root, holds what is waited for.
within() {{
  if timeout -s KILL 9 true; then timeout -s KILL 15 "$@"; return; fi
  {{
    "$@" <&3 3<&- &
    waited=$!
    {{ sleep 15; kill -KILL $waited; }} </dev/null >/dev/null 3<&- 9>&- &
    wait $waited
    kill $!
  }} 3<&0
}}
as_user() {{
  {{ within setsid su -s /bin/sh {{account}} -c "$1" 9>&- | within head -c 4096; }} 2>/dev/null || :
}}
# Try also what a caller may choose besides: each in a way that the check judges.
try_more() {{
  more=
  root="$(command -v sudo) -n -k"
  # Not a shell, which who may run all but shells may not.
  case $(as_user "$root -- /usr/bin/env echo free" </dev/null) in free*) return 0;; esac
  names=homelab_mark
  for word in $(printf %s "${{listed%%" may run "*}}" | tr -c "A-Z0-9_" " "); do
    case " {" ".join(sorted(KEPT))} LC_ LD_LIBRARY_PATH " in *" $word "*) ;;
      *) case $word in [!A-Z_]*|LC_*) ;; *) names="$names $word";; esac;;
    esac
  done
  names="$names LD_LIBRARY_PATH"
  # Not without end, as each is a question to sudo.
  set -- $names
  [ $# -le 20 ] || set -- homelab_mark $(printf "%s\\n" $names | tail -n 19)
  more=$(as_user "exec 2>/dev/null
for name in $*; do
  $root \\$name=homelab_mark {SCRIPT}; env \\$name=homelab_mark $root -- {SCRIPT}
done
echo arguments; $root -- {SCRIPT} anything; echo folder; $root -R / -- {SCRIPT}; echo end" </dev/null)
}}
# Say which lines may be why, as only sudo knows which of them counts.
blame() {{
  say "$1" >&2; bad=yes
  sed -n "s/^$2 //p" $work/noted | sort -u >&2
}}
judge_more() {{
  # What was cut off, as that took too long, says nothing of the rest.
  case $more in ""|*arguments*folder*end*) ;; *)
    tell "the other sudo rules could not be tested in time: try again"
    return 0;;
  esac
  case ${{more%%arguments*}} in *=homelab_mark*)
    blame "sudo lets {{account}} choose variables for {SCRIPT}. Change by hand what allows it:" variables;;
  esac
  rest=${{more#*arguments}}
  case ${{rest%%folder*}} in *"user 0"*)
    blame "sudo lets {{account}} add arguments to {SCRIPT}. Change by hand what allows it:" arguments;;
  esac
  case ${{rest#*folder}} in *"user 0"*)
    blame "sudo lets {{account}} choose a root folder for {SCRIPT}. Change by hand what allows it:" root_folder;;
  esac
}}
try() {{
  case $(as_user "echo ready" </dev/null) in *ready*) ;; *) return 0;; esac
  cat >$work/trial <<"END"
#!/bin/sh
# sudo may be told to look for programs somewhere else.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
echo "{TRIAL_SAYS}" >&2
printf "user %s\\n" "$(id -u)"
tr "\\0" "\\n" </proc/$$/environ | grep "=homelab_mark$"
exit 75
END
  trying=yes
  set_script $work/trial
  answer=$(as_user "exec 2>&1; exec $(command -v sudo) -n -k -- {SCRIPT}" </dev/null)
  case $answer in *"user 0"*) try_more;; esac
  set_script $work/script
  trying=
  case $answer in
    *"user 0"*) ;;
    *) tell "sudo does not let {{account}} run it, because another rule or a setting takes precedence: $answer"
      say "What sudo lists:"; say "$listed"; return 0;;
  esac
  judge_more
  # What is set last counts, and most of all what is set for the script.
  logged=; concerns=yes
  set -f
  for word in ${{listed%%" may run "*}}; do
    word=${{word%,}}
    case $word in
      Defaults!{SCRIPT}|Defaults!"$folder/{UNIT}"|Defaults!ALL|"Defaults>root"|"Defaults>ALL") concerns=yes;;
      Defaults!*|"Defaults>"*) concerns=;;
    esac
    case $concerns$word in
      # What a program leaves behind does not run on then; a unit of systemd does.
      yeslog_subcmds) [ -d /run/systemd/system ] || logged=$word;; yes!log_subcmds) logged=;;
      yeslistpw=always|yeslistpw=all) tell "sudo shows rules only with a password: remove Defaults $word";;
    esac
  done
  set +f
  [ -z "$logged" ] ||
    tell "sudo does not let updates run in the background: remove Defaults $logged, or exempt {SCRIPT} from it"
}}
if [ "$kind" = sudo ]; then
  put $work/rules $rules 0440
  # Whether that is enough only sudo knows, of all rules and settings: it is asked to run something harmless by that
  # name. To sudo-rs a question that it refuses is a failed login, and a rule may name the sum of the file.
  listed=$(sudo -n -l -U {{account}} 2>/dev/null) || :
  case $version$listed in
    *sudo-rs*)
      may() {{ case $(sudo -n -l -U {{account}} "$@" 2>/dev/null) in /*) ;; *) return 1;; esac; }}
      if may {SCRIPT} anything && ! may /usr/bin/env true; then
        blame "sudo lets {{account}} add arguments to {SCRIPT}. Change by hand what allows it:" arguments
      fi;;
    *" sha"[0-9]*:*) ;;
    *) try;;
  esac
elif [ -n "$rules" ]; then
  change $work/rules $rules 0644
  # The user may not read these files, so what doas makes of them is asked here.
  ask() {{ as_user "cat | doas -C /proc/self/fd/0 {SCRIPT}"; }}
  # From files: who does not read would keep waiting what writes.
  doas_rules >$work/all
  case $(ask <$work/all) in ""|*nopass*) ;; *)
    last=
    for each in $(doas_files | tr " " "?"); do
      {{ say "permit nopass {{account}} as root cmd {SCRIPT} args"; cat "$each"; echo; }} >$work/all
      case $(ask <$work/all) in *nopass*) ;; *) last=$each;; esac
    done
    tell "$last: a rule in this file overrides the one that was installed. Change it by hand";;
  esac
  # Without the rules that bring what the caller sets along it has to be allowed as well.
  strictly() {{
    ( on_rule() {{ if [ -n "$loose" ]; then printf %s "$strict"; else printf %s "$text"; fi; }}
      read_doas <$work/all ) >$work/strict
  }}
  doas_rules >$work/all; strictly
  case $(ask <$work/all),$(ask <$work/strict) in *nopass*,*nopass*) ;; *nopass*,*)
    last=
    for each in $(doas_files | tr " " "?"); do
      {{ say "permit nopass {{account}} as root cmd {SCRIPT} args"; cat "$each"; echo; }} >$work/all; strictly
      case $(ask <$work/strict) in *nopass*) ;; *) last=$each;; esac
    done
    tell "$last: a rule of this file lets {{account}} choose variables for {SCRIPT}. Change it by hand";;
  esac
fi
"""
_REMOVE: Final = f"""
# The rule of this user goes, in our own files also that of another, as the script goes, and the rules of old.
is_ours() {{
  is_old_rule "$1" "$2" || is_mine "$1" "$2" ||
    case $place in {RULE_FILE},*|{DOAS_RULE_FILE},*) is_rule "$1" "$2";; *) return 1;; esac
}}
# What had to go is a failure where it stays.
tell_of_odd() {{ tell "$1. Change it by hand"; }}
clean_all
rm -f {SCRIPT}
"""
_END: Final = """
is_sound || tell "visudo -c now reports an error that it did not report before"
[ -z "$bad" ]
"""


def _worded(text: str) -> str:
    """Return a part of a command with our names and rules filled in."""
    words = {
        "@GUARD@": guard_line(SCRIPT),
        "@SCRIPT@": SCRIPT,
        "@UNIT@": UNIT,
        "@FOLDER@": _FOLDER,
        "@DOAS_RULE_FILE@": DOAS_RULE_FILE,
        "@RULE_FILE@": RULE_FILE,
        "@OLD@": "\n".join(OLD_RULES),
        "@ACCOUNT@": "{account}",
    }
    for word, value in words.items():
        text = text.replace(word, value)
    return text


SMART_COMMAND: Final = f"sh -c '{_BEGINNING}{_SMART}{_ADD.replace('@FILE@', SMART_RULE_FILE)}'"
FIREWALL_COMMAND: Final = f"sh -c '{_BEGINNING}{_FIREWALL}{_ADD.replace('@FILE@', FIREWALL_RULE_FILE)}'"
INSTALL_COMMAND: Final = f"sh -c '{_BEGINNING}{_worded(_SIFT)}{_INSTALL}{{in_place}}{_END}'"
REMOVE_COMMAND: Final = f"sh -c '{_BEGINNING}{_worded(_SIFT)}{_REMOVE}{_END}'"
