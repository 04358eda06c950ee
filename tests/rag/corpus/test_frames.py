"""Frames: files beside each other, times inside a span, pictures at times, missing OpenCV."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.frames import (
    frame_times,
    sample_frames,
    subtitles_beside,
    video_beside,
    why_skipped,
)
from rag.errors import CorpusError, MissingExtraError

MP4 = b"\0\0\0\x18ftypisom"


def files(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("subtitles", "video"),
    [
        ("talk.srt", "talk.mp4"),
        ("talk.en.vtt", "talk.webm"),
        ("talk.pt-BR.vtt", "talk.mkv"),
        ("talk.EN_us.srt", "talk.MOV"),
        ("talk.part.one.srt", "talk.part.one.avi"),
        ("talk.en.vtt", "talk.en.mp4"),
    ],
)
def test_a_video_lies_beside_its_subtitles(tmp_path, subtitles, video):
    files(tmp_path, subtitles, video, "other.mp4")
    assert video_beside(tmp_path / subtitles) == tmp_path / video
    assert subtitles_beside(tmp_path / video) == [tmp_path / subtitles]


@pytest.mark.parametrize("other", ["talks.mp4", "tal.mp4", "talk.draft.mp4"])
def test_another_name_is_another_recording(tmp_path, other):
    files(tmp_path, "talk.srt", "talk.draft2.srt", other)
    files(tmp_path, "talk.m4a")
    assert video_beside(tmp_path / "talk.srt") is None
    assert subtitles_beside(tmp_path / other) == []


@pytest.mark.parametrize(
    "subtitles", ["talk.draft.srt", "talk.e.srt", "talk.v2.srt", "talk.en-.x.srt"]
)
def test_what_is_no_language_is_a_part_of_the_name(tmp_path, subtitles):
    files(tmp_path, subtitles, "talk.mp4")
    assert video_beside(tmp_path / subtitles) is None
    assert subtitles_beside(tmp_path / "talk.mp4") == []


def test_the_own_name_and_the_first_suffix_win(tmp_path):
    files(tmp_path, "talk.en.avi", "talk.mp4", "talk.mkv", "talk.en.vtt", "talk.vtt", "talk.srt")
    assert video_beside(tmp_path / "talk.en.vtt").name == "talk.en.avi"
    assert video_beside(tmp_path / "talk.srt").name == "talk.mp4"
    beside = [path.name for path in subtitles_beside(tmp_path / "talk.mp4")]
    assert beside == ["talk.srt", "talk.vtt", "talk.en.vtt"]


def test_links_that_leave_the_folder_and_folders_are_nothing_beside(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    files(tmp_path, "far.mp4", "far.srt")
    files(inside, "b.mp4", "b.srt")
    (inside / "a.mp4").symlink_to(tmp_path / "far.mp4")
    (inside / "a.srt").symlink_to(tmp_path / "far.srt")
    assert video_beside(inside / "a.srt") is None
    assert subtitles_beside(inside / "a.mp4") == []
    (inside / "c.mp4").symlink_to(inside / "b.mp4")
    assert video_beside(inside / "c.srt") == inside / "c.mp4"
    (inside / "d.mp4").mkdir()
    assert video_beside(inside / "d.srt") is None
    assert subtitles_beside(tmp_path / "absent" / "a.mp4") == []


def test_why_a_video_is_skipped(tmp_path):
    video = tmp_path / "talk.mp4"
    assert why_skipped(video) == "video without subtitles: put talk.srt or talk.vtt beside it"
    files(tmp_path, "talk.de.vtt")
    assert why_skipped(video) == "video: searched by its subtitles talk.de.vtt"


def test_times_are_the_middles_of_equal_parts():
    assert frame_times(10, 18, 4) == [11, 13, 15, 17]
    assert frame_times(10, 18, 1) == [14]
    assert frame_times(0, 2.5, 8) == [0.625, 1.875]
    assert frame_times(3, 3, 8) == [3]


@given(
    st.floats(0, 1e5, allow_subnormal=False), st.floats(0, 1e4, allow_subnormal=False),
    st.integers(1, 50),
)  # fmt: skip
def test_times_lie_inside_the_span_in_order(start_s, length_s, most):
    times = frame_times(start_s, start_s + length_s, most)
    assert 1 <= len(times) <= most
    assert times == sorted(times)
    assert all(start_s <= at_s <= start_s + length_s for at_s in times)
    assert len(times) == 1 or len(times) <= length_s + 1e-6


@pytest.mark.parametrize("span", [(-1, 2), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_times_that_are_no_span_are_refused(span):
    with pytest.raises(ValueError, match="times need 0 <= start_s <= end_s, got"):
        frame_times(*span, 4)
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        frame_times(0, 1, 0)


def test_pictures_need_opencv(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(MP4)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "dovetail-rag\[ocr\]"'):
        sample_frames(tmp_path / "a.mp4", [0.0])


class Video:
    """What the code uses of OpenCV: three pictures, one a second."""

    CAP_PROP_POS_MSEC, COLOR_BGR2RGB = 0, 4
    opens, released = True, 0

    def VideoCapture(self, path):  # noqa: N802
        assert Path(path).is_absolute()
        return self

    def isOpened(self):  # noqa: N802
        return self.opens

    def set(self, key, value):
        assert key == 0
        self.row = int(value // 1000)

    def read(self):
        return self.row < 3, f"bgr {self.row}"

    def cvtColor(self, pixels, code):  # noqa: N802
        assert code == 4
        return pixels.replace("bgr", "rgb")

    def release(self):
        self.released += 1


def test_pictures_are_taken_at_the_times_that_the_video_has(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(MP4)
    video = Video()
    monkeypatch.setitem(sys.modules, "cv2", video)
    frames = sample_frames(tmp_path / "a.mp4", [2.5, 0.5, 7.0])
    assert [(frame.at_s, frame.pixels) for frame in frames] == [(2.5, "rgb 2"), (0.5, "rgb 0")]
    assert video.released == 1
    video.opens = False
    with pytest.raises(CorpusError, match=r"a\.mp4: cannot be decoded as video"):
        sample_frames(tmp_path / "a.mp4", [0.0])
    assert video.released == 2


@pytest.mark.parametrize(
    "head", [MP4, b"\0\0\0\x08wide\0\0", b"\x1aE\xdf\xa3\1\0\0\0", b"RIFF\0\0\0\0AVI LIST"]
)
def test_every_kind_of_video_reaches_the_decoder(tmp_path, monkeypatch, head):
    (tmp_path / "a.mov").write_bytes(head)
    monkeypatch.setitem(sys.modules, "cv2", Video())
    assert len(sample_frames(tmp_path / "a.mov", [0.0])) == 1


def test_what_is_no_video_is_not_given_to_the_decoder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace())
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n")
    with pytest.raises(CorpusError, match=r"list\.mp4: not a video; its content must be one of"):
        sample_frames(playlist, [0.0])
    with pytest.raises(CorpusError, match=r"absent\.mp4: unreadable \(No such file"):
        sample_frames(tmp_path / "absent.mp4", [0.0])
    with pytest.raises(
        ValueError, match=r"times_s must be at least 0 and finite, got \[1.0, -0.5\]"
    ):
        sample_frames(playlist, [1.0, -0.5])


def test_pictures_of_a_real_video(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the extra ocr")
    import numpy as np

    path = tmp_path / "colours.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this build of OpenCV writes no Motion JPEG")
    for blue, green, red in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        for _ in range(10):
            writer.write(np.full((48, 64, 3), (blue, green, red), np.uint8))
    writer.release()
    frames = sample_frames(path, [2.5, 0.5, 1.5, 60.0])
    assert [frame.at_s for frame in frames] == [2.5, 0.5, 1.5]
    assert all(f.pixels.shape == (48, 64, 3) and f.pixels.dtype == np.uint8 for f in frames)
    colours = [int(frame.pixels.mean((0, 1)).argmax()) for frame in frames]
    assert colours == [0, 2, 1]  # red, blue, green
