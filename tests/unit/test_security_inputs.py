"""What comes from outside: archives unpack into memory and no further, and addresses in it are never asked.

``Witness`` is a real server: whoever asked it would be found out.
"""

import gzip
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from rewardloop.config import NotificationSettings, Settings, WebhookSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore
from rewardloop.modeling.remote_scorer import RemoteScorer
from rewardloop.operation.signatures import Secrets
from rewardloop.operation.webhooks import make_app
from rewardloop.reporting.notifications import notify
from rewardloop.storage import Storage
from rewardloop.tracking.manifest import verify_manifest, write_manifest

KEY = b"a key that is long enough"


class Witness(BaseHTTPRequestHandler):
    """Notes every request; sends it on to ``target`` where one is set."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        target = self.server.target  # type: ignore[attr-defined]
        self.send_response(307 if target else 200)
        if target:
            self.send_header("Location", f"{target}{self.path}")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_HEAD = do_PUT = _answer

    def log_message(self, *arguments: object) -> None:
        pass


def _serve() -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Witness)
    server.asked, server.target = [], None  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def witness() -> Iterator[ThreadingHTTPServer]:
    server = _serve()
    yield server
    server.shutdown()
    server.server_close()


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def _settings(**sections: object) -> Settings:
    return Settings.model_validate({"organization": "org", "model": {"base": "random:tiny"}, **sections})


def test_the_limit_on_what_unpacks_is_a_setting(tmp_path: Path) -> None:
    """A gigabyte of nothing in a megabyte, and a zip of such, are refused before they are in memory."""
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"0" * 3_000_000))
    nested = tmp_path / "bomb.zip"
    with zipfile.ZipFile(nested, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.gz", gzip.compress(b"0" * 3_000_000))
    store = FeedbackStore.open(str(tmp_path / "store"))
    for path in (bomb, nested):
        with pytest.raises(
            BadInputError, match=r"more than 1,000,000 bytes are left to read .*\(store\.max_read_bytes\)"
        ):
            ingest([path], store, _settings(store={"max_read_bytes": 1_000_000}), key=KEY)
    assert not (tmp_path / "store" / "batches").exists()


def test_links_and_ways_out_of_an_archive_write_and_read_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("id,text\n1,secret\n")
    path = tmp_path / "inside" / "links.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.csv")
        link.create_system, link.external_attr = 3, (0o120777 << 16)
        archive.writestr(link, "../secret.csv")
        archive.writestr("../../out.csv", "id,text\n1,a\n")
        archive.writestr("/abs/out.csv", "id,text\n1,a\n")
    sources = read_sources([path])
    # A link is its own text: where it points, not what lies there.
    assert [(source.name, source.text) for source in sources] == [
        ("links.zip/link.csv", "../secret.csv"),
        ("links.zip/out.csv", "id,text\n1,a\n"),
        ("links.zip/out.csv", "id,text\n1,a\n"),
    ]
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["inside", "links.zip", "secret.csv"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_archives_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "labels.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("../../evil.csv")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"a,b"))
    with pytest.raises(BadInputError, match=r"labels\.tar: is a tar archive; give its files"):
        read_sources([path])


def test_addresses_in_feedback_are_texts(tmp_path: Path, witness: ThreadingHTTPServer) -> None:
    """In every field that a row has: prompt, responses, labeler, segment, and fields that nobody knows."""
    url = f"{_url(witness)}/feedback"
    rows = [
        {
            "prompt": f"What is on {url}?",
            "chosen": f"![picture]({url}/{number}) <img src='{url}'>",
            "rejected": f"file:///etc/passwd and s3://bucket/{number}",
            "labeler": url,
            "segment": url,
            "image": url,
        }
        for number in range(20)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ingest([path], FeedbackStore.open(str(tmp_path / "store")), _settings(), key=KEY)
    assert report.summary
    with pytest.raises(BadInputError, match="cannot be read"):
        read_sources([Path(url)])
    assert witness.asked == []  # type: ignore[attr-defined]


def test_addresses_in_a_webhook_are_not_asked(tmp_path: Path, witness: ThreadingHTTPServer) -> None:
    url = f"{_url(witness)}/webhook"
    woken: list[str] = []
    known = Secrets.read({"REWARDLOOP_LABEL_STUDIO_SECRET": "a secret that is long enough"})
    app = make_app(
        WebhookSettings(), known, Storage.open(str(tmp_path)), wake=woken.append, approve=lambda *_: "", say=print
    )
    body = {"action": "ANNOTATION_CREATED", "export_url": url, "task": {"data": {"image": url}}, "callback": url}
    with TestClient(app) as client:
        headers = {"X-Label-Studio-Secret": "a secret that is long enough", "Referer": url, "X-Forwarded-Host": url}
        answer = client.post("/v1/webhooks/label-studio", json=body, headers=headers)
    assert answer.status_code == 202
    assert len(woken) == 1
    assert url not in woken[0]
    assert witness.asked == []  # type: ignore[attr-defined]


def test_addresses_in_a_manifest_are_names_of_files(tmp_path: Path, witness: ThreadingHTTPServer) -> None:
    (tmp_path / "scoring.json").write_text(json.dumps({"base": f"{_url(witness)}/base"}))
    digest = write_manifest(tmp_path)
    verify_manifest(tmp_path, digest)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({f"{_url(witness)}/weights": "0" * 64, "../../etc/passwd": "0" * 64}))
    with pytest.raises(RewardloopError, match="the manifest is not the registered one"):
        verify_manifest(tmp_path, digest)
    assert witness.asked == []  # type: ignore[attr-defined]


def test_a_reward_model_that_points_elsewhere_is_not_followed(witness: ThreadingHTTPServer) -> None:
    """People's texts go to the address of the configuration alone."""
    other = _serve()
    witness.target = _url(other)  # type: ignore[attr-defined]
    try:
        with pytest.raises(BadInputError, match="/health answered 307"):
            RemoteScorer.connect(_url(witness), expected_digest=None, timeout_seconds=5)
        scorer = RemoteScorer(_url(witness), digest="0" * 64, scoring={}, timeout_seconds=5)
        with pytest.raises(RewardloopError, match="/score answered 307"):
            scorer.raw_scores([[]], ["a text"])
        assert other.asked == []  # type: ignore[attr-defined]
        assert witness.asked == ["GET /health", "POST /score"]  # type: ignore[attr-defined]
    finally:
        other.shutdown()
        other.server_close()


def test_a_notification_does_not_follow_where_it_is_sent_on(
    witness: ThreadingHTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _serve()
    witness.target = _url(other)  # type: ignore[attr-defined]
    try:
        url = f"json://user:hunter2@127.0.0.1:{witness.server_address[1]}/token?+X-Token=abcdef"
        notify(NotificationSettings(), "failed", "a title", "a body", [url])
        assert witness.asked == ["POST /token"]  # type: ignore[attr-defined]
        assert other.asked == []  # type: ignore[attr-defined]
        said = capsys.readouterr().err
        assert "the server refused it or did not answer" in said
        assert "hunter2" not in said
        assert "abcdef" not in said
    finally:
        other.shutdown()
        other.server_close()
