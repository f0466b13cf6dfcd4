"""The folder that builds are kept in: complete entries only, readable by any number of processes at once.

An entry is a folder with a manifest (`build.json`) that lists its files and their sizes. It is written in a scratch
folder and renamed, so that what an interrupted process leaves is never an entry.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eegen.errors import EegenFailure

MANIFEST = "build.json"
SCRATCH_LIFE = 24 * 3600.0  # seconds
FAILURE_LIFE = 7 * 24 * 3600.0

_noted: set[str] = set()  # folders that a note was printed about


def cache_dir() -> Path:
    """The preferred folder: EEGEN_CACHE, or eegen in the user's cache folder. It may not exist yet."""
    if given := os.environ.get("EEGEN_CACHE"):
        return Path(given).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "eegen"
    if (xdg := os.environ.get("XDG_CACHE_HOME")) and os.path.isabs(xdg):
        return Path(xdg) / "eegen"
    return Path.home() / ".cache" / "eegen"


def fallback_dir() -> Path:
    """The folder used where `cache_dir` cannot be written to."""
    return Path(tempfile.gettempdir()) / f"eegen-{os.getuid()}"


def writable_dir() -> Path:
    """`cache_dir` if it can be written to, else `fallback_dir` with one note on stderr."""
    wanted = cache_dir()
    try:
        _make_usable(wanted)
        return wanted
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(wanted) from error
        reason = error.strerror or str(error)
    other = fallback_dir()
    try:
        other.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_usable(other)
    except OSError as error:
        raise EegenFailure(
            f"no folder to build in: {wanted} ({reason}) and {other} ({error.strerror or error}) cannot be written to;"
            " set EEGEN_CACHE to a folder that can"
        ) from error
    if not is_private(other):
        other = Path(tempfile.mkdtemp(prefix="eegen-"))
    if str(wanted) not in _noted:
        _noted.add(str(wanted))
        print(f"note: the cache {wanted} cannot be written to ({reason}); building in {other}", file=sys.stderr)
    return other


def readable_dirs() -> list[Path]:
    """The folders whose entries may be loaded, the preferred one first."""
    return [cache_dir()] + [folder for folder in (fallback_dir(),) if is_private(folder)]


def is_private(folder: Path) -> bool:
    """Whether only this user can write to `folder`; anyone can make a folder in the system's temporary one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def no_space(folder: Path) -> EegenFailure:
    """The error for a full disk."""
    return EegenFailure(f"no space left in {folder}: free some, or set EEGEN_CACHE to a folder that has it")


def read_entry(folder: Path) -> dict[str, Any] | None:
    """The manifest of the entry `folder`, or None if it is not there or incomplete."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for name, size in manifest["files"].items():
            if os.stat(folder / name).st_size != size or size == 0:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if isinstance(manifest, dict) else None


def publish(scratch: Path, entry: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Make the files in `scratch` the entry `entry` and return its manifest; if another process was first, its entry is
    kept."""
    files = {item.name: item.stat().st_size for item in sorted(scratch.iterdir())}
    (scratch / MANIFEST).write_text(json.dumps({**facts, "files": files}), encoding="utf-8")
    entry.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(8):
        try:
            os.rename(scratch, entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if read_entry(entry) is None:
                with contextlib.suppress(OSError):
                    os.rename(entry, scratch.with_name(f"{scratch.name}-damaged-{attempt}"))
                continue
        if (manifest := read_entry(entry)) is not None:
            return manifest
        break
    raise EegenFailure(f"{entry} could not be put in place: delete it and try again")


@contextlib.contextmanager
def scratch_dir(root: Path) -> Iterator[Path]:
    """A new folder beside the entries, deleted afterwards; deletes what older runs left, too."""
    parent = root / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    _clear(parent, SCRATCH_LIFE)
    _clear(root / "failed", FAILURE_LIFE)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        for left in parent.glob(f"{folder.name}*"):
            shutil.rmtree(left, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that no reader sees part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def usage(root: Path) -> tuple[int, int]:
    """(entries, bytes) kept in the cache `root`."""
    entries = sum(1 for _ in root.glob(f"builds/*/{MANIFEST}"))
    size = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return entries, size


def _make_usable(folder: Path) -> None:
    """Create `folder` and write a file there: a mount can be read-only where the folder's mode is not."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".probe-", dir=folder)
    os.close(handle)
    os.unlink(name)


def _clear(folder: Path, life: float) -> None:
    """Delete what was last changed in `folder` more than `life` seconds ago."""
    oldest = time.time() - life
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.lstat().st_mtime >= oldest:
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink()
