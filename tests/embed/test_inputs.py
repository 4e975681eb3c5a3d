"""The files that INPUT means."""

import os
from pathlib import Path
from typing import Any

import pytest

from trtbert.embed.inputs import find_inputs
from trtbert.errors import InputError


def _write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\nw1\n")


def _found(folder: Path) -> list[str]:
    return [str(Path(file.path).relative_to(folder.parent)) for file in find_inputs([str(folder)], folder.parent / "out")]


def test_a_folder_is_searched_through_its_links(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    _write(
        folder / "b.csv",
        folder / "a" / "z.CSV",
        folder / ".c" / "no.csv",
        folder / "_no.csv",
        folder / "no.txt",
        tmp_path / "far" / "c.csv",
    )
    (folder / "d").symlink_to(tmp_path / "far")
    (folder / "e.csv").symlink_to(tmp_path / "f.csv")
    _write(tmp_path / "f.csv")
    assert _found(folder) == ["in/a/z.CSV", "in/b.csv", "far/c.csv", "f.csv"]


def test_a_folder_that_two_links_lead_to_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    _write(folder / "a.csv", tmp_path / "far" / "b.csv")
    (tmp_path / "far" / "back").symlink_to(folder)
    (folder / "x").symlink_to(tmp_path / "far")
    (folder / "y").symlink_to(tmp_path / "far")
    assert _found(folder) == ["in/a.csv", "far/b.csv"]


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "in" / "locked"
    _write(tmp_path / "in" / "a.csv", locked / "b.csv")
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # Root may read a folder of any mode.
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="locked cannot be read: Permission denied"):
        _found(tmp_path / "in")
