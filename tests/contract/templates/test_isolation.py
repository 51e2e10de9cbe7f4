"""The port `FolderEvaluator`: the double and the process answer the same, and the process enforces its limits."""

import dataclasses
import multiprocessing
import os
import shlex
import signal
import sys
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import TransientError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.folder_check import (
    EvaluationFaultError,
    FolderAnswer,
    FolderEvaluator,
    FolderQuestion,
)
from deployer.templates.folder_files import UnreadableError
from deployer.templates.isolation import process as folder_process
from deployer.templates.isolation.messages import EvaluationRequest
from deployer.templates.isolation.process import FolderProcess
from deployer.templates.release import build_release, check_release
from deployer.templates.repository_config import NamePatterns, TeardownPolicy
from tests.doubles import DirectEvaluator

ROOT = Path(__file__).parents[3]
SAMPLE = {
    path.name: path.read_bytes() for path in (ROOT / "sandbox/sample/deploy").iterdir() if path.is_file()
}
BRANCH = Ref.of_branch("feature/ü")
ENVIRONMENT = Environment(Repository.parse("acme/hello"), Kind.DEVELOPMENT, BRANCH)
TARGET = Target(Kind.DEVELOPMENT, account="1" * 12, regions=("us-east-1",), allowed_roles=("arn:x:*",))
GIVEN = {"ArtifactStore": "bucket", "ConnectionArn": "arn:aws:codeconnections:us-east-1:111111111111:c/x"}
PRODUCTION_ROLE = "arn:aws:iam::222222222222:role/production"
TEMPLATE = f"""\
Resources:
  P:
    Type: AWS::CodePipeline::Pipeline
    Properties: {{Name: !Ref AWS::StackName, RoleArn: {PRODUCTION_ROLE}}}
"""


def question(files: dict[str, bytes], target: Target | None = TARGET) -> FolderQuestion:
    return FolderQuestion(ENVIRONMENT, BRANCH, BRANCH.short, "a" * 40, files, GIVEN, target, "us-east-1")


def texts(answer: FolderAnswer) -> list[str]:
    return [str(each) for each in answer.findings]


@pytest.fixture(scope="module", params=["double", "process"])
def evaluator(request: pytest.FixtureRequest) -> Iterator[FolderEvaluator]:
    if request.param == "double":
        yield DirectEvaluator()
    else:
        with closing(FolderProcess()) as process:
            yield process


# --- behaviour of both ------------------------------------------------------------------------------------------


def test_the_sample_becomes_the_same_release_everywhere(evaluator: FolderEvaluator) -> None:
    asked = question(SAMPLE, None)
    made = build_release(asked, evaluator.examine_folder(asked)).accepted_release()
    direct = check_release(ENVIRONMENT, BRANCH, BRANCH.short, "a" * 40, SAMPLE, GIVEN, None, "us-east-1")
    assert made == direct.accepted_release()
    assert made.parameters["RepoBranch"] == "feature/ü"
    assert made.parameters["PipelineName"] == ENVIRONMENT.stack_name


def test_findings_have_file_line_and_text(evaluator: FolderEvaluator) -> None:
    answer = evaluator.examine_folder(question({"pipeline.yml": TEMPLATE.encode()}))
    assert any(
        each.startswith(f"deploy/pipeline.yml:4: {PRODUCTION_ROLE} is of account 222222222222")
        for each in texts(answer)
    )
    assert (
        evaluator.examine_folder(question({})).findings[0].text
        == "it is missing; create it (.yaml and .json work too)"
    )


def test_repository_settings_keep_all_their_types(evaluator: FolderEvaluator) -> None:
    text = (
        "tags: [v*]\nbranches: {include: [a, 'b/*'], exclude: [b/c]}\nttl: {'hot*': 1h, default: 3d}\n"
        "sleep: Mon-Fri 20:00-07:00 Europe/Berlin\nregions: [us-east-1]\n"
        "teardown: {empty_buckets: false, on_failure: stop}\n"
    )
    found = evaluator.read_repository_config({"deployer.yml": text.encode()})
    assert found.tags == NamePatterns(("v*",))
    assert found.branches == NamePatterns(("a", "b/*"), ("b/c",))
    assert found.ttl == (("hot*", "1h"), ("*", "3d"))
    assert found.sleep == "Mon-Fri 20:00-07:00 Europe/Berlin"
    assert (found.regions, found.teardown) == (("us-east-1",), TeardownPolicy(False, "stop"))
    assert evaluator.read_repository_config({}) == type(found)()
    assert evaluator.examine_folder(question({"deployer.yml": text.encode()})).repository_config == found


def test_a_text_that_looks_like_a_number_stays_text(evaluator: FolderEvaluator) -> None:
    digits = "9" * 5000
    files = {
        "deployer.yml": b"tags: [1.x, 010, 2*]\nbranches: {include: [1.x, 1:30], exclude: [y]}\nttl: {1.x: 1h}\n",
        "pipeline.parameters.yml": f"development: {{1x: 1e3, y: 010, z: {digits[:4000]}}}".encode(),
        "pipeline.yml": (
            "Parameters: {1x: {Type: String}, y: {Type: String}, z: {Type: String}, n: {Type: String, Default: 1e3}}\n"
            f"Metadata: [{digits}, 1:30, 010]\n{TEMPLATE}"
        ).encode(),
    }
    found = evaluator.examine_folder(question(files, None))
    assert found.parameters == {"1x": "1e3", "y": "010", "z": digits[:4000]}
    for preferences in (found.repository_config, evaluator.read_repository_config(files)):
        assert preferences.tags.include == ("1.x", "010", "2*")
        assert preferences.branches == NamePatterns(("1.x", "1:30"), ("y",))
        every = [*preferences.tags.include, *preferences.branches.include, *preferences.ttl[0]]
        assert {type(each) for each in every} == {str}


@pytest.mark.parametrize("zone", ["Europe/Belin", "posix/../../etc/passwd", "../zoneinfo/UTC"])
def test_an_unreadable_file_reports_all_its_errors(evaluator: FolderEvaluator, zone: str) -> None:
    with pytest.raises(
        UnreadableError, match=r"deploy/deployer\.yml:1: sleep: .* is not a time zone"
    ) as caught:
        evaluator.read_repository_config({"deployer.yml": f"sleep: 20:00-07:00 {zone}\ntags: 5\n".encode()})
    assert [str(each) for each in caught.value.others] == [
        "deploy/deployer.yml:2: tags is not a pattern or a list of patterns, such as [main, feature/*]"
    ]
    assert caught.value.others[0].line == 2
    with pytest.raises(UnreadableError, match="keep one of them"):
        evaluator.read_repository_config({"deployer.yml": b"", "deployer.json": b"{}"})


def test_a_time_zone_that_is_installed_later_is_known(tmp_path: Path) -> None:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[str(tmp_path), *before])
    try:
        with closing(FolderProcess()) as process:
            with pytest.raises(UnreadableError, match="is not a time zone"):
                process.read_repository_config({"deployer.yml": b"sleep: 20:00-07:00 Test/zone"})
            (tmp_path / "Test").mkdir()
            utc = next(path for each in before if (path := Path(each, "UTC")).exists())
            (tmp_path / "Test" / "zone").write_bytes(utc.read_bytes())
            found = process.read_repository_config({"deployer.yml": b"sleep: 20:00-07:00 Test/zone"})
            assert found.sleep == "20:00-07:00 Test/zone"
    finally:
        zoneinfo.reset_tzpath(to=before)


def test_a_resource_has_a_line(evaluator: FolderEvaluator) -> None:
    files = {"pipeline.yml": TEMPLATE.encode()}
    assert evaluator.line_of_resource(files, "P") == ("deploy/pipeline.yml", 2)
    assert evaluator.line_of_resource(files, "Q") is None
    assert evaluator.line_of_resource({}, "P") is None
    with pytest.raises(UnreadableError):
        evaluator.line_of_resource({"pipeline.yml": b"["}, "P")


def test_one_folder_leaves_nothing_for_the_next(evaluator: FolderEvaluator) -> None:
    deep = b"a: " + b"[" * 200_000
    for _ in range(2):
        assert "nested more than" in texts(evaluator.examine_folder(question({"pipeline.yml": deep})))[0]
        asked = question(SAMPLE, None)
        assert build_release(asked, evaluator.examine_folder(asked)).release


# --- the process and its limits ---------------------------------------------------------------------------------


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FolderProcess]:
    """Run Python code in place of the evaluation: the body of `examine_folder`, with the question in `asked`."""
    made: list[FolderProcess] = []
    python = shlex.quote(sys.executable)

    def put(code: str, before: str = "", **limits: float) -> FolderProcess:
        script = tmp_path / "server.py"
        body = "\n".join(f"    {line}" for line in code.splitlines())
        script.write_text(
            "import os, sys, time, socket\nimport deployer.templates.isolation.server as folder_server\n"
            "from deployer.templates.folder_check import FolderAnswer\n"
            "from deployer.templates.findings import Finding\n"
            "def say(*texts): return FolderAnswer(tuple(Finding('error', 'x', None, str(t)) for t in texts))\n"
            f"def examine_folder(asked):\n{body}\n"
            f"folder_server.examine_folder = examine_folder\n{before}\nfolder_server.main()\n"
        )
        shell = tmp_path / "python"
        # in place of `python -I -B -m MODULE limits`
        shell.write_text(f'#!/bin/sh\nshift 4\nexec {python} -I -B {script} "$@"\n')
        shell.chmod(0o700)
        monkeypatch.setattr(folder_process.sys, "executable", str(shell))
        made.append(FolderProcess(**limits))  # type: ignore[arg-type]
        return made[-1]

    yield put
    for each in made:
        each.close()


ANY = question({"pipeline.yml": b"{}"})


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("while True: pass", "it took more than 1 s of CPU"),
        ("x = bytearray(10**9)", "it took more than 768 MB of memory"),
        ("raise SystemError('error return without exception set')", "it took more than 768 MB of memory"),
        ("os.kill(os.getpid(), 11)", "it ended by signal 11"),
        ("os._exit(0)", "it gave no readable answer"),
        ("os.write(3, b'{\"examined\": 5}'); os._exit(0)", "it gave no readable answer"),
        ("os.write(3, b'garbage'); return say('x')", "it gave no readable answer"),
        ("while True: os.write(3, b'[' * 65536)", "it"),
        (
            "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            "it took",
        ),
    ],
)
def test_an_evaluation_that_is_killed_refuses_the_release(
    instead: Callable[..., FolderProcess], code: str, why: str
) -> None:
    process = instead(code, cpu_seconds=1, wall_seconds=20)
    answer = process.examine_folder(ANY)
    (told,) = texts(answer)
    assert told.startswith(f"deploy/: it is too complex to check: {why}")
    assert build_release(ANY, answer).release is None
    with pytest.raises(UnreadableError, match="not YAML"):  # the next question is not affected
        process.read_repository_config({"deployer.yml": b"["})


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(60)",
        "os.kill(os.getpid(), 9)",
        # more than half of its CPU: a valid template on a machine with little CPU
        "while time.process_time() < 0.6: pass\nos.kill(os.getpid(), 9)",
        "while time.process_time() < 0.6: pass\nos.kill(os.getpid(), 14)",
    ],
)
def test_an_evaluation_killed_before_it_used_its_cpu_is_retried(
    instead: Callable[..., FolderProcess], code: str
) -> None:
    process = instead(code, cpu_seconds=1, wall_seconds=20 if "kill" in code else 0.3)
    with pytest.raises(TransientError, match="the machine is too busy to evaluate deploy/"):
        process.examine_folder(ANY)
    assert process.read_repository_config({"deployer.yml": b"tags: [v1]"}).tags.include == ("v1",)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("folder_server.ZoneInfo = lambda name: int(name)", "ValueError: invalid literal for int"),
        ("folder_server.os.dup2 = lambda *_: os.open('/nothing', 0)", "FileNotFoundError"),
        (
            "def no(*_): raise OSError(1, 'Operation not permitted')\nfolder_server.resource.setrlimit = no",
            "PermissionError: [Errno 1] Operation not permitted",
        ),
    ],
)
def test_an_evaluation_that_cannot_be_confined_is_retried(
    instead: Callable[..., FolderProcess], fault: str, cause: str
) -> None:
    process = instead("return say('not looked at')", before=fault)
    with pytest.raises(TransientError, match="could not be prepared: ") as caught:
        process.read_repository_config({"deployer.yml": b"sleep: 20:00-07:00 UTC"})
    assert cause in str(caught.value)


def test_no_secret_of_a_target_is_sent_to_it() -> None:
    """A field with `repr=False` is secret, so the process that reads a branch's files must not receive it."""
    secret = {each.name: "hush" for each in dataclasses.fields(Target) if not each.repr}
    assert secret
    asked = question(SAMPLE, dataclasses.replace(TARGET, **secret))
    sent = msgspec.json.encode(EvaluationRequest(question=asked))
    assert TARGET.account.encode() in sent
    assert b"hush" not in sent
    assert asked == question(SAMPLE)


def test_a_bug_of_deployer_is_neither_refused_nor_retried(instead: Callable[..., FolderProcess]) -> None:
    with pytest.raises(EvaluationFaultError, match="ZeroDivisionError"):
        instead("return 1 / 0").examine_folder(ANY)
    bug = "def no(*_): return {}['zones']\nfolder_server.resource.setrlimit = no"
    with pytest.raises(EvaluationFaultError, match="KeyError: 'zones'"):
        instead("return say('not looked at')", before=bug).read_repository_config(
            {"deployer.yml": b"ttl: 3d"}
        )


def test_what_an_evaluation_can_access(
    instead: Callable[..., FolderProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEPLOYER_GITHUB_TOKEN", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    secret = tmp_path / "secret"
    secret.write_text("hush")
    code = f"""\
def tried(action):
    try:
        return action()
    except OSError as error:
        return error.strerror
def reused():
    os.close(0)
    return open({str(secret)!r}).read()
own = set(os.environ) - {{"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}}
fds = [n for n in range(64) if tried(lambda: os.fstat(n)) != "Bad file descriptor"]
return say(
    tried(lambda: open({str(secret)!r}).read()), tried(reused), tried(socket.socket), tried(os.getcwd),
    tried(lambda: os.pipe()), sorted(own), fds, "hush" in repr(os.environ))"""
    answer = instead(code).examine_folder(ANY)
    assert [each.text for each in answer.findings] == [
        *["Too many open files"] * 3, "No such file or directory", "Too many open files", "[]", "[0, 1, 2, 3]",
        "False",
    ]  # fmt: skip


def test_an_answer_about_another_environment_is_not_believed(instead: Callable[..., FolderProcess]) -> None:
    code = """\
return FolderAnswer((), template="pipeline.yml", lintable=True, needs_token=False, parameters={
    "Stage": "production", "RepoName": "other", "PipelineName": "x", "RepoToken": "y", "Own": "z"})"""
    answer = instead(code).examine_folder(ANY)
    made = build_release(ANY, answer).accepted_release()
    assert made.parameters == {
        "Stage": "development",
        "RepoName": "hello",
        "PipelineName": ENVIRONMENT.stack_name,
        "Own": "z",
    }
    assert ENVIRONMENT.owns(made.tags)
    other = instead("return FolderAnswer((), template='deployer.yml', lintable=True)")
    with pytest.raises(EvaluationFaultError):
        other.examine_folder(ANY)


def test_no_temporary_folder_or_interpreter_is_transient(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folder_process.sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(TransientError, match="cannot be started: No such file or directory"):
        FolderProcess().examine_folder(ANY)
    monkeypatch.setattr(folder_process.sys, "executable", "/bin/false")
    with pytest.raises(TransientError, match="ends at every question"):
        FolderProcess().examine_folder(ANY)
    monkeypatch.setattr(folder_process.tempfile, "tempdir", str(tmp_path / "full"))
    with pytest.raises(TransientError, match="cannot be started"):
        FolderProcess().examine_folder(ANY)


def test_a_server_that_died_is_replaced() -> None:
    with closing(FolderProcess()) as process:
        assert process.read_repository_config({"deployer.yml": b"tags: [v1]"}).tags.include == ("v1",)
        assert process._process
        os.kill(process._process.pid, signal.SIGKILL)
        assert process.read_repository_config({"deployer.yml": b"tags: [v2]"}).tags.include == ("v2",)


def test_an_interrupted_question_leaves_no_answer_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken_off(*_: object) -> None:
        raise SystemExit  # as at the end of a worker, after it has sent its question

    with closing(FolderProcess()) as process:
        with monkeypatch.context() as patch:
            patch.setattr(folder_process, "receive_message", broken_off)
            with pytest.raises(SystemExit):
                process.read_repository_config({"deployer.yml": b"tags: [v1]"})
        assert process.read_repository_config({"deployer.yml": b"tags: [v2]"}).tags.include == ("v2",)


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def _evaluate(pids: "multiprocessing.SimpleQueue[int]") -> None:
    process = FolderProcess()
    process.examine_folder(question(SAMPLE))
    assert process._process
    pids.put(process._process.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_server_ends_with_its_client_even_a_daemonic_process() -> None:
    context = multiprocessing.get_context("fork")  # Celery's pool starts its children in this way
    pids: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    child = context.Process(target=_evaluate, args=(pids,), daemon=True)
    child.start()
    child.join()
    assert _gone(pids.get())


def test_the_server_ends_with_its_last_reference() -> None:
    process = FolderProcess()
    process.start()
    assert process._process
    pid = process._process.pid
    del process
    assert _gone(pid)


def test_a_forked_process_starts_its_own_server() -> None:
    with closing(FolderProcess()) as process:
        process.start()
        context = multiprocessing.get_context("fork")
        found: multiprocessing.Queue[tuple[int, int]] = context.Queue()

        def ask() -> None:
            process.examine_folder(question(SAMPLE))
            assert process._process
            found.put((len(texts(process.examine_folder(question({})))), process._process.pid))
            process.close()

        child = context.Process(target=ask)
        child.start()
        assert process._process
        count, pid = found.get(timeout=30)
        child.join()
        assert (count, pid != process._process.pid) == (1, True)
        assert texts(process.examine_folder(question({})))
