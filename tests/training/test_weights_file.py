"""A file of weights is loaded whole, or refused with the true reason."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumo_edge.training import weights_file
from pneumo_edge.training.weights_file import DoesNotFitError

pytestmark = pytest.mark.slow

Network = Any


def _network(keras: Any, seed: int, channels: int = 4, top: int = 0) -> Network:
    image = keras.Input((8, 8, 3))
    tensor = keras.layers.Normalization()(image)
    tensor = keras.layers.Conv2D(channels, 3, name="first", use_bias=False)(tensor)
    tensor = keras.layers.BatchNormalization()(tensor)
    tensor = keras.layers.Conv2D(channels, 3, name="second")(keras.layers.Dropout(0.5)(tensor))
    if top:
        tensor = keras.layers.Dense(top)(keras.layers.GlobalAveragePooling2D()(tensor))
    network = keras.Model(image, tensor)
    random = np.random.default_rng(seed)
    network.set_weights([np.asarray(random.uniform(0.5, 1.5, array.shape)) for array in network.get_weights()])
    network.layers[1].finalize_state()
    return network


def _weights(network: Network) -> list[npt.NDArray[np.float32]]:
    return [np.asarray(array, np.float32) for array in network.get_weights()]


@pytest.fixture(scope="module")
def saved(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "whole.weights.h5"
    _network(keras, 1).save_weights(path)
    return path


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["whole.weights.h5", "whole.h5", "whole.keras", "whole.bin"])
def test_every_way_of_saving_is_taken_by_what_the_file_holds(keras: Any, name: str, tmp_path: Path) -> None:
    source, target = _network(keras, 1), _network(keras, 2)
    path = tmp_path / name
    if name.endswith(".weights.h5"):
        source.save_weights(path)
    elif name.endswith(".bin"):
        source.save_weights(tmp_path / "x.weights.h5")
        shutil.move(tmp_path / "x.weights.h5", path)
    else:
        source.compile("adam", "mse")
        source.save(path)
    weights_file.load(target, path)
    for one, other in zip(_weights(source), _weights(target), strict=True):
        np.testing.assert_array_equal(one, other)
    pixels = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(source.predict(pixels, verbose=0), target.predict(pixels, verbose=0))


def _of_another_network(**options: int) -> Callable[[Any, Path], None]:
    def make(keras: Any, folder: Path) -> None:
        _network(keras, 1, **options).save_weights(folder / "bad.weights.h5")

    return make


def _archive(keras: Any, folder: Path) -> None:
    np.savez(folder / "bad.npz", kernel=np.ones(3))


def _parts(keras: Any, folder: Path) -> None:
    whole = _network(keras, 1)
    keras.Model(whole.input, whole.get_layer("first").output).save_weights(folder / "bad.weights.h5")


def _text(keras: Any, folder: Path) -> None:
    (folder / "bad.weights.h5").write_text("version https://git-lfs.github.com/spec/v1")


def _empty(keras: Any, folder: Path) -> None:
    (folder / "bad.weights.h5").touch()


def _no_groups(keras: Any, folder: Path) -> None:
    pytest.importorskip("h5py").File(folder / "bad.h5", "w").close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_of_another_network(channels=5), "it has 10 arrays, the network 10; 7 of shapes"),
        (_of_another_network(top=2), "2 of shapes [4, 2], [2] are not in the network"),
        (_parts, "it has 4 arrays, the network 10; 6 of shapes"),
        (_archive, "it has 0 arrays, the network 10"),
        (_text, "cannot be read"),
        (_empty, "cannot be read"),
        (_no_groups, "it has 0 arrays"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_differs(
    keras: Any, make: Callable[[Any, Path], None], said: str, tmp_path: Path
) -> None:
    make(keras, tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises(DoesNotFitError) as caught:
        weights_file.load(_network(keras, 2), path)
    assert said in str(caught.value)


@settings(max_examples=60)
@given(data=st.data())
def test_no_file_is_loaded_in_part(keras: Any, saved: Path, data: st.DataObject) -> None:
    """A whole file with one thing changed: the network has all of it, or the file is refused."""
    h5py = pytest.importorskip("h5py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.weights.h5"
        shutil.copy(saved, path)
        change = data.draw(st.sampled_from(["cut", "drop", "group", "add", "grow", "nan", "move", "none"]))
        if change == "cut":
            content = path.read_bytes()
            path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        else:
            with h5py.File(path, "a") as file:
                _change(file, change, data, h5py)
        network = _network(keras, 2)
        if change == "none":
            weights_file.load(network, path)
            assert not any(
                (one == other).all() for one, other in zip(_weights(network), _weights(_network(keras, 2)), strict=True)
            )
        else:
            with pytest.raises(DoesNotFitError):
                weights_file.load(network, path)


def _change(file: Any, change: str, data: st.DataObject, h5py: Any) -> None:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    name = data.draw(st.sampled_from(sorted(each for each in names if "seed_generator" not in each)))
    values = np.asarray(file[name])
    if change in ("drop", "grow", "nan"):
        del file[name]
    if change == "grow":
        file[name] = np.zeros((*values.shape, 2), np.float32)
    elif change == "nan":
        file[name] = np.full(values.shape, np.nan, np.float32)
    elif change == "add":
        file[name + "9"] = values
    elif change == "group":
        del file[name.partition("/vars")[0]]
    elif change == "move":
        file.move(name, "layers/elsewhere/vars/0")
