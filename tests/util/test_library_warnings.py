from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge._util import library_warnings
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images


def test_warnings_and_records_of_a_block_are_discarded_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test_chatter")
    library_warnings.keep_unheard(logger.name)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with library_warnings.Unheard():
            warnings.warn("inside", stacklevel=1)
            logger.error("inside")
            with library_warnings.Unheard():
                pass
            warnings.warn("still inside", stacklevel=1)
        assert list(warnings.filters) == filters
        warnings.warn("outside", stacklevel=1)
        logger.error("outside")
    assert [str(each.message) for each in heard] == ["outside"]
    assert caplog.messages == ["outside"]


def test_other_threads_are_heard() -> None:
    inside, done = threading.Event(), threading.Event()

    def be_inside() -> None:
        with library_warnings.Unheard():
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=be_inside)
    thread.start()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        inside.wait(60)
        warnings.warn("outside", stacklevel=1)
        done.set()
        thread.join()
    assert [str(each.message) for each in heard] == ["outside"]


def _tiff_of_many_samples() -> bytes:
    """Pillow logs an error of it before it raises another."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "TIFF")
    data = stream.getvalue()
    at = data.index(b"\x15\x01\x03\x00\x01\x00\x00\x00\x03\x00")
    return data[: at + 2] + b"\x04\x00\x01\x00\x00\x00\x12\x12\x12\x12" + data[at + 12 :]


def _palette_with_transparency() -> bytes:
    """Pillow warns of it."""
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("P").save(stream, "PNG", transparency=bytes(256))
    return stream.getvalue()


@pytest.mark.parametrize("make", [_tiff_of_many_samples, _palette_with_transparency])
def test_a_classifier_says_what_there_is_to_say_alone(
    make: object, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert callable(make)
    data, caught = make(), None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            images.decode(data)
        except ImageError as error:
            caught = error
    assert (caught is None) == (make is _palette_with_transparency)
    assert (caplog.messages, heard, capfd.readouterr().err) == ([], [], "")
    # Whoever makes errors of warnings has the same verdicts.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if caught:
            with pytest.raises(ImageError, match="not an image"):
                images.decode(data)
        else:
            images.decode(data)


def test_a_bad_file_is_one_line_on_standard_error(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    (tmp_path / "bad.tif").write_bytes(_tiff_of_many_samples())
    done = subprocess.run(
        [sys.executable, "-W", "always", "-m", "pneumo_edge", "predict", str(tmp_path / "bad.tif")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'bad.tif'}: this is not an image")
