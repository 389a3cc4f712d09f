"""``score`` from and to an object store: moto's S3 on loopback, on this machine and on a cluster of four nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pneumo_edge import Classifier, score
from pneumo_edge.cli import app
from pneumo_edge.scale import listing, stores
from pneumo_edge.scale.cluster import ActorWorker
from pneumo_edge.scale.run import ScoreManifest
from tests.scale import archives

pytest.importorskip("s3fs", reason="the extra 'scale' is not installed")
pytest.importorskip("moto", reason="the extra 'dev' is not installed")
pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
pytestmark = pytest.mark.slow

_BUCKET = "xrays"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archives.draw(tmp_path_factory.mktemp("archive") / "images")


@pytest.fixture(scope="module")
def local(classifier: Classifier, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoreManifest:
    return archives.score_here(classifier, archive, tmp_path_factory.mktemp("local") / "out")[1]


@pytest.fixture(scope="module")
def store(archive: Path) -> Iterator[Any]:
    """An object store with the archive; processes that start later find it by their environment."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("NO_PROXY", "127.0.0.1")
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir(_BUCKET)
        for name in archives.NAMES:
            system.pipe_file(f"{_BUCKET}/archive/{name}", (archive / name).read_bytes())
        system.pipe_file(f"{_BUCKET}/archive/notes.txt", b"no image")
        yield system
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_results_from_and_to_a_store_are_those_of_a_folder(
    classifier: Classifier,
    archive: Path,
    store: Any,
    local: ScoreManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = f"s3://{_BUCKET}/archive"
    _, to_disk = archives.score_here(classifier, source, tmp_path / "out")
    assert to_disk.rows_sha256 == local.rows_sha256
    store.put(str(archives.tar(archive, tmp_path / "shard.tar")), f"{_BUCKET}/tars/shard.tar")
    found, _ = archives.score_here(classifier, f"s3://{_BUCKET}/tars", tmp_path / "tars")
    assert [row["name"] for row in found] == [f"shard.tar/{name}" for name in archives.NAMES]
    # A pattern, and pages of a long listing.
    assert [entry.name for entry, _ in listing.entries(listing.open_source(f"{source}/a/*.png"))] == ["0.png", "1.png"]
    call = store.call_s3
    monkeypatch.setattr(
        type(store), "call_s3", lambda self, method, **given: call(method, **{**given, "MaxKeys": 2}), raising=True
    )
    opened = listing.open_source(source)
    whole = list(listing.entries(opened))
    assert [entry.name for entry, _ in whole] == sorted(archives.NAMES)
    for number, (_, cursor) in enumerate(whole):
        assert list(listing.entries(opened, cursor)) == whole[number + 1 :]


def test_every_key_has_a_row(classifier: Classifier, store: Any, tmp_path: Path) -> None:
    names = ["/abs.png", "a/../1.png", "a/./0.png", "a//2.png", "b.png"]
    for number, name in enumerate(names):
        store.call_s3("put_object", Bucket=_BUCKET, Key=f"odd/{name}", Body=archives.content(number))
    found, manifest = archives.score_here(classifier, f"s3://{_BUCKET}/odd", tmp_path / "out")
    assert [row["name"].removeprefix(f"s3://{_BUCKET}/odd/") for row in found] == names
    assert not manifest.errors, [row["error"] for row in found]
    for number, row in enumerate(found):
        assert row["probabilities"] == list(classifier.predict(archives.content(number)).probabilities.values())


def test_of_two_plans_in_a_store_the_first_is_kept(store: Any) -> None:
    found = stores.of(f"s3://{_BUCKET}")
    assert found.create(f"s3://{_BUCKET}/once/plan.json", b"one")
    assert not found.create(f"s3://{_BUCKET}/once/plan.json", b"two")
    assert found.read(f"s3://{_BUCKET}/once/plan.json") == b"one"
    # Also where another has written it since this one looked.
    with pytest.raises(FileExistsError):
        found._create(f"s3://{_BUCKET}/once/plan.json", b"two")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        ("s3://no-such-bucket/x", "out", "s3://no-such-bucket/x does not exist"),
        (f"s3://{_BUCKET}/nothing", "out", f"s3://{_BUCKET}/nothing does not exist"),
        (f"s3://{_BUCKET}/archive", "s3://no-such-bucket/out", "written: s3://no-such-bucket does not exist"),
        ("nosuch://x/y", "out", "nosuch:// is no protocol"),
    ],
)
@pytest.mark.usefixtures("store")
def test_address_that_is_not_there_is_told_in_one_line(
    source: str, place: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["score", source, "--out", place])
    assert result.exit_code == 3, result.output
    (line,) = result.stderr.strip().splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_cluster_of_four_nodes_gives_the_same_rows_though_one_is_lost(
    store: Any, local: ScoreManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes = {node.node_id: node for node in [cluster.add_node(num_cpus=1) for _ in range(3)]}
        cluster.wait_for_nodes()
        call, lock = ActorWorker.__call__, threading.Lock()
        lost: list[str] = []

        def call_and_lose_a_node(self: Any, task: Any) -> Any:
            if self._actor is None and not lost:
                self._start()
            with lock:
                if self.node in nodes and not lost:
                    lost.append(self.node)
                    cluster.remove_node(nodes[self.node], allow_graceful=False)
            return call(self, task)

        monkeypatch.setattr(ActorWorker, "__call__", call_and_lose_a_node)
        place = f"s3://{_BUCKET}/scored"
        found = score(f"s3://{_BUCKET}/archive", place, shard_size=archives.SHARD_SIZE, address=cluster.address)
        assert len(lost) == 1
        assert found.manifest.rows_sha256 == local.rows_sha256
        store.invalidate_cache()
        written = {path.rpartition("/")[2] for path in store.glob(f"{found.folder}/*.parquet")}
        assert written == {shard.file for shard in found.manifest.shards}
    finally:
        cluster.shutdown()
