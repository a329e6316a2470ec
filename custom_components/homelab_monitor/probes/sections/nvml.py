"""NVIDIA's management library, for the sections on its cards: found, opened for one reading, closed.

An open /dev/nvidia* keeps the card awake and prevents a replacement of the driver. Any call into the library may hang
for ever, so only the threads of collectors make one.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..host import REFRESH_SECONDS, Broken, Host, Json

NVML_LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1")
NVML_DENIED, NVML_NOT_FOUND, NVML_TOO_SMALL, NVML_LOST = 4, 6, 7, 15
NVML_UNKNOWN = (1 << 64) - 1
NVML_GONE = (NVML_DENIED, NVML_NOT_FOUND, NVML_LOST)


class NvmlError(Broken):
    """An error of NVIDIA's management library."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__("NVML: " + text)
        self.code = code


class Nvml:
    """NVIDIA's management library, through ctypes."""

    def __init__(self, host: "Host") -> None:
        self.library = load_nvml(host)
        import ctypes  # noqa: PLC0415 - load_nvml has loaded it

        self.ctypes = ctypes
        self.library.nvmlErrorString.restype = ctypes.c_char_p
        self.file = self.loaded_file()
        self.identity = identity_of(self.file)
        self.has_worked = False

    def loaded_file(self) -> str:
        """Return the path of the library's file, "" if unknown (proc_pid_maps(5))."""
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape", newline="\n") as maps:
            found = [line.split(None, 5)[5].rstrip("\n") for line in maps if "/libnvidia-ml.so" in line]
        return next((path for path in found if not path.endswith(" (deleted)")), "")

    def is_replaced(self) -> bool:
        """Return whether a new process would load another library: the driver was replaced meanwhile."""
        return bool(self.file) and identity_of(self.file) != self.identity

    def call(self, name: str, *arguments: "Any") -> None:
        """Call a function; raises NvmlError with the library's text, also if an old library lacks the function."""
        function = getattr(self.library, name, None)
        if function is None:
            raise NvmlError(13, name + " is not in this library")
        code = function(*arguments)
        if code:
            raise NvmlError(code, self.library.nvmlErrorString(code).decode("ascii", "replace"))

    def words(self, name: str, *arguments: "Any") -> str:
        """Return the text that a function writes into a buffer."""
        buffer = self.ctypes.create_string_buffer(96)
        self.call(name, *arguments, buffer, 96)
        return buffer.value.decode("utf-8", "replace")

    def numbers(self, name: str, form: str, *arguments: "Any") -> "tuple[Any, ...] | None":
        """Return the struct that a function fills (`form` as in module struct), None if the card does not support it."""
        import struct  # noqa: PLC0415

        size = struct.calcsize(form)
        buffer = self.ctypes.create_string_buffer(size)
        if name.endswith("_v2"):  # a versioned struct begins with its version
            struct.pack_into("I", buffer, 0, size | 2 << 24)
        try:
            self.call(name, *arguments, buffer)
        except NvmlError as err:
            if err.code == NVML_LOST:
                raise
            return None
        return struct.unpack(form, buffer.raw)

    def running(self, kind: str, handle: "Any") -> "list[tuple[int, int]]":
        """Return (pid, bytes) of the processes on a card, NVML_UNKNOWN for bytes that the driver does not report.

        A struct has the process, its memory and, except in the first version, two numbers of its MIG instance.
        """
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        version = next((one for one in ("_v3", "_v2") if hasattr(self.library, name + one)), "")
        form, room = "IQII" if version else "IQ", 64
        while True:
            try:
                return self.structs(name + version, form, room, handle)
            except NvmlError as err:
                if err.code == NVML_LOST:
                    raise
                if err.code != NVML_TOO_SMALL or room > 4096:
                    return []
                room *= 4

    def structs(self, name: str, form: str, room: int, handle: "Any") -> "list[Any]":
        """Return the first two numbers of each struct that a function writes into an array of `room`."""
        import struct  # noqa: PLC0415

        size, count = struct.calcsize(form), self.ctypes.c_uint(room)
        buffer = self.ctypes.create_string_buffer(size * room)
        self.call(name, handle, self.ctypes.byref(count), buffer)
        return [struct.unpack_from(form, buffer, size * i)[:2] for i in range(count.value)]

    def handle(self, address: str) -> "Any":
        """Return the handle of the card at a PCI address; only this card is initialised, so that others stay suspended."""
        handle = self.ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", address.encode("ascii"), self.ctypes.byref(handle))
        return handle

    def handles(self) -> "list[Any]":
        """Return the handles of all cards, for systems without them on PCI."""
        count = self.ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", self.ctypes.byref(count))
        handles = [self.ctypes.c_void_p() for _ in range(count.value)]
        for i, handle in enumerate(handles):
            self.call("nvmlDeviceGetHandleByIndex_v2", i, self.ctypes.byref(handle))
        return handles


def load_nvml(host: "Host") -> "Any":
    """Return the loaded library; raises OSError if there is none."""
    for name in NVML_LIBRARIES[:-1]:
        try:
            return host.load_library(name)
        except OSError:
            continue
    return host.load_library(NVML_LIBRARIES[-1])


def identity_of(path: str) -> "tuple[int, ...]":
    """Return what distinguishes a file from its replacement, () if there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return info.st_dev, info.st_ino, info.st_size, int(info.st_mtime)


def with_nvml(host: "Host", memo: "Json", read: "Callable[[Nvml], Any]") -> "Any":
    """Return the result of `read` with the opened library; raises OSError if there is none, NvmlError.

    After an error the process is stale (it ends after its reply) if a new one may succeed: the library was replaced,
    or it worked in this process, loaded 10 minutes ago or earlier. A permanently broken driver causes no restarts.
    """
    nvml = nvml_library(host, memo)
    try:
        nvml.call("nvmlInit_v2")
        try:
            found = read(nvml)
        finally:
            nvml.call("nvmlShutdown")
    except NvmlError:
        is_old = host.boottime() - memo["nvml_since"] > REFRESH_SECONDS
        memo["stale"] = nvml.is_replaced() or (nvml.has_worked and is_old)
        raise
    nvml.has_worked = True
    return found


def nvml_library(host: "Host", memo: "Json") -> "Nvml":
    """Return the library; raises OSError if it is not installed, which is checked again after 10 minutes."""
    now = host.boottime()
    if "nvml" not in memo:
        if now < memo.get("no_nvml_until", 0.0):
            raise OSError("not installed")
        memo["no_nvml_until"] = now + REFRESH_SECONDS
        memo.update(nvml=Nvml(host), nvml_since=now)
    return memo["nvml"]  # type: ignore[no-any-return]
