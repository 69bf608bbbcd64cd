"""A disk so small that a test can fill it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory, mounted for one test."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"NOT TESTED: a full disk needs the right to mount one: {done.stderr.strip()}")

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Writes until not one more byte fits."""
        with self.filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                pass
        assert os.statvfs(self.folder).f_bfree == 0

    def free(self) -> None:
        self.filler.unlink()

    def end(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
