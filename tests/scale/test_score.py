from __future__ import annotations

import contextlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pneumo_edge import Classifier, PneumoEdgeError, score
from pneumo_edge.cli import app
from pneumo_edge.errors import ArgumentError
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import listing, plan, rows, run, shards
from pneumo_edge.scale.rows import ShardCounts
from pneumo_edge.scale.run import ScoreManifest
from tests.scale import archives

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

#: The rows, and the manifest.
_Scored = tuple[list[dict[str, Any]], ScoreManifest]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archives.draw(tmp_path_factory.mktemp("archive") / "images")


@pytest.fixture(scope="module")
def scored(classifier: Classifier, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> _Scored:
    return archives.score_here(classifier, archive, tmp_path_factory.mktemp("scored") / "out")


def test_rows_are_those_of_predict(classifier: Classifier, archive: Path, scored: _Scored) -> None:
    found, _ = scored
    assert [row["name"] for row in found] == list(archives.NAMES)
    for row in found:
        try:
            expected = classifier.predict(archive / row["name"])
        except PneumoEdgeError as error:
            assert (row["error"], row["error_kind"]) == (str(error), type(error).__name__)
            assert row["label"] is row["probabilities"] is row["distance"] is None
            continue
        assert row["label"] == expected.label
        assert row["probabilities"] == list(expected.probabilities.values())
        assert row["distance"] == expected.distance
        assert (row["uncertain"], row["out_of_distribution"]) == (expected.uncertain, expected.out_of_distribution)
        assert row["error"] is row["error_kind"] is None
        assert min(row[name] for name in rows.TIMES) > 0
    assert [row["folder"] for row in found] == ["a-b", "a", "a", "a/deep", "b", "b", "c"]
    assert [row["shard"] for row in found] == [0, 0, 0, 1, 1, 1, 2]


def test_manifest_has_no_number_of_what_was_not_measured(classifier: Classifier, scored: _Scored) -> None:
    shard = ShardCounts(0, 3, {"NORMAL": 3}, 0, 0, {}, "", 1.0)
    spec = replace(classifier.spec, conformal=None, input_check=None)
    job = run.Job("", plan.Plan(2, listing.Source("", "", "tree"), 3), PredictorIdentity.of(classifier))
    manifest = run._manifest(job, [("file", shard)], spec)
    assert manifest.uncertain is manifest.out_of_distribution is None
    assert scored[1].uncertain is not None and scored[1].threshold == classifier.spec.decision.threshold


def test_manifest_counts_the_rows(scored: _Scored) -> None:
    found, manifest = scored
    labels = [row["label"] for row in found if row["label"]]
    assert manifest.images == len(found) == 7
    assert manifest.labels == {label: labels.count(label) for label in sorted(set(labels))}
    assert manifest.errors == {"NotAnImageError": 1}
    assert manifest.out_of_distribution == sum(bool(row["out_of_distribution"]) for row in found)
    assert [shard.rows for shard in manifest.shards] == [3, 3, 1]


def test_processes_give_the_same_rows_and_a_second_call_scores_what_is_missing(
    archive: Path, tmp_path: Path, scored: _Scored
) -> None:
    place = tmp_path / "out"
    first = score(archive, place, workers=2, shard_size=archives.SHARD_SIZE)
    assert first.images == 7
    assert first.manifest.rows_sha256 == scored[1].rows_sha256
    assert archives.answers(archives.read_rows(first.folder, first.manifest)) == archives.answers(scored[0])
    # Nothing is left to do; then one file is lost.
    assert score(archive, place, shard_size=archives.SHARD_SIZE).images == 0
    folder = Path(first.folder)
    lost = folder / first.manifest.shards[1].file
    lost.unlink()
    kept = folder / first.manifest.shards[0].file
    written = kept.stat().st_mtime_ns
    told: list[str] = []
    again = score(archive, place, shard_size=archives.SHARD_SIZE, tell=told.append)
    assert again.images == 3 and lost.exists() and kept.stat().st_mtime_ns == written
    assert again.manifest.rows_sha256 == first.manifest.rows_sha256
    assert "note: 4 of 7 images are scored already" in told


def test_images_without_an_answer_are_named_and_scored_again_when_their_cause_is_mended(tmp_path: Path) -> None:
    archive = archives.draw(tmp_path / "in", ["0.png", "1.png", "2.png", "3.png"])
    paths = tmp_path / "list.txt"
    paths.write_text("".join(f"in/{name}\n" for name in ("0.png", "1.png", "later.png", "2.png", "3.png")))
    command = ["score", str(paths), "--out", str(tmp_path / "out"), "--workers", "1", "--shard-size", "2"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 4
    assert "warning: 1 image not classified: 1 ImageError\n  " in first.stderr
    assert "later.png: there is no such file" in first.stderr and "add --retry-errors" in first.stderr
    (archive / "later.png").write_bytes(archives.content(9))
    assert CliRunner().invoke(app, command).exit_code == 4
    again = CliRunner().invoke(app, [*command, "--retry-errors"])
    assert again.exit_code == 0, again.stderr
    assert "note: 4 of 5 images are scored already" in again.stderr and "not classified" not in again.stderr
    assert "1 image in" in again.output
    # Nothing is left to retry.
    assert "scored already" not in CliRunner().invoke(app, [*command, "--retry-errors"]).stderr


@pytest.mark.usefixtures("in_this_process")
def test_answers_are_kept_where_images_without_one_are_scored_again(tmp_path: Path) -> None:
    archive = archives.draw(tmp_path / "in", ["0.png", "1.png", "2.png", "3.png"])
    paths = tmp_path / "list.txt"
    paths.write_text("".join(f"in/{name}\n" for name in ("0.png", "1.png", "later.png", "2.png", "3.png")))
    out = tmp_path / "out"
    first = score(paths, out, shard_size=4)
    # All images are out of reach for a while, as on a disk that is not mounted; then one is there that was not.
    archive.rename(tmp_path / "away")
    assert score(paths, out, shard_size=4, retry_errors=True).manifest.rows_sha256 == first.manifest.rows_sha256
    (tmp_path / "away").rename(archive)
    (archive / "later.png").write_bytes(archives.content(9))
    again = score(paths, out, shard_size=4, retry_errors=True)
    assert (again.images, again.manifest.errors) == (1, {})
    assert again.manifest.worker_seconds > first.manifest.worker_seconds
    anew = score(paths, tmp_path / "anew", shard_size=4)
    assert again.manifest.rows_sha256 == anew.manifest.rows_sha256


def test_two_runs_at_once_score_few_shards_twice(classifier: Classifier, tmp_path: Path) -> None:
    archive = archives.draw(tmp_path / "in", [f"{number:02}.png" for number in range(30)])
    planned = plan.make(str(tmp_path / "out"), listing.open_source(str(archive)), 1, lambda images: None)
    job = run.Job(str(tmp_path / "out"), planned, PredictorIdentity.of(classifier))
    scored = [0]

    def together(task: shards.Task) -> ShardCounts:
        # Both are equally fast.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(60)
        scored[0] += 1
        (Path(job.folder) / task.file).touch()
        return rows.count(task.shard, [], 0.0)

    def score_all(_: int) -> None:
        run.score(job, set(), [archives.Here(together)], lambda counts: None)
        both.abort()

    for _ in range(8):
        shutil.rmtree(job.folder, ignore_errors=True)
        Path(job.folder).mkdir()
        both = threading.Barrier(2)
        with ThreadPoolExecutor(2) as runs:
            list(runs.map(score_all, range(2)))
    # Were both to go along with each other from where they meet, it would be 360 on average.
    assert 240 <= scored[0] < 300


def test_none_stands_for_the_default_and_other_kinds_are_refused(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    call = partial(score, archive / "b", place, workers=1)
    assert call(model=None, column=None, day=None).images == 2
    assert call().images == 0
    with pytest.raises(ArgumentError, match="day is 5; expected the name of a column"):
        call(day=5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="address of a web server, into which no data set can be written"):
        score(archive, "https://127.0.0.1/out")


def test_another_model_writes_beside(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    folders = {
        score(archive / "b", place, model=model, workers=1).folder for model in ("mobilenetv2", "efficientnetb0")
    }
    assert {Path(folder) for folder in folders} == set(place.glob("model=*"))
    assert len(folders) == 2


@pytest.mark.parametrize("kind", ["tar", "bytes", "struct", "paths", "list", "pattern"])
def test_every_form_of_an_archive_gives_the_same_answers(
    classifier: Classifier, archive: Path, tmp_path: Path, scored: _Scored, kind: str
) -> None:
    contents = [(archive / name).read_bytes() for name in archives.NAMES]
    days = [f"2024-01-0{number + 1}" for number in range(7)]
    column = day = ""
    match kind:
        case "tar":
            source = archives.tar(archive, tmp_path / "shard.tar")
        case "bytes":
            source = archives.table(tmp_path / "t.parquet", {"n": range(7), "x": contents, "when": days})
            day = "when"
        case "struct":
            pictures = [{"bytes": each, "path": name} for name, each in zip(archives.NAMES, contents, strict=True)]
            source, column = archives.table(tmp_path / "t.parquet", {"image": pictures, "other": contents}), "image"
        case "paths":
            paths = [str(archive / name) for name in archives.NAMES]
            source = archives.table(tmp_path / "t.parquet", {"path": paths, "when": days})
            day = "when"
        case "list":
            source = tmp_path / "list.txt"
            source.write_text("".join(f"{archive / name}\n" for name in archives.NAMES))
        case _:
            source = archive / "**/*.png"
    found, _ = archives.score_here(classifier, source, tmp_path / "out", column=column, day=day)
    same = ("shard", "label", "probabilities", "distance", "uncertain", "error", "error_kind")
    assert [[row[name] for name in same] for row in found] == [[row[name] for name in same] for row in scored[0]]
    assert [row["day"] for row in found] == (days if day else [None] * 7)


def test_file_that_changes_or_goes_after_the_listing_costs_its_row(classifier: Classifier, tmp_path: Path) -> None:
    archive = archives.draw(tmp_path / "in", ["0.png", "1.png", "2.png", "3.png"])
    plan.make(str(tmp_path / "out"), listing.open_source(str(archive)), archives.SHARD_SIZE, lambda images: None)
    (archive / "1.png").write_bytes(archives.content(9))
    (archive / "3.png").unlink()
    found, manifest = archives.score_here(classifier, archive, tmp_path / "out")
    assert manifest.errors == {"ChangedError": 1, "ImageError": 1}
    assert found[1]["error"].startswith("the file has changed since the source was listed")
    assert found[3]["error"].startswith("there is no such file")


def _refused(*words: object) -> str:
    result = CliRunner().invoke(app, ["score", *map(str, words)])
    assert result.exit_code == 3, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def test_bad_input_is_told_in_one_line_before_work_begins(archive: Path, tmp_path: Path) -> None:
    empty, place = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    assert "has no images" in _refused(empty, "--out", place)
    assert not place.exists()
    assert "does not exist" in _refused(tmp_path / "nothing", "--out", place)
    (tmp_path / "names.csv").write_text(f"{archive}/a/0.png\n")
    assert "names.csv is no image, and no list by its name" in _refused(tmp_path / "names.csv", "--out", place)
    (tmp_path / "prose.txt").write_text("This is\nno list.\n")
    assert "none of its lines is the path of a file (the first is 'This is')" in _refused(
        tmp_path / "prose.txt", "--out", place
    )
    assert not place.exists()
    assert f"lies within the source {archive}" in _refused(archive, "--out", archive / "scores")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert f"{full} holds other files (such as mine.txt)" in _refused(archive, "--out", full)
    paths = tmp_path / "list.txt"
    paths.write_text(f"{archive}/a/0.png\n")
    assert CliRunner().invoke(app, ["score", str(paths), "--out", str(place)]).exit_code == 0
    assert f"holds the results of another source, {paths}" in _refused(archive, "--out", place)
    assert "has shards of 1,000 images, not of 5" in _refused(paths, "--out", place, "--shard-size", 5)
    paths.write_text(f"{archive}/a/1.png\n")
    assert f"has changed since {place} was begun" in _refused(paths, "--out", place)


def test_usage() -> None:
    result = CliRunner().invoke(app, ["score", "x", "--out", "y", "--shard-size", "0"])
    assert result.exit_code == 2
