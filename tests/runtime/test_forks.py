"""Classifiers in the children of a process that used them: they answer, and end, and never hang."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge._util import extras
from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime import engines

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_PAIRS = [("tiny-int8.tflite", "litert"), ("tiny-int8.tflite", "tflite-runtime"), ("tiny-fp32.onnx", "onnxruntime")]

#: The parent has used its classifier, and goes on using it and loading others while children use theirs.
_FORKS = """
import os, signal, sys, threading
from PIL import Image
from pneumo_edge import Classifier
model, engine, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
classifier = Classifier(model, engine=engine, threads=threads)
unused = Classifier(model, engine=engine, threads=threads)
image = Image.new("L", (300, 200), 150)
expected = classifier.predict(image).probabilities
unused.predict(image)
going = True
def use():
    while going:
        classifier.predict(image)
def load():
    while going:
        Classifier(model, engine=engine, threads=threads)
others = [threading.Thread(target=use), threading.Thread(target=load)]
for each in others:
    each.start()
ends = []
for number in range(8):
    child = os.fork()
    if not child:
        signal.alarm(60)
        same = classifier.predict(image).probabilities == expected
        # As a process that multiprocessing starts, and as a worker of a web server ends.
        os._exit(not same) if number % 2 else sys.exit(not same)
    ends.append(os.waitpid(child, 0)[1])
going = False
for each in others:
    each.join()
print(ends)
"""

#: As gunicorn does with --preload: the application is made once, its workers are forked, and told to end.
_PRELOAD = """
import os, signal, sys, time
from PIL import Image
from pneumo_edge import Classifier
classifier = Classifier(sys.argv[1], engine=sys.argv[2], threads=2)
image = Image.new("L", (300, 200), 150)
classifier.predict(image)
os.chdir("/")
workers = []
for _ in range(2):
    reading, writing = os.pipe()
    worker = os.fork()
    if not worker:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.alarm(60)
        for _ in range(3):
            os.write(writing, (classifier.predict(image).label + " ").encode())
        while True:
            signal.pause()
    workers.append((worker, reading))
for worker, reading in workers:
    said = b""
    while said.count(b" ") < 3:
        said += os.read(reading, 99)
    os.kill(worker, signal.SIGTERM)
    print(said.decode(), os.waitpid(worker, 0)[1])
"""


def _run(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def _check_installed(engine: str) -> None:
    if not extras.is_installed(engines.ENGINES[engine].library):
        pytest.skip(f"{engine} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("file", "engine"), _PAIRS)
def test_children_answer_and_end_whatever_the_threads_of_their_parent_do(
    tiny_models: Path, file: str, engine: str, threads: int
) -> None:
    _check_installed(engine)
    assert _run(_FORKS, tiny_models / file, engine, threads).strip() == str([0] * 8)


@pytest.mark.parametrize(("file", "engine"), _PAIRS)
def test_workers_of_a_preloaded_application_answer_and_end(tiny_models: Path, file: str, engine: str) -> None:
    _check_installed(engine)
    lines = _run(_PRELOAD, tiny_models / file, engine).splitlines()
    assert lines == ["PNEUMONIA PNEUMONIA PNEUMONIA  0"] * 2


def _judge(classifier: Classifier) -> float:
    return classifier.predict(Image.new("L", (300, 200), 150)).probabilities["PNEUMONIA"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_takes_a_classifier(tiny_models: Path, method: str) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite", threads=2, max_pixels=90_000)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(_judge, [classifier] * 3).get(120) == [_judge(classifier)] * 3


def test_a_copy_that_was_pickled_is_the_same(tiny_models: Path) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite", threads=2, max_pixels=90_000)
    copy = pickle.loads(pickle.dumps(classifier))
    assert (copy.spec, copy.engine.name, copy.engine.threads, copy.max_pixels) == (
        classifier.spec, classifier.engine.name, 2, 90_000,
    )  # fmt: skip
    assert _judge(copy) == _judge(classifier)


def test_another_file_in_its_place_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_models / "tiny-fp32.tflite", path)
    classifier = Classifier(path)
    kept = pickle.dumps(classifier)
    shutil.copy(tiny_models / "tiny-int8.tflite", path)
    with pytest.raises(ModelFileError, match="has changed since another process loaded it"):
        pickle.loads(kept)
    classifier.after_fork()
    with pytest.raises(ModelFileError, match="Make a Classifier in each process"):
        _judge(classifier)
    path.unlink()
    with pytest.raises(ModelFileError):
        _judge(classifier)
