"""A filesystem in user space that can stop answering: `python3 silent_filesystem.py MOUNTPOINT [USER]`, as root.

The kernel takes the number USER for who mounted it, 0 by default. It is empty, and tells its sizes. Stopped (SIGSTOP)
it is a server that is gone: requests wait to be read. After SIGUSR1 it is one that hangs: it reads every request and
answers none, so that who asked cannot even be killed. After SIGUSR2 it answers those and goes on. It ends when it is
unmounted or killed, and then every request fails.

The messages are those of <linux/fuse.h>, protocol 7; a request is its length, code, id, node and who asks.
"""

import ctypes
import errno
import os
import signal
import struct
import sys

GETATTR, FORGET, STATFS, INIT, BATCH_FORGET = 3, 2, 17, 26, 42
BLOCKS, BLOCKS_FREE, BLOCKS_AVAILABLE, BLOCK_BYTES = 1000, 400, 300, 4096
_INIT = struct.pack("=4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, *[0] * 8)
_FOLDER = struct.pack("=QII6Q10I", 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, BLOCK_BYTES, 0)
_SIZES = struct.pack("=5Q4I24x", BLOCKS, BLOCKS_FREE, BLOCKS_AVAILABLE, 100, 50, BLOCK_BYTES, 255, BLOCK_BYTES, 0)
ANSWERS = {GETATTR: _FOLDER, STATFS: _SIZES, INIT: _INIT}


class Filesystem:
    """The kernel's door to a mount, and the requests that were read and not answered."""

    def __init__(self, mountpoint: str, user: int = 0) -> None:
        self.door = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.door},rootmode=40755,user_id={user},group_id=0,allow_other"
        library = ctypes.CDLL(None, use_errno=True)
        # Its type is one of those that the probe takes for local.
        if library.mount(b"pool", os.fsencode(mountpoint), b"fuse.mergerfs", 0, options.encode()):
            sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
        self.kept: list[tuple[int, int]] = []
        self.is_silent = False

    def serve(self) -> None:
        """Answer until the mount is gone."""
        while True:
            try:
                request = os.read(self.door, 1 << 17)
            except OSError as err:
                if err.errno == errno.ENODEV:
                    return
                continue
            _, code, number = struct.unpack_from("=IIQ", request)
            self.kept.append((code, number))
            if not self.is_silent:
                self.answer()

    def answer(self) -> None:
        """Answer what was asked; what this empty filesystem does not know is not implemented."""
        while self.kept:
            code, number = self.kept.pop(0)
            content = ANSWERS.get(code, b"")
            if code not in (FORGET, BATCH_FORGET):
                status = 0 if content else -errno.ENOSYS
                os.write(self.door, struct.pack("=IiQ", 16 + len(content), status, number) + content)

    def set_silent(self, number: int, _frame: object) -> None:
        """Hang, or heal."""
        self.is_silent = number == signal.SIGUSR1
        if not self.is_silent:
            self.answer()


if __name__ == "__main__":
    filesystem = Filesystem(sys.argv[1], *map(int, sys.argv[2:]))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, filesystem.set_silent)
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    filesystem.serve()
