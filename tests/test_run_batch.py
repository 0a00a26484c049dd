"""`ci.run-batch` as a user runs it: every item visible, never failing fast, by the same command everywhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import OTHER, PLATFORM, RECIPES, Project, toml
from test_process import alive, eventually

SCRIPT = """
import os, sys
name = sys.argv[1]
print("this is", name)
if name == "bad": sys.exit(7)
if name == "killed": os.kill(os.getpid(), 9)
"""


def python(script: str, *words: str) -> list[str]:
    return [sys.executable, "-c", script, *words]


def test_every_item_runs_whatever_the_others_did(project: Project) -> None:
    project.commit({"ci.toml": toml(python(SCRIPT, "{name}"), items=("good", "bad", "killed", "last"))})
    result = project.invoke("ci.run-batch")
    assert result.code == 1
    assert project.statuses(result) == {
        "good": "passed",
        "bad": "failed",
        "killed": "failed",
        "last": "passed",
    }
    reasons = {outcome["item"]: outcome["reason"] for outcome in project.report(result)["outcomes"]}
    assert (reasons["bad"], reasons["killed"]) == ("exit code 7", "killed by SIGKILL")
    assert "4 items" in result.err
    assert "2 passed, 2 failed" in result.err
    assert "failed: bad (suite): exit code 7\n  | this is bad\n" in result.err


def test_the_report_has_the_documented_shape(project: Project) -> None:
    project.commit({"ci.toml": toml(python(SCRIPT, "{name}"), items=("good", "bad"))})
    result = project.invoke("ci.run-batch", "--out", "results")
    folder = project.root / "results"
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "logs", "report.json"]
    assert result.out == f"{folder}/report.json\n"
    report = project.report(result)
    assert set(report) == {
        "version", "suites", "platform", "base", "head", "host", "started", "seconds", "cache", "outcomes", "signal",
        "warnings",
    }  # fmt: skip
    assert report["version"] == 1
    assert report["platform"] == PLATFORM
    assert report["head"] == project.git("rev-parse", "HEAD")
    assert set(report["cache"]) == {"mode", "bytes_before", "bytes_after"}
    good, bad = report["outcomes"]
    assert set(good) == {
        "suite", "item", "path", "status", "reason", "exit_code", "seconds", "attempts", "cache_bytes_added",
        "cache_bytes_reused", "log", "home",
    }  # fmt: skip
    assert (good["exit_code"], bad["exit_code"], bad["attempts"]) == (0, 7, 1)
    assert (folder / bad["log"]).read_text(encoding="utf-8") == "this is bad\n"
    assert good["home"] is None
    assert Path(bad["home"]).is_dir()
    records = [
        json.loads(line) for line in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert records[0]["journal"] == 1
    assert records[1:] == [good, bad]


def test_each_failure_shows_the_command_that_runs_it_alone(project: Project) -> None:
    project.commit({"ci.toml": toml(python(SCRIPT, "{name}"), items=("good", "bad", "killed"))})
    result = project.invoke("ci.run-batch")
    lines = [line.split("again: ", 1)[1] for line in result.err.splitlines() if "again: " in line]
    assert len(lines) == 2
    words = shlex.split(lines[0])
    assert words[0] == "invoke"
    again = project.invoke(*words[1:])
    assert again.code == 1
    assert project.statuses(again) == {"bad": "failed"}


ENVIRONMENT = """
import json, os, sys
print(json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:], "stdin": sys.stdin.read()}))
"""


def told(project: Project, result: Any, item: str = "one") -> Any:
    outcome = next(entry for entry in project.report(result)["outcomes"] if entry["item"] == item)
    folder = Path(result.out.strip()).parent
    return json.loads((folder / outcome["log"]).read_text(encoding="utf-8"))


def test_an_item_sees_its_own_home_and_little_else(project: Project) -> None:
    more = 'home = "TOOL_HOME"\nenv = { REGISTRY = "{root}", WHERE = "{home}/x" }\npass-env = ["WANTED", "MAYBE?", "SET_*"]'
    project.commit({"ci.toml": toml(python(ENVIRONMENT), more=more)})
    environ = {
        "WANTED": "yes",
        "SET_A": "a",
        "GITHUB_TOKEN": "secret",
        "GITHUB_ENV": "/x",
        "SSH_AUTH_SOCK": "/y",
    }
    result = project.invoke("ci.run-batch", "--keep-homes", environ=environ)
    assert result.code == 0, result.err
    seen = [told(project, result, item) for item in ("one", "two")]
    first, second = (entry["env"] for entry in seen)
    assert first["HOME"] != second["HOME"] != project.environ["HOME"]
    assert first["TOOL_HOME"] == first["HOME"] == str(Path(first["HOME"]).resolve())
    assert first["REGISTRY"] == str(project.root.resolve())
    assert first["WHERE"] == first["HOME"] + "/x"
    assert (first["WANTED"], first["SET_A"]) == ("yes", "a")
    assert not {"GITHUB_TOKEN", "GITHUB_ENV", "SSH_AUTH_SOCK", "GIT_CONFIG_GLOBAL", "MAYBE"} & set(first)
    assert seen[0]["cwd"] == str(project.root.resolve())
    assert seen[0]["stdin"] == ""


def test_a_variable_that_is_needed_and_not_set_is_an_error_before_the_first_item(project: Project) -> None:
    project.commit({"ci.toml": toml(["touch", "started"], more='pass-env = ["API_TOKEN"]')})
    result = project.invoke("ci.run-batch")
    assert result.code == 2
    assert "suites.suite.pass-env needs API_TOKEN, which is not set" in result.err
    assert "hint: export it, or write `API_TOKEN?`" in result.err
    assert not (project.root / "started").exists()


def test_placeholders_are_put_in_after_splitting_and_never_read_by_a_shell(project: Project) -> None:
    names = (
        "a'; touch PWNED; '",
        "two words",
        "*",
        "$(touch PWNED)",
        "`touch PWNED`",
        "{path}",
        "../../x",
        "-n",
    )
    command = shlex.join(
        [*python(ENVIRONMENT), "{name}", "x{name}y", "{platform}", "{root}", "{nonsense}", "{{name}}"]
    )
    project.commit({"ci.toml": toml(command, items=names)})
    result = project.invoke("ci.run-batch")
    assert result.code == 0, result.err
    root = str(project.root.resolve())
    for name in names:
        assert told(project, result, name)["argv"] == [
            name,
            f"x{name}y",
            PLATFORM,
            root,
            "{nonsense}",
            "{name}",
        ]
    assert not (project.root / "PWNED").exists()
    logs = sorted(path.name for path in Path(result.out.strip()).parent.glob("logs/*"))
    assert len(logs) == len(names)


def test_args_of_an_item_become_words_of_their_own(project: Project) -> None:
    text = toml([*python(ENVIRONMENT), "{args}", "end"]).replace(
        'items = ["one", "two"]', 'items = [{ name = "one", args = ["a b", "{name}"] }, "two"]'
    )
    project.commit({"ci.toml": text})
    result = project.invoke("ci.run-batch")
    assert told(project, result, "one")["argv"] == ["a b", "{name}", "end"]
    assert told(project, result, "two")["argv"] == ["end"]


def test_setup_runs_once_in_the_root_with_our_own_environment(project: Project) -> None:
    project.commit({"ci.toml": toml(["cat", "built"], more="setup = [\"sh -c 'echo $SECRET >> built'\"]")})
    result = project.invoke("ci.run-batch", environ={"SECRET": "only-setup"})
    assert result.code == 0, result.err
    assert (project.root / "built").read_text(encoding="utf-8") == "only-setup\n"
    assert "setting up suite: sh -c" in result.err


def test_items_whose_setup_fails_are_not_run_and_the_batch_fails(project: Project) -> None:
    more = 'setup = ["true", "sh -c \'echo no compiler; exit 3\'"]\n[suites.fine]\nitems = ["x"]\ncommand = "true"'
    project.commit({"ci.toml": toml(more=more)})
    result = project.invoke("ci.run-batch")
    assert result.code == 1
    assert project.statuses(result) == {"one": "not-run", "two": "not-run", "x": "passed"}
    assert (
        "setup `sh -c echo no compiler; exit 3`: exit code 3 | no compiler (see logs/setup-suite-2.log)"
        in result.err
    )


def test_homes_of_items_that_passed_are_gone_and_of_others_are_kept(project: Project) -> None:
    project.commit({"ci.toml": toml(python(SCRIPT, "{name}"), items=("good", "bad"))})
    temporary = Path(project.environ["TMPDIR"])
    project.invoke("ci.run-batch")
    assert [path.name for path in temporary.glob("ci-tasks-*/*")] == ["0002-bad"]
    project.invoke("ci.run-batch", "--item", "good")
    assert len(list(temporary.glob("ci-tasks-*"))) == 1
    project.invoke("ci.run-batch", "--item", "good", "--keep-homes")
    assert len(list(temporary.glob("ci-tasks-*/0001-good"))) == 1


DOWNLOAD = """
import os, pathlib, sys
cache = pathlib.Path(sys.argv[1]); entry = cache / "shared.tar"
print(entry.read_bytes()[:1] if entry.exists() else entry.write_bytes(b"x" * 5000))
"""


@pytest.mark.parametrize("mode", ["variable", "copy", "hardlink", "symlink"])
def test_cache_use_is_measured_for_each_item(project: Project, mode: str) -> None:
    more = f'cache = {{ path = "cache/downloads", mode = "{mode}", variable = "CACHE" }}'
    project.commit({"ci.toml": toml([*python(DOWNLOAD), "{cache}"], more=more)})
    report = project.report(project.invoke("ci.run-batch"))
    one, two = report["outcomes"]
    assert (one["cache_bytes_added"], two["cache_bytes_added"]) == (5000, 0)
    assert (one["cache_bytes_reused"], two["cache_bytes_reused"]) in ((0, 5000), (None, None))
    assert report["cache"] == {"mode": mode, "bytes_before": 0, "bytes_after": 5000}
    folder = project.root / ".ci-tasks/cache"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert project.git("status", "--porcelain") == ""


FETCH = """
import pathlib, sys, urllib.request
for name in ("common.tar", sys.argv[2] + ".tar"):
    entry = pathlib.Path(sys.argv[1]) / name
    if not entry.exists():
        entry.write_bytes(urllib.request.urlopen("http://127.0.0.1:" + sys.argv[3] + "/" + name, timeout=10).read())
    assert entry.read_bytes() == name.encode() * 100
"""


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    """Serve made-up archives on loopback; yield the port, and the paths as they are asked for."""
    asked: list[str] = []

    class Archives(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.removeprefix("/").encode() * 100)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name it overrides
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Archives) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving.server_address[1], asked
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("mode", ["variable", "copy", "hardlink", "symlink"])
def test_what_items_share_is_downloaded_once(
    project: Project, mode: str, server: tuple[int, list[str]]
) -> None:
    port, asked = server
    more = f'cache = {{ path = "cache", mode = "{mode}" }}'
    command = [*python(FETCH), "{cache}", "{name}", str(port)]
    project.commit({"ci.toml": toml(command, items=("a", "b", "c"), more=more)})
    result = project.invoke("ci.run-batch")
    assert result.code == 0, result.err
    assert sorted(asked) == ["/a.tar", "/b.tar", "/c.tar", "/common.tar"]
    report = project.report(result)
    assert [outcome["cache_bytes_added"] for outcome in report["outcomes"]] == [1500, 500, 500]
    project.invoke("ci.run-batch")
    assert len(asked) == 4, "a second batch has it all"


def test_a_cache_that_stays_empty_is_a_warning(project: Project) -> None:
    project.commit({"ci.toml": toml(more='cache = { path = "cache", mode = "copy" }')})
    assert "warning: the download cache is still empty" in project.invoke("ci.run-batch").err


def test_an_item_that_hangs_is_ended_and_the_next_one_runs(project: Project) -> None:
    script = "import sys, time; time.sleep(60 if sys.argv[1] == 'one' else 0)"
    project.commit({"ci.toml": toml([*python(script), "{name}"], more='timeout = "1s"')})
    result = project.invoke("ci.run-batch")
    assert result.code == 1
    assert project.statuses(result) == {"one": "timed-out", "two": "passed"}
    assert "took longer than 1.0 s" in result.err


def test_items_are_chosen_by_name_or_path_whatever_changed(project: Project) -> None:
    files = {f"recipes/{name}.toml": "" for name in ("a", "b", "c")}
    mine = (
        RECIPES.replace("[platforms.linux-amd64]", f"[platforms.{PLATFORM}]")
        if PLATFORM not in RECIPES
        else RECIPES
    )
    project.commit(
        {"ci.toml": mine, **files, "recipes/darwin.toml": "[metadata]\nsupported_os = ['plan9']\n"}
    )
    result = project.invoke("ci.run-batch", "--item", "a", "--item", "recipes/c.toml")
    assert result.code == 0, result.err
    assert project.statuses(result) == {"a": "passed", "c": "passed"}
    unknown = project.invoke("ci.run-batch", "--item", "aa")
    assert (unknown.code, unknown.out) == (2, "")
    assert "there is no item `aa`" in unknown.err
    unsupported = project.invoke("ci.run-batch", "--item", "darwin")
    assert unsupported.code == 2
    assert "`darwin` does not run on" in unsupported.err
    assert 'is ["plan9"]' in unsupported.err


def test_without_items_the_diff_selects(project: Project) -> None:
    mine = (
        RECIPES.replace("[platforms.linux-amd64]", f"[platforms.{PLATFORM}]")
        if PLATFORM not in RECIPES
        else RECIPES
    )
    project.commit({"ci.toml": mine, "recipes/a.toml": "", "recipes/b.toml": ""})
    project.commit({"docs": ""})
    nothing = project.invoke("ci.run-batch")
    assert (nothing.code, nothing.out) == (0, "")
    assert f"nothing to run on {PLATFORM}: 0 of 2 items selected" in nothing.err
    assert "1 file changed" in nothing.err
    project.write({"recipes/b.toml": "# changed\n"})
    assert project.statuses(project.invoke("ci.run-batch")) == {"b": "passed"}
    assert project.statuses(project.invoke("ci.run-batch", "--all")) == {"a": "passed", "b": "passed"}


def test_a_plan_decides_what_runs(project: Project, tmp_path: Path) -> None:
    project.commit({"ci.toml": toml(more="default = false")})
    document = project.invoke("ci.plan", "--suite", "suite", "--format", "json").out
    (tmp_path / "plan.json").write_text(document, encoding="utf-8")
    path = str(tmp_path / "plan.json")
    assert project.statuses(project.invoke("ci.run-batch", "--plan", path)) == {
        "one": "passed",
        "two": "passed",
    }
    batches = json.loads(document)["suites"][0]["batches"]
    mine = [batch for batch in batches if batch["platform"] == PLATFORM]
    one = project.invoke("ci.run-batch", "--plan", path, "--batch", mine[0]["id"])
    assert list(project.statuses(one)) == mine[0]["items"]
    wrong = project.invoke("ci.run-batch", "--plan", path, "--batch", "nope")
    assert wrong.code == 2
    assert "the plan has no batch `nope`" in wrong.err
    typo = project.invoke("ci.run-batch", "--plan", path, "--item", "oen")
    assert typo.code == 2
    assert "there is no item `oen`" in typo.err
    project.commit({"later": ""})
    stale = project.invoke("ci.run-batch", "--plan", path)
    assert stale.code == 2
    assert "is checked out here" in stale.err
    missing = project.invoke("ci.run-batch", "--plan", "no.json")
    assert missing.code == 2
    assert "cannot read no.json" in missing.err


def test_a_batch_for_another_platform_needs_to_be_insisted_on(project: Project) -> None:
    project.commit({"ci.toml": toml()})
    refused = project.invoke("ci.run-batch", "--arch", OTHER)
    assert refused.code == 2
    assert f"this machine is {PLATFORM}, and the batch is for {OTHER}" in refused.err
    assert "--insist" in refused.err
    for arguments, environ in ((["--insist"], {}), ([], {"CI_TASKS_INSIST": "1"})):
        result = project.invoke("ci.run-batch", "--arch", OTHER, *arguments, environ=environ)
        assert project.report(result)["platform"] == OTHER


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--jobs", "0"), "--jobs is a whole number from 1 to 64, not '0'"),
        (("--jobs", "two"), "--jobs is a whole number from 1 to 64, not 'two'"),
        (("--base", ""), "--base is empty"),
        (("--plan", "x.json", "--all"), "--plan says what runs"),
        (("--out", "tasks.py/x"), "not a directory"),
        (("--suite", "nope"), "there is no suite `nope`"),
        (("--arch", "mips-plan9"), "there is no platform `mips-plan9`"),
        (("--out", "tasks.py"), "exists, and is no earlier run of ours"),
        (("--out", "."), "exists, and is no earlier run of ours"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_lost(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    project.commit({"ci.toml": toml()})
    result = project.invoke("ci.run-batch", *arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert project.git("status", "--porcelain") == ""


def test_a_suite_without_a_command_is_an_error(project: Project) -> None:
    project.commit({"ci.toml": toml().replace('command = "true"', "")})
    result = project.invoke("ci.run-batch")
    assert result.code == 2
    assert "suites.suite has no `command`" in result.err


def test_an_earlier_run_in_the_same_folder_is_replaced(project: Project) -> None:
    project.commit({"ci.toml": toml(items=("a", "b", "c"))})
    project.invoke("ci.run-batch", "--out", "results")
    result = project.invoke("ci.run-batch", "--out", "results", "--item", "b")
    assert project.statuses(result) == {"b": "passed"}
    assert [path.name for path in (project.root / "results/logs").iterdir()] == ["0001-b.log"]


def test_several_items_run_at_once_and_are_reported_in_order(project: Project) -> None:
    names = [f"i{number}" for number in range(8)]
    script = "import sys, time; time.sleep(0.3 if sys.argv[1] == 'i0' else 0); sys.exit(sys.argv[1] == 'i3')"
    project.commit({"ci.toml": toml([*python(script), "{name}"], items=names)})
    result = project.invoke("ci.run-batch", "--jobs", "4")
    assert list(project.statuses(result)) == names
    assert project.statuses(result)["i3"] == "failed"


def stopped(project: Project, number: int, *, ignoring: bool) -> tuple[int, Any, int, float]:
    """Start a batch, stop it when its first item runs; return exit code, report, the item's pid and the time it took."""
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if ignoring else ""
    script = f"import os, signal, sys, time; {ignore} print(os.getpid(), flush=True); time.sleep(60)"
    project.commit({"ci.toml": toml(python(script), items=("one", "two", "three"))})
    out = project.root / "results"
    batch = subprocess.Popen(
        project.command("ci.run-batch", "--out", str(out)), cwd=project.root, env=dict(project.environ),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    log = out / "logs/0001-one.log"
    assert eventually(lambda: log.exists() and log.read_text(encoding="utf-8").strip() != "", within=20)
    since = time.monotonic()
    batch.send_signal(number)
    code = batch.wait(20)
    took = time.monotonic() - since
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return code, report, int(log.read_text(encoding="utf-8")), took


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignoring", [False, True])
def test_a_signal_ends_everything_and_the_report_is_written(
    project: Project, number: int, ignoring: bool
) -> None:
    code, report, pid, took = stopped(project, number, ignoring=ignoring)
    assert code == 128 + number
    assert {outcome["item"]: outcome["status"] for outcome in report["outcomes"]} == {
        "one": "interrupted",
        "two": "not-run",
        "three": "not-run",
    }
    assert report["signal"] == number
    assert not alive(pid)
    assert took < 7.5, "GitHub sends SIGTERM 7.5 s after SIGINT"


def test_a_cancel_on_github_reaches_the_batch_through_the_rendered_line(project: Project) -> None:
    """GitHub signals the step's entry process alone: bash, which `exec` has replaced."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    project.commit({"ci.toml": toml(python(script))})
    step = project.root / "step.sh"
    step.write_text(
        f"exec {shlex.join(project.command('ci.run-batch', '--out', 'results'))}\n", encoding="utf-8"
    )
    entry = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", step], cwd=project.root, env=dict(project.environ),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    log = project.root / "results/logs/0001-one.log"
    assert eventually(lambda: log.exists() and log.read_text(encoding="utf-8").strip() != "", within=20)
    entry.send_signal(signal.SIGINT)
    assert entry.wait(7.5) == 130
    assert not alive(int(log.read_text(encoding="utf-8")))
    assert (project.root / "results/report.json").exists()


def test_a_killed_batch_loses_nothing_that_was_done(project: Project) -> None:
    script = "import sys, time; print('x', flush=True); time.sleep(60 if sys.argv[1] == 'two' else 0)"
    project.commit({"ci.toml": toml([*python(script), "{name}"])})
    batch = subprocess.Popen(
        project.command("ci.run-batch", "--out", "results"), cwd=project.root, env=dict(project.environ),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    log = project.root / "results/logs/0002-two.log"
    assert eventually(lambda: log.exists() and log.read_text(encoding="utf-8") != "", within=20)
    batch.kill()
    batch.wait()
    lines = (project.root / "results/journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line).get("item") for line in lines] == [None, "one"]
    subprocess.run(["pkill", "-f", "time.sleep(60 if"], check=False)


def test_github_gets_groups_and_failures_outside_them(project: Project) -> None:
    script = "import sys; print('out of', sys.argv[1]); print('::error::not ours'); print('x ##[group]y'); sys.exit(sys.argv[1] == 'two')"
    project.commit({"ci.toml": toml([*python(script), "{name}"])})
    result = project.invoke("ci.run-batch", environ={"GITHUB_ACTIONS": "true", "NO_COLOR": "1"})
    lines = result.err.splitlines()
    groups = [index for index, line in enumerate(lines) if line.startswith("::group::")]
    ends = [index for index, line in enumerate(lines) if line == "::endgroup::"]
    assert [lines[index] for index in groups] == ["::group::one (1 of 2)", "::group::two (2 of 2)"]
    assert len(ends) == 2
    assert groups[0] < lines.index("out of one") < ends[0] < groups[1] < lines.index("out of two") < ends[1]
    tokens = [lines[index + 1].removeprefix("::stop-commands::") for index in groups]
    assert tokens[0] != tokens[1]
    assert [lines[index - 1] for index in ends] == [f"::{token}::" for token in tokens]
    errors = [index for index, line in enumerate(lines) if line.startswith("::error::")]
    assert len(errors) == 1, "only our own"
    assert errors[0] > ends[1]
    assert "two" in lines[errors[0]]
    assert "##[group]" not in result.err


HOSTILE = (
    "::error::name",
    "a\n::error::second line",
    "##[error]x",
    "x ##[group]y",
    "\x1b[2Jclear",
    "\u009b2Jclear",
)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_no_name_and_no_output_can_command_github_or_a_terminal(project: Project, jobs: str) -> None:
    script = "import sys; print(sys.argv[1]); print('\\r::error::late'); print('\\x1b[!p\\x1b[>4;2m\\x9b2J'); sys.exit(1)"
    more = "setup = [" + json.dumps(python("print('::error::setup')")) + "]"
    project.commit({"ci.toml": toml([*python(script), "{name}"], items=HOSTILE, more=more)})
    environ = {"GITHUB_ACTIONS": "true", "NO_COLOR": "1"}
    shown = project.invoke("ci.run-batch", "--jobs", jobs, environ=environ).err
    shown += (
        project.invoke("ci.plan", environ=environ).out
        + project.invoke("ci.plan", "--format", "json", environ=environ).out
    )
    shown += project.invoke("ci.run-batch", "--item", "::error::no such\n::error::item", environ=environ).err
    lines = re.split(r"\r\n|\r|\n", shown)
    ours = ("::group::", "::endgroup::", "::stop-commands::", "::error::[")
    commands = [line for line in lines if line.lstrip().startswith("::") and not line.startswith(ours)]
    assert [line for line in commands if not re.fullmatch("::[0-9a-f]{32}::", line)] == []
    assert "##[" not in shown
    assert not set("\x1b\x9b\x07") & set(shown)


def test_an_item_that_takes_folders_away_harms_no_other_and_no_report(project: Project) -> None:
    script = """
import os, shutil, sys
home, cache, name = os.environ["HOME"], sys.argv[1], sys.argv[2]
if name == "homes": shutil.rmtree(os.path.dirname(home))
if name == "logs": shutil.rmtree("results/logs")
if name == "cache": shutil.rmtree(cache); open(cache, "w").close()
"""
    more = 'cache = { mode = "variable" }'
    project.commit(
        {
            "ci.toml": toml(
                [*python(script), "{cache}", "{name}"], items=("homes", "logs", "cache", "last"), more=more
            )
        }
    )
    result = project.invoke("ci.run-batch", "--out", "results", environ={"GITHUB_ACTIONS": "true"})
    assert result.code == 1, result.err
    assert project.statuses(result) == {
        "homes": "passed",
        "logs": "passed",
        "cache": "failed",
        "last": "failed",
    }
    assert "Traceback" not in result.err


def test_a_stop_during_setup_starts_no_other_setup(project: Project) -> None:
    text = toml(
        more='setup = ["sleep 30"]\n[suites.other]\nitems = ["x"]\ncommand = "true"\nsetup = ["touch second"]'
    )
    project.commit({"ci.toml": text})
    batch = subprocess.Popen(
        project.command("ci.run-batch", "--out", "results"), cwd=project.root, env=dict(project.environ),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert eventually((project.root / "results/logs/setup-suite-1.log").exists, within=20)
    batch.send_signal(signal.SIGTERM)
    assert batch.wait(10) == 143
    assert not (project.root / "second").exists()
    outcomes = json.loads((project.root / "results/report.json").read_text(encoding="utf-8"))["outcomes"]
    assert {outcome["status"] for outcome in outcomes} == {"not-run"}


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="needs root, to mount a small disk")
def test_a_full_disk_is_told_and_the_exit_code_comes_from_the_items(project: Project) -> None:
    small = project.root / "small"
    small.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("this machine may not mount a file system")
    try:
        script = "import sys; sys.stdout.write('x' * 200_000); sys.exit(sys.argv[1] == 'two')"
        project.commit({"ci.toml": toml([*python(script), "{name}"]), ".gitignore": "small\n"})
        result = project.invoke("ci.run-batch", "--out", "small/out")
        assert result.code == 1
        assert "1 passed, 1 failed" in result.err
        assert "its log is not complete: No space left on device" in result.err
        assert "the report could not be written" in result.err
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("redirected", ["2>&-", ">&-", ">/dev/full 2>/dev/full"])
def test_streams_that_are_closed_or_full_stop_nothing(project: Project, redirected: str) -> None:
    project.commit({"ci.toml": toml()})
    command = shlex.join(project.command("ci.run-batch", "--out", "results"))
    subprocess.run(
        ["sh", "-c", f"{command} {redirected}"], cwd=project.root, env=dict(project.environ), check=False
    )
    outcomes = json.loads((project.root / "results/report.json").read_text(encoding="utf-8"))["outcomes"]
    assert [outcome["status"] for outcome in outcomes] == ["passed", "passed"]


def test_buildkite_gets_sections_that_output_cannot_break(project: Project) -> None:
    script = "print('--- FAIL: TestX'); print('+++ b/file'); print('plain')"
    project.commit({"ci.toml": toml(python(script), items=("one",))})
    lines = project.invoke("ci.run-batch", environ={"BUILDKITE": "true", "NO_COLOR": "1"}).err.splitlines()
    assert [line for line in lines if line.startswith(("--- ", "+++ ", "~~~ "))] == ["--- one (1 of 1)"]
    assert any("FAIL: TestX" in line for line in lines)


def test_a_terminal_shows_live_progress_and_colours(project: Project) -> None:
    script = "import sys, time; time.sleep(0.8); print('\\033[2J\\033]0;pwned\\007hello'); sys.exit(1)"
    project.commit({"ci.toml": toml(python(script), items=("slow",))})
    environ = {**project.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    screen = pexpect.spawn(
        project.command("ci.run-batch")[0], project.command("ci.run-batch")[1:], cwd=str(project.root),
        env=environ, encoding="utf-8", timeout=30, dimensions=(30, 100),
    )  # fmt: skip
    screen.expect("1 item to go; running: slow")
    screen.expect(r"\x1b\[31m\[1/1\] failed")
    screen.expect("hello")
    screen.expect(pexpect.EOF)
    assert "pwned" not in str(screen.before)
    screen.close()
    assert screen.exitstatus == 1


def test_control_c_at_a_terminal_ends_the_batch(project: Project) -> None:
    project.commit({"ci.toml": toml("sleep 60")})
    screen = pexpect.spawn(
        project.command()[0], project.command("ci.run-batch")[1:], cwd=str(project.root),
        env={**project.environ, "TERM": "xterm"}, encoding="utf-8", timeout=30, dimensions=(30, 100),
    )  # fmt: skip
    screen.expect("running: one")
    screen.sendintr()
    screen.expect("1 interrupted, 1 not-run")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130


@pytest.mark.parametrize(
    ("more", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_can_be_switched(project: Project, more: dict[str, str], coloured: bool) -> None:
    project.commit({"ci.toml": toml()})
    assert ("\x1b[32m" in project.invoke("ci.run-batch", environ=more).err) == coloured


def test_a_reader_that_goes_away_does_not_stop_the_batch(project: Project) -> None:
    project.commit({"ci.toml": toml(items=[f"i{number}" for number in range(50)])})
    command = shlex.join(project.command("ci.run-batch", "--out", "results"))
    subprocess.run(
        ["sh", "-c", f"{command} 2>&1 >/dev/null | head -1"],
        cwd=project.root,
        env=dict(project.environ),
        check=True,
    )
    report = project.root / "results/report.json"
    assert eventually(report.exists, within=20)
    outcomes = json.loads(report.read_text(encoding="utf-8"))["outcomes"]
    assert [outcome["status"] for outcome in outcomes] == ["passed"] * 50


def test_output_of_any_bytes_is_kept_and_shown_safely(project: Project) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 50 + b'\\xc3'); raise SystemExit(1)"
    project.commit({"ci.toml": toml(python(script), items=("bytes",))})
    result = project.invoke("ci.run-batch", environ={"GITHUB_ACTIONS": "true"})
    assert result.code == 1
    folder = Path(result.out.strip()).parent
    assert (folder / "logs/0001-bytes.log").read_bytes() == bytes(range(256)) * 50 + b"\xc3"
    assert not set("\x00\x07\x08\x7f") & set(result.err)


def test_a_bug_of_ours_is_told_from_a_failure_of_an_item(project: Project) -> None:
    broken = "from ci_tasks import ns, tasks\n\ndef boom(): raise RuntimeError('boom')\n\ntasks._config = boom\n__all__ = ['ns']\n"
    project.commit({"ci.toml": toml(), "tasks.py": broken})
    result = project.invoke("ci.run-batch")
    assert result.code == 3
    assert "this is a bug in ci_tasks" in result.err
    assert "RuntimeError: boom" in result.err


def test_tasks_can_join_a_larger_namespace(project: Project) -> None:
    text = "from invoke.collection import Collection\nfrom ci_tasks import ci\n\nns = Collection()\nns.add_collection(ci)\n"
    project.commit({"ci.toml": toml("false"), "tasks.py": text})
    assert "  ci.run-batch" in project.invoke("--list").out
    assert "again: invoke ci.run-batch" in project.invoke("ci.run-batch").err
    project.write({"tasks.py": text.replace("ns.add_collection(ci)", "ns.add_collection(ci, name='mac')")})
    assert "again: invoke mac.run-batch" in project.invoke("mac.run-batch").err


def test_the_whole_namespace_can_be_added_under_a_name(project: Project) -> None:
    text = "from invoke.collection import Collection\nimport ci_tasks\n\nns = Collection()\nns.add_collection(ci_tasks.ns, name='all')\n"
    project.commit({"ci.toml": toml("false"), "tasks.py": text})
    assert "again: invoke all.ci.run-batch" in project.invoke("all.ci.run-batch").err


def test_the_state_folder_is_ignored_by_git(project: Project) -> None:
    project.commit({"ci.toml": toml()})
    project.invoke("ci.run-batch")
    assert (project.root / ".ci-tasks/runs").is_dir()
    assert project.git("status", "--porcelain", "--ignored") == "!! .ci-tasks/"
    assert os.listdir(project.root / ".ci-tasks/cache") == []  # noqa: PTH208
