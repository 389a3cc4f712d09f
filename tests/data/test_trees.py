"""Folders of any shape: of each file in them, ``predict`` and the readers of data sets say what becomes of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge import Classifier
from pneumo_edge._util.records import encodable
from pneumo_edge.cli import app
from pneumo_edge.data.audit import audit
from pneumo_edge.data.sources import FolderSource
from pneumo_edge.errors import printable
from pneumo_edge.imaging import images
from pneumo_edge.runtime import classifier as runtime
from pneumo_edge.runtime.classifier import Prediction

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")


def _png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((32, 32), 20 + shade).save(stream, "PNG")
    return stream.getvalue()


_CONTENTS = {
    "image": _png(1), "other image": _png(2), "broken": _png(3)[:60], "text": b"a letter", "empty": b"",
    "foreign": b"\0\0\0\x1cftypavif\0\0\0\0", "no preamble": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
}  # fmt: skip
_FOLDERS = [
    "train", "TRAIN", "val", "valid", "test", "NORMAL", "Normal", "PNEUMONIA", "bacteria", "COVID19", "deep", ".hidden",
    "__MACOSX", "two words", os.fsdecode(b"C\xf6vid"), "chest_xray",
]  # fmt: skip
_BEGINNINGS = [
    "",
    "",
    "",
    "IM-",
    "._",
    ".",
    "caf\xe9 ",
    os.fsdecode(b"caf\xe9"),
    "line\n",
    "\u65e5\u672c-",
    "Thumbs.db",
    "'",
]
_ENDINGS = [".png", ".png", ".JPG", ".jfif", "", "", ".txt", ".csv", ".dcm", ".ima", ".avif", ".2.5", ".db", " (1).png"]
_PLANTED = ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA")

#: What is made, where (an index among the folders there are), and with which name.
nodes = st.lists(
    st.tuples(
        st.sampled_from([*_CONTENTS, *_CONTENTS, "folder", "folder", "link", "link", "dangling", "round", "pipe"]),
        st.integers(0, 30),
        st.sampled_from(_BEGINNINGS),
        st.sampled_from(_ENDINGS),
        st.sampled_from(_FOLDERS),
        st.integers(0, 30),
    ),
    max_size=14,
)


def _grow(root: Path, made: list[Any]) -> list[Path]:
    """Make a tree; all files and links in it."""
    folders, leaves = [root], []
    for name in _PLANTED:
        (root / name).mkdir(parents=True)
        folders += [root / name, (root / name).parent]
        leaves.append(root / name / "planted.png")
        leaves[-1].write_bytes(_png(10 + len(leaves)))
    for number, (kind, where, beginning, ending, folder, target) in enumerate(made):
        parent = folders[where % len(folders)]
        path = parent / (f"{beginning}token{number:02}{ending}" if kind != "folder" else folder)
        if os.path.lexists(path):
            continue
        if kind == "folder":
            path.mkdir()
            folders.append(path)
            continue
        if kind == "link":
            # To a folder or to a file, in the tree or beside it.
            path.symlink_to([*folders, *leaves, root.parent / "beside"][target % (len(folders) + len(leaves) + 1)])
        elif kind == "dangling":
            path.symlink_to("nowhere")
        elif kind == "round":
            path.symlink_to(path.name)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(_CONTENTS[kind])
        leaves.append(path)
    return leaves


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trees")
    (place / "beside").mkdir()
    (place / "beside" / "tokenXX.png").write_bytes(_png(9))
    return place


@pytest.fixture(scope="module", autouse=True)
def decoding_alone() -> Iterator[None]:
    """Images are decoded as ever, and all get the answer that the bundled model gave once."""
    loaded = Classifier()
    answer = loaded.predict(Image.new("L", (64, 64), 99))
    patch = pytest.MonkeyPatch()
    patch.setattr(runtime, "Classifier", lambda *_, **__: loaded)

    def predict(path: Path, *, explain: bool = False) -> Prediction:
        images.decode(images.read(path))
        return replace(answer, source=str(path))

    patch.setattr(loaded, "predict", predict)
    yield
    patch.undo()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_under(path: Path, folders: set[Path]) -> bool:
    return any(parent in folders for parent in (path, *path.parents))


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nodes)
def test_every_file_is_judged_used_or_named(place: Path, made: list[Any]) -> None:
    root = place / "root"
    shutil.rmtree(root, ignore_errors=True)
    leaves = _grow(root, made)
    _check_predict(root, leaves)
    _check_readers(root, leaves)


def _check_predict(root: Path, leaves: list[Path]) -> None:
    result = CliRunner().invoke(app, ["predict", str(root), "--json", "--workers", "1"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    answers = json.loads(result.stdout)["images"]
    judged = [Path(answer["source"]) for answer in answers]
    lines = result.stderr.splitlines()
    assert all(line.startswith(("error: ", "note: ", "warning: ")) for line in lines)
    failed = [answer for answer in answers if "error" in answer]
    assert result.exit_code == (4 if failed else 0)
    assert len(failed) == sum(line.startswith("error: ") for line in lines)
    notes = "\n".join(line for line in lines if line.startswith("note: "))
    # Nothing twice, whichever way it is reached.
    assert max(Counter((os.path.realpath(path.parent), path.name) for path in judged).values()) == 1
    for leaf in leaves:
        # A folder that is passed over is named, and what is in it goes without saying.
        trail = [leaf, *(parent for parent in leaf.parents if root in parent.parents)]
        named = any(printable(path.relative_to(root)) in notes for path in trail)
        assert Path(encodable(str(leaf))) in judged or named or _is_folder(leaf), leaf


def _check_readers(root: Path, leaves: list[Path]) -> None:
    source = FolderSource(root)
    used = [source.path(sample) for sample in source.samples]
    assert max(Counter((os.path.realpath(path.parent), path.name) for path in used).values()) == 1
    assert len({sample.name for sample in source.samples}) == len(used)
    shown = {os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace"): path for path in _walk(root)}
    passed_over = {shown[name.rstrip("/")] for name in source.passed_over if name.rstrip("/") in shown}
    for leaf in leaves:
        assert leaf in used or _is_under(leaf, passed_over) or _is_folder(leaf), leaf
    for sample in source.samples:
        # In a folder that means the split and the class, never in one of another.
        parts = [part.casefold() for part in Path(sample.name).parts]
        assert parts[0].startswith(sample.split)
        assert parts[1] in (("normal",), ("pneumonia", "bacteria"))[sample.label]
    found = audit(source)
    manifest = found.training_split
    assert {*found.unreadable} <= {sample.name for sample in source.samples}
    assert found.passed_over == source.passed_over
    if manifest:
        total = sum(sum(of_split.values()) for of_split in manifest.counts.values())
        assert total + len(manifest.left_out) == len(used)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root, followlinks=False):
        yield from (Path(folder, name) for name in (*folders, *files))
