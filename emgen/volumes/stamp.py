"""Stored bytes that outlive a power failure, and by what they are known again: size, time and CRC-32C of a file."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import google_crc32c


@dataclass(frozen=True)
class Stamp:
    """What a file holds.

    Attributes:
        size: bytes; -1 of what is no file, or cannot be read.
        mtime_ns: when it was last written, as the file system says.
        crc32c: checksum (Castagnoli) of its bytes.
    """

    size: int
    mtime_ns: int
    crc32c: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The stamp of a file, which is read for it; None where nothing is there."""
        try:
            # in this order: bytes written in between are seen as a change the next time
            status = path.stat()
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return cls(-1, 0, 0)
        return cls(len(data), status.st_mtime_ns, google_crc32c.value(data))

    @classmethod
    def now(cls, path: Path, before: Stamp | None, thorough: bool = False) -> Stamp | None:
        """The stamp of a file as it is now, None where nothing is there.

        Args:
            path: of the file.
            before: its stamp as it was written down. The file is only read where its size or time are others.
            thorough: the file is always read.
        """
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return cls(-1, 0, 0)
        same = before and (before.size, before.mtime_ns) == (status.st_size, status.st_mtime_ns)
        return before if same and not thorough else cls.of(path)

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Self:
        """From what `facts` gave."""
        return cls(facts["size"], facts["mtime_ns"], int(facts["crc32c"], 16))

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"size": self.size, "mtime_ns": self.mtime_ns, "crc32c": f"{self.crc32c:08x}"}


def holds_the_same(one: Stamp | None, other: Stamp | None) -> bool:
    """Whether two stamps are of the same bytes, or both of no file."""
    if one is None or other is None:
        return one is other
    return (one.size, one.crc32c) == (other.size, other.crc32c) and one.size >= 0


def difference(path: Path, before: Stamp | None, now: Stamp | None) -> str:
    """What has become of a file, in words, where its stamps are not of the same bytes."""
    if now is None:
        return f"{path} is gone"
    if now.size < 0:
        return f"{path} is no file, or cannot be read"
    if before is None:
        return f"{path} was not there"
    if now.size != before.size:
        return f"{path} has {now.size} bytes instead of {before.size}"
    return f"{path} holds other bytes than were written"


def compared(
    paths: Iterable[Path], before: tuple[Stamp | None, ...], thorough: bool = False
) -> tuple[str | None, tuple[Stamp | None, ...]]:
    """What is wrong with files, None if they hold what was written; and their stamps as they are now.

    Args:
        paths: of the files.
        before: their stamps as they were written down.
        thorough: they are read even where size and time are those of the stamp.
    """
    stamps = []
    for path, stamp in zip(paths, before, strict=True):
        now = Stamp.now(path, stamp, thorough)
        if not holds_the_same(stamp, now):
            return difference(path, stamp, now), ()
        stamps.append(now)
    return None, tuple(stamps)


def secured(path: Path, top: Path | None = None) -> Stamp | None:
    """The stamp of a file that was just written, once it and its name outlive a power failure; None where none exists.

    Args:
        path: of the file.
        top: the outermost folder whose names may be new, the file's own by default.

    Raises:
        OSError: the disk refuses.
    """
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except FileNotFoundError:
        pass  # a file of zeros alone is not written, and one that was there is removed
    for folder in path.parents:
        if folder.is_dir():
            sync_folder(folder)
        if folder == (top or path.parent):
            break
    return Stamp.of(path)


def clear(path: Path) -> None:
    """Take away what is in the place of a file that is about to be written whole, even a folder, and what a kill left of it.

    Zarr reads what is there before it writes a chunk or shard that the volume's end cuts, and fails where that is torn.
    """
    for left in path.parent.glob(f"{path.stem}.*.partial"):
        left.unlink(missing_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Names of files that were made in a folder, or taken from it, outlive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot, and keep names by themselves
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def replace_with(path: Path, content: bytes) -> None:
    """A file that appears whole or not at all, in place of the one that is there.

    Args:
        path: of the file; its folder is made.
        content: all of its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        secured(partial)
        partial.replace(path)
        secured(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
