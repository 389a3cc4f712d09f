"""The machine's limit, energy, throughput and installed size, each against a truth of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge import bundled
from pneumo_edge._util import extras
from pneumo_edge.benchmarks.measures import energy, installation, limit, throughput
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.supplement.records import Arithmetic
from pneumo_edge.benchmarks.supplement.task import Task, carry_out
from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines import ENGINES, EngineInfo

_UNIT = Unit("a.tflite", "litert", 1)


def test_the_int8_convolution_multiplies_and_adds_what_numpy_does(tmp_path: Path) -> None:
    if not extras.is_installed("ai_edge_litert"):
        pytest.skip("ai-edge-litert is not installed")
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "convolution.tflite"
    limit.write_convolution(path, "int8", side=3, channels=8)
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    image = np.random.default_rng(5).integers(-127, 128, (1, 3, 3, 8)).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    weights = np.random.default_rng(1).integers(-127, 128, (8, 8))
    exact = image.astype(np.int64).reshape(9, 8) @ weights.T / (64 * 127)
    assert np.abs(found.reshape(9, 8) - np.clip(exact, -128, 127)).max() <= 0.5 + 1e-6
    assert np.abs(exact).max() > 3  # the comparison can fail


@pytest.mark.parametrize("arithmetic", ["int8", "float32"])
def test_the_convolution_has_as_many_multiply_adds_as_its_rate_counts(arithmetic: Arithmetic, tmp_path: Path) -> None:
    if not extras.is_installed("ai_edge_litert"):
        pytest.skip("ai-edge-litert is not installed")
    path = tmp_path / "convolution.tflite"
    limit.write_convolution(path, arithmetic, side=4, channels=32)
    graph = engines.load(path, ENGINES["litert"]).read_graph()
    assert graph.multiply_adds == 4**2 * 32**2
    assert dict(graph.operators) == {"CONV_2D": 1}


def test_the_limit_is_the_rate_of_the_fastest_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = iter(np.cumsum([0, 9_000_000, 0, 2_000_000, 0, 5_000_000, 0, 4_000_000, 0, 7_000_000]).tolist())
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    found = limit.matrix_product(limit.LimitTask(1, 0.0, str(tmp_path)))
    assert found.multiply_adds_per_s == pytest.approx(1024**3 / 0.002)


def _powercap(root: Path, **zones: tuple[str, int]) -> Path:
    for folder, (name, microjoules) in zones.items():
        zone = root / folder.replace("_", ":")
        zone.mkdir(parents=True)
        (zone / "name").write_text(name + "\n")
        (zone / "energy_uj").write_text(f"{microjoules}\n")
        (zone / "max_energy_range_uj").write_text("1000000\n")
    return root


def test_energy_is_that_of_all_packages_and_of_nothing_inside_them_twice(tmp_path: Path) -> None:
    root = _powercap(
        tmp_path / "powercap",
        rapl_0=("package-0", 500),
        rapl_0_0=("core", 400),
        rapl_1=("package-1", 999_000),
        rapl_2=("psys", 7),
    )
    (root / "intel-rapl").mkdir()
    meter = energy.Meter(root)
    for zone, microjoules in (("rapl:0", 250_500), ("rapl:0:0", 200_000), ("rapl:1", 1_000), ("rapl:2", 900_000)):
        (root / zone / "energy_uj").write_text(str(microjoules))
    # The second package's counter has started again: 1,000 up to its end, and 1,000 more.
    assert meter.joules() == pytest.approx(0.25 + 0.002)
    assert meter.joules() == 0


def test_energy_of_inference_is_what_is_drawn_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _powercap(tmp_path / "powercap", rapl_0=("package-0", 0))
    counter = root / "rapl:0" / "energy_uj"
    drawn = 0

    def draw(microjoules: int) -> None:
        nonlocal drawn
        drawn += microjoules
        counter.write_text(str(drawn))

    monkeypatch.setattr(time, "sleep", lambda seconds: draw(5_000))
    task = Task(_UNIT, "a.tflite", "none.npy", 20, 0, "")
    found = energy.draw(task, energy.Meter(root), lambda call: draw(1_000))
    assert (found.inferences, found.joules, found.idle_joules) == pytest.approx((20, 0.02, 0.005))


def test_where_there_is_no_energy_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(energy.EnergyUnavailableError, match="the system has no"):
        energy.Meter(tmp_path / "none")
    with pytest.raises(energy.EnergyUnavailableError, match="has no zone of a processor package"):
        energy.Meter(_powercap(tmp_path / "empty", rapl_2=("psys", 7)))
    damaged = _powercap(tmp_path / "damaged", rapl_0=("package-0", 7))
    (damaged / "rapl:0" / "energy_uj").write_text("no number")
    with pytest.raises(energy.EnergyUnavailableError, match="cannot be read"):
        energy.Meter(damaged)


def test_counters_that_only_root_may_read_are_told(tmp_path: Path, obey_permissions: Callable[[], None]) -> None:
    root = _powercap(tmp_path / "powercap", rapl_0=("package-0", 7))
    (root / "rapl:0" / "energy_uj").chmod(0o000)
    meter = "from pneumo_edge.benchmarks.measures.energy import Meter"
    code = f"from pathlib import Path; {meter}; Meter(Path({str(root)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=obey_permissions)
    assert "cannot be read without special rights" in done.stderr


def test_threads_and_processes_go_up_to_the_cores() -> None:
    assert throughput.counts(1) == [1]
    assert throughput.counts(2) == [1, 2]
    assert throughput.counts(6) == [1, 2, 3, 4, 6]
    assert throughput.counts(8) == [1, 2, 3, 4, 8]
    assert throughput.counts(20) == [1, 2, 3, 4, 8, 16, 20]
    assert list(throughput.combinations(2)) == [(1, 1), (2, 1), (1, 2)]


def _task(tmp_path: Path, path: Path) -> Task:
    pixels = tmp_path / "pixels.npy"
    np.save(pixels, np.zeros((2, 224, 224), np.uint8))
    return Task(replace(_UNIT, model=path.name), str(path), str(pixels), 5, 1, str(tmp_path))


def test_processes_infer_side_by_side(tmp_path: Path) -> None:
    task = _task(tmp_path, bundled.path(bundled.DEFAULT))
    found = carry_out(throughput.measure, throughput.ThroughputTask(task, 2, 0.2), "inferring")
    assert (found.unit, found.processes) == (task.unit, 2)
    assert found.inferences >= 2
    assert 0 < found.per_s <= found.inferences / 0.2


def test_a_unit_that_cannot_be_loaded_ends_the_measure_with_its_reason(fake_model: Path, tmp_path: Path) -> None:
    wanted = throughput.ThroughputTask(_task(tmp_path, fake_model), 1, 0.2)
    with pytest.raises(ModelFileError, match="litert cannot load"):
        carry_out(throughput.measure, wanted, "inferring")


def _info(site: Path, name: str) -> Path:
    return site / f"{name.replace('-', '_')}-1.0.dist-info"


def _install(site: Path, name: str, size: int, *requirements: str) -> None:
    """What an installer leaves of a distribution whose one module has so many bytes."""
    module = site / f"{name.replace('-', '_')}.py"
    module.write_bytes(b"#" * size)
    info = _info(site, name)
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {r}" for r in requirements)]
    (info / "METADATA").write_bytes("\n".join(lines).encode())
    (info / "RECORD").write_text(f"{module.name},,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\nlong/gone.py,,9\n")


def _bytes(site: Path, name: str) -> int:
    paths = [site / f"{name.replace('-', '_')}.py", *_info(site, name).iterdir()]
    return sum(path.stat().st_size for path in paths)


def test_installed_size_is_the_distributions_and_that_of_all_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    _install(
        site, "motor", 1000, "Gear_box>=2", "paint; extra == 'pretty'", "winter-tyres; platform_system == 'Arctic'"
    )
    _install(site, "gear-box", 200, "oil")
    _install(site, "oil", 30, "gear.box")
    _install(site, "paint", 4)
    monkeypatch.syspath_prepend(site)
    found = installation.measure(EngineInfo("motor-engine", "motor", "motor", (".tflite",)))
    assert (found.engine, found.distribution, found.version) == ("motor-engine", "motor", "1.0")
    assert found.size_bytes == _bytes(site, "motor")
    assert found.needs == {"gear-box": _bytes(site, "gear-box"), "oil": _bytes(site, "oil")}


def test_an_engines_size_is_that_of_the_files_that_pip_lists() -> None:
    row = next((row for row in ENGINES.values() if extras.is_installed(row.library)), None)
    if row is None:
        pytest.skip("no engine is installed")
    found = installation.measure(row)
    command = [sys.executable, "-m", "pip", "show", "--files", found.distribution]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    head, _, files = shown.partition("Files:\n")
    (folder,) = [line.partition(": ")[2] for line in head.splitlines() if line.startswith("Location: ")]
    paths = {Path(folder, line.strip()).resolve() for line in files.splitlines()}
    assert found.size_bytes == sum(path.stat().st_size for path in paths if path.is_file())
    assert "numpy" in found.needs
