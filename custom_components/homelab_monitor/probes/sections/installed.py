"""What is installed: programs in the folders of administration, and files by the pattern of their path."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..host import Host

PROGRAM_FOLDERS = ("/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/", "/usr/local/sbin/", "/run/current-system/sw/bin/")


def has_program(host: "Host", name: str) -> bool:
    """Tell whether a program is installed where administration's are."""
    return any(host.exists(folder + name) for folder in PROGRAM_FOLDERS)


def paths_of(host: "Host", pattern: str) -> "Iterator[str]":
    """Yield the paths that fit a pattern, in order; only the names of single steps are patterns."""
    import fnmatch  # noqa: PLC0415

    paths = [""]
    for step in pattern.strip("/").split("/"):
        if "*" in step:
            paths = [one + "/" + name for one in paths for name in fnmatch.filter(sorted(host.names(one)), step)]
        else:
            paths = [one + "/" + step for one in paths]
    return iter(paths)
