"""How far a stage is: told by it, heard by whoever runs it, and told to nobody where nobody listens."""

from pathlib import Path

import pytest

from robbertje_lib.experiment import heartbeat
from robbertje_lib.experiment.heartbeat import Heartbeat, Told, listen, part, tell


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("robbertje_lib.experiment.heartbeat._told", Told())
    monkeypatch.setattr(heartbeat, "EVERY", 0.0)
    monkeypatch.setenv(heartbeat.FILE, str(tmp_path / ".20_teacher.heartbeat"))
    return tmp_path / ".20_teacher.heartbeat"


def test_what_is_told_is_heard(file: Path) -> None:
    assert listen(file) is None
    tell(0.25, left=90.0)
    assert listen(file) == Heartbeat(0.25, 90.0)
    tell(0.75, left=30.0)
    assert listen(file) == Heartbeat(0.75, 30.0)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_parts_make_a_whole_which_never_goes_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 200, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    shares = []
    for number in range(2):
        with part(number, of=2):
            tell(0.5)
            tell(0.25)  # as a second pass over the same lines would say
            shares.append(getattr(listen(file), "share", None))
    assert shares == [0.25, 0.75]
    heard = listen(file)
    assert heard and heard.share == 1.0 and heard.left == 0.0


def test_the_time_left_is_reckoned_from_what_has_passed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 130.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    tell(0.0)
    assert listen(file) is None  # nothing is done, nothing can be reckoned
    tell(0.25)
    assert listen(file) == Heartbeat(0.25, 90.0)


def test_nobody_listens_or_the_disk_takes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heartbeat.FILE, str(file.parent / "gone" / "x"))
    tell(0.5, 1.0)
    monkeypatch.delenv(heartbeat.FILE)
    tell(0.5, 1.0)
    assert list(file.parent.iterdir()) == []


def test_it_is_written_now_and_then(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY", 1000.0)
    tell(0.25, 9.0)
    tell(0.5, 6.0)
    assert listen(file) == Heartbeat(0.25, 9.0)


def test_a_damaged_file_says_nothing(file: Path) -> None:
    file.write_text('{"share": 0.')
    assert listen(file) is None
