"""Real processes, real signals: what a command does is known, and nothing of it is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci_tasks import process
from ci_tasks.logs import HEAD, TAIL, Log, tail
from ci_tasks.process import Command, Crew, Ended


@pytest.fixture
def crew() -> Iterator[Crew]:
    with Crew() as made:
        yield made


def command(tmp_path: Path, *words: str, limit: float = 20, name: str = "log") -> Command:
    return Command(
        words=words, folder=tmp_path, environment=dict(os.environ), log=tmp_path / name, limit=limit
    )


def ended(crew: Crew, *, within: float = 30) -> Ended:
    until = time.monotonic() + within
    while time.monotonic() < until:
        for _, result in crew.wait(0.2):
            return result
    raise AssertionError(f"nothing ended within {within} s")


def eventually(holds: Callable[[], bool], *, within: float = 5) -> bool:
    until = time.monotonic() + within
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    path = Path(f"/proc/{pid}/stat")
    return not path.exists() or path.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("code", [0, 1, 7, 75, 126, 127, 255])
def test_an_exit_code_is_kept_exactly(tmp_path: Path, crew: Crew, code: int) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", f"echo said; exit {code}"))
    result = ended(crew)
    assert (result.exit_code, result.signal, result.left_running) == (code, 0, False)
    assert tail(tmp_path / "log", 3) == ("said",)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_death_by_a_signal_is_never_an_exit_code(tmp_path: Path, crew: Crew, number: int) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", f"kill -{int(number)} $$"))
    result = ended(crew)
    assert (result.exit_code, result.signal) == (None, number)


def test_a_command_that_cannot_start_is_a_result(tmp_path: Path, crew: Crew) -> None:
    (tmp_path / "plain").write_text("not a program", encoding="utf-8")
    for words, message in (
        (("/no/such/program",), "no such file or directory"),
        ((str(tmp_path / "plain"),), "permission denied"),
        (("echo", "a\0b"), "null"),
        (("echo", "x" * 10_000_000), "argument list too long"),
    ):
        crew.start(1, command(tmp_path, *words))
        result = ended(crew)
        assert result.exit_code is None
        assert message in result.failure
        assert "cannot start" in tail(tmp_path / "log", 1)[0]


def test_nothing_is_read_from_a_terminal_or_from_us(tmp_path: Path, crew: Crew) -> None:
    crew.start(
        1, command(tmp_path, "sh", "-c", "cat; (read x </dev/tty) 2>/dev/null && echo terminal; echo done")
    )
    assert ended(crew).exit_code == 0
    assert tail(tmp_path / "log", 3) == ("done",)


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path, crew: Crew) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", "sleep 1000 & echo $!; sleep 1001; true", limit=0.3))
    result = ended(crew, within=5)
    assert result.timed_out
    assert not alive(int(tail(tmp_path / "log", 1)[0]))


def test_a_command_that_ends_when_told_is_not_waited_for(tmp_path: Path, crew: Crew) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", "trap 'echo bye; exit 0' TERM; sleep 100 & wait", limit=0.3))
    started = time.monotonic()
    result = ended(crew)
    assert result.timed_out, "an exit code of 0 after the time was up does not count"
    assert time.monotonic() - started < process.GRACE - 1
    assert tail(tmp_path / "log", 1) == ("bye",)


def test_a_command_that_ignores_sigterm_is_killed(
    tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.3)
    crew.start(1, command(tmp_path, "sh", "-c", "trap '' TERM; while :; do sleep 1; done", limit=0.3))
    result = ended(crew, within=5)
    assert (result.timed_out, result.signal) == (True, signal.SIGKILL)


def test_a_command_that_stops_itself_still_times_out(tmp_path: Path, crew: Crew) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", "kill -STOP $$; sleep 9", limit=0.3))
    assert ended(crew, within=8).timed_out


@pytest.mark.parametrize("redirected", ["", ">/dev/null 2>&1"])
def test_a_process_left_behind_is_ended_and_told(tmp_path: Path, crew: Crew, redirected: str) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", f"sleep 1000 {redirected} & echo $!"))
    result = ended(crew, within=5)
    assert (result.exit_code, result.left_running) == (0, True)
    assert eventually(lambda: not alive(int(tail(tmp_path / "log", 1)[0])))


def test_a_background_process_that_is_about_to_finish_may(tmp_path: Path, crew: Crew) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", "(sleep 0.1; echo late) & exit 0"))
    result = ended(crew)
    assert (result.exit_code, result.left_running) == (0, False)
    assert tail(tmp_path / "log", 1) == ("late",)


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if sys.argv[1] == "silent":
            os.closerange(0, 3)
        with open("pid", "w") as file:
            file.write(str(os.getpid()))
        os.fork()
        time.sleep(1000)
    os._exit(0)
while not os.path.exists("pid"): time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has left its group")
@pytest.mark.parametrize("how", ["loud", "silent"])
def test_a_daemon_outside_the_group_is_ended_too(tmp_path: Path, crew: Crew, how: str) -> None:
    crew.start(1, command(tmp_path, sys.executable, "-c", DAEMON, how))
    result = ended(crew, within=4)
    assert (result.exit_code, result.left_running) == (0, True)
    assert eventually(lambda: not alive(int((tmp_path / "pid").read_text(encoding="ascii"))))
    assert subprocess.run(["pgrep", "-f", "time.sleep.1000"], check=False, capture_output=True).stdout == b""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has left its group")
def test_a_daemon_is_told_from_those_of_others_that_still_run(tmp_path: Path, crew: Crew) -> None:
    for key, pause in enumerate(("0.1", "1.5")):
        home = tmp_path / f"home{key}"
        home.mkdir()
        words = ["sh", "-c", f"setsid sleep 1000 >/dev/null 2>&1 & echo $!; sleep {pause}"]
        environment = {**os.environ, "HOME": str(home)}
        crew.start(
            key, Command(words=words, folder=home, environment=environment, log=home / "log", limit=20)
        )
    first, second = (tmp_path / f"home{key}/log" for key in range(2))
    assert [key for key, _ in crew.wait(5)] == [0]
    assert eventually(lambda: not alive(int(tail(first, 1)[0])))
    assert alive(int(tail(second, 1)[0]))
    assert ended(crew).left_running
    assert eventually(lambda: not alive(int(tail(second, 1)[0])))


def test_several_commands_run_at_once_and_end_in_their_own_order(tmp_path: Path, crew: Crew) -> None:
    for key, pause in enumerate(("0.6", "0.1", "0.3")):
        crew.start(key, command(tmp_path, "sh", "-c", f"sleep {pause}; echo {key}", name=f"log{key}"))
    order = []
    until = time.monotonic() + 10
    while crew.running and time.monotonic() < until:
        order += [key for key, _ in crew.wait(0.2)]
    assert order == [1, 2, 0]
    assert [tail(tmp_path / f"log{key}", 1) for key in range(3)] == [("0",), ("1",), ("2",)]


def test_a_stop_ends_what_runs_and_a_second_one_kills(tmp_path: Path, crew: Crew) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"))
    assert eventually(lambda: not crew.wait(0.05) and tail(tmp_path / "log", 1) == ("ready",))
    os.kill(os.getpid(), signal.SIGTERM)
    assert crew.wait(0.3) == []
    assert crew.stopped == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGINT)
    result = ended(crew, within=process.STOP_GRACE)
    assert (result.interrupted, result.signal) == (True, signal.SIGKILL)
    assert crew.stopped == signal.SIGTERM


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (*process.STOPPING, signal.SIGCHLD)]
    with Crew() as crew:
        crew.start(1, command(tmp_path, "sleep", "1000"))
    assert [signal.getsignal(number) for number in (*process.STOPPING, signal.SIGCHLD)] == before


def test_items_get_the_default_actions_of_signals(tmp_path: Path, crew: Crew) -> None:
    crew.start(1, command(tmp_path, "sh", "-c", "kill -INT $$; echo survived"))
    assert ended(crew).signal == signal.SIGINT


def test_no_file_of_ours_is_open_in_a_command(tmp_path: Path, crew: Crew) -> None:
    crew.start(
        1,
        command(
            tmp_path, sys.executable, "-c", "import os; print(sorted(map(int, os.listdir('/dev/fd')))[:-1])"
        ),
    )
    assert ended(crew).exit_code == 0
    assert tail(tmp_path / "log", 1)[0] == "[0, 1, 2]"


def test_a_thousand_commands_leave_neither_descriptor_nor_zombie(tmp_path: Path, crew: Crew) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208  # a count
    for _ in range(1000):
        crew.start(1, command(tmp_path, "true"))
        assert ended(crew).exit_code == 0
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
    listed = subprocess.run(["ps", "-axo", "ppid=,stat="], check=True, capture_output=True, text=True).stdout
    ours = [state for parent, state in map(str.split, listed.splitlines()) if int(parent) == os.getpid()]
    assert not [state for state in ours if state.startswith("Z")]


def test_a_flood_is_bounded_in_memory_and_on_disk(tmp_path: Path, crew: Crew) -> None:
    script = "import sys\nfor n in range(300): sys.stdout.write(f'{n:07d}\\n' * 131072)"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    crew.start(1, command(tmp_path, sys.executable, "-c", script))
    assert ended(crew).exit_code == 0
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
        1 if sys.platform == "darwin" else 1024
    )
    assert grown < 50e6
    size = (tmp_path / "log").stat().st_size
    assert HEAD + TAIL <= size <= HEAD + TAIL + 200
    text = (tmp_path / "log").read_bytes()
    cut = 300 * 131072 * 8 - HEAD - TAIL
    assert f"[ci_tasks: {cut} bytes of output were cut here]".encode() in text
    assert text.startswith(b"0000000\n")
    assert text.endswith(b"0000299\n")


@pytest.mark.parametrize(
    "sizes", [(), (5,), (10,), (11,), (10, 10), (3, 3, 3, 3, 3), (10, 9, 1, 1), (100,), (1,) * 50]
)
def test_a_log_keeps_head_and_tail_and_counts_the_rest(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    data = bytes(65 + n % 26 for n in range(sum(sizes)))
    with Log(tmp_path / "log", head=10, tail=10) as log:
        position = 0
        for size in sizes:
            log.write(data[position : position + size])
            position += size
    text = (tmp_path / "log").read_bytes()
    if len(data) <= 20:
        assert text == data
    else:
        marker = b"\n[ci_tasks: %d bytes of output were cut here]\n" % (len(data) - 20)
        assert text == data[:10] + marker + data[-10:]


def test_a_log_on_a_full_disk_says_so_and_goes_on() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full, which only Linux has")
    with Log(full) as log:
        log.write(b"x" * 100)
        log.write(b"y" * 100)
    assert log.failure == "No space left on device"
    assert log.size == 200


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Log(tmp_path / "log")
