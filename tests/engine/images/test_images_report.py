"""The lines of a layer."""

from __future__ import annotations

from gitops.engine.images import report
from gitops.objects import base, image


def lines() -> tuple[list[image.Progress], report.LayerReport]:
    sent: list[image.Progress] = []
    return sent, report.LayerReport(sent.append, "0123456789ab")


def test_the_last_byte_ends_the_download_once() -> None:
    sent, layer = lines()
    for current in (0, 50, 100, 100):
        layer.fetched(current, 100)
    layer.unpacked(100)
    assert [line.status for line in sent] == [
        "Downloading",
        "Downloading",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Extracting",
    ]


def test_counts_come_now_and_then_only() -> None:
    sent, layer = lines()
    for current in range(10_000):
        layer.fetched(current, 10_000)
    assert len(sent) < 100


def test_a_retry_starts_the_story_again() -> None:
    sent, layer = lines()
    layer.fetched(10, 10)
    layer.retrying(0.2)
    layer.restarted()
    layer.fetched(10, 10)
    assert [line.status for line in sent].count("Download complete") == 2
    assert "Retrying in 1 seconds" in [line.status for line in sent]


def test_a_line_has_the_apis_shape() -> None:
    sent, layer = lines()
    layer.fetched(5, 10)
    assert base.to_builtins(sent[0]) == {
        "status": "Downloading",
        "id": "0123456789ab",
        "progressDetail": {"current": 5, "total": 10},
    }
