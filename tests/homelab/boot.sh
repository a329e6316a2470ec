# Become a host of the lab: run by lab.py as the first process in its namespaces, with NAME, FOLDER, SYSTEMD (yes or no)
# and CGROUP (where the machine mounts cgroup2, for a systemd host). The root is an overlay over the machine's own.
set -e
hostname "$NAME"
mount -t overlay -o "lowerdir=/,upperdir=$FOLDER/upper,workdir=$FOLDER/work" overlay "$FOLDER/root"
cd "$FOLDER/root"

mount -t proc proc proc
# An inner systemd-sysctl would set the whole machine's fs.protected_*; only the network part is the host's own.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys

# Device nodes of its own, no bind mounts: an inner systemd changes the owner of its console, through a link that of
# the machine's /dev/null.
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
node() { mknod -m 666 "dev/$1" c "$2" "$3"; }
node null 1 3; node zero 1 5; node full 1 7; node random 1 8; node urandom 1 9; node tty 5 0

mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777,size=64m tmpfs tmp
# What the people of this machine have in their homes is not the host's.
for folder in root home; do
  mount -t tmpfs -o mode=755 tmpfs $folder
  cp -a "$FOLDER/homes/$folder/." $folder/
done
if [ "$SYSTEMD" = yes ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mkdir run/sshd
fi
if [ -e "$FOLDER/setup.sh" ]; then . "$FOLDER/setup.sh"; fi

mkdir -p .old
pivot_root . .old
cd /
umount -l /.old
clean="env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8"
if [ "$SYSTEMD" = yes ]; then
  exec $clean /lib/systemd/systemd --system --log-target=journal --show-status=no
fi
# A shell that waits reaps every orphan, as PID 1 has to.
exec $clean sh -c '/usr/sbin/sshd -D -e & wait'
