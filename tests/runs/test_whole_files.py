"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convoy.runs.whole_files import (
    WriteError,
    append_text,
    copy_partial,
    encoded,
    publish,
    remove_partials,
    replace_text,
)
from convoy.runs.whole_files import write_partial as write

FULL = Path("/dev/full")


def test_a_failed_write_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    replace_text(path, "old")
    with pytest.raises(WriteError) as caught:
        write(path, lambda file: file.write(b"half") and FULL.write_text("x"), 12)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert caught.value.needed_bytes == 12
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_incomplete_row_is_not_appended(tmp_path: Path) -> None:
    """A limit of the file's size cuts the text in its middle, as a full disk does."""
    path = tmp_path / "metrics.csv"
    path.write_text("one\n")
    code = (
        "import resource, signal, sys; from pathlib import Path; from convoy.runs.whole_files import append_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "path = Path(sys.argv[1]); append_text(path, 'two\\n')\n"
        "try: append_text(path, 'three\\n')\nexcept OSError as error: print(type(error).__name__, error.filename)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"WriteError {path}\n"
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_copy_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    if not has_links:
        # As on FAT and some network file systems.
        def link(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    source, copy = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    source.write_bytes(b"new")
    copy.write_bytes(b"old")
    (tmp_path / ".best.ckpt.partial").write_bytes(b"of a killed process")
    partial = copy_partial(source, copy)
    assert copy.read_bytes() == b"old"
    publish(partial, copy)
    assert copy.read_bytes() == b"new"
    assert copy.samefile(source) == has_links
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "best.ckpt"}


def test_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    for name in (".last.ckpt.partial", ".config.yaml.partial", "last.ckpt", ".lock"):
        (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", ".lock"}


def test_texts_are_written_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    replace_text(path, "größe\r\n")
    append_text(path, "1\r\n")
    assert path.read_bytes() == "größe\r\n1\r\n".encode()


WRITER = """
import sys
from pathlib import Path
from convoy.runs.whole_files import replace_shared
for turn in range(150):
    replace_shared(Path("shared.json"), (sys.argv[1] * 2000).encode())
"""


def test_processes_that_write_a_file_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, letter], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for letter in "abc"
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], errors
    assert (tmp_path / "shared.json").read_text() in {letter * 2000 for letter in "abc"}
    assert [path.name for path in tmp_path.iterdir()] == ["shared.json"]


def test_bytes_of_names_that_are_not_utf_8_are_escaped_and_come_back_from_json() -> None:
    name = os.fsdecode(b"gr\xc3\xb6\xc3\x9fe\xff")
    content = encoded(json.dumps(name, ensure_ascii=False))
    assert content == b'"gr\xc3\xb6\xc3\x9fe\\udcff"'
    assert json.loads(content) == name
