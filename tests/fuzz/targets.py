"""One function for each place where others' input is read. It takes any bytes, and fails if a promise is broken.

An input is readable, so that a seed can be written by hand: header lines, a blank line and a body, or the files of a
`deploy/` folder, each under a line `=== name`.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from functools import cache

import msgspec

from deployer.aws.events import parse_aws
from deployer.github.webhook import parse_github, verify_signature
from deployer.model.environments import TAG_LIMIT, Environment, Kind, Repository, ref_from_tags
from deployer.model.errors import DeployerError, PayloadError, PermanentError, SignatureError
from deployer.model.events import CloudEvent, Ignored, Ping, Push
from deployer.model.refs import Ref
from deployer.model.targets import Target as Place
from deployer.templates.evaluation.budget import CHARACTERS, STEPS, EvaluationBudget
from deployer.templates.folder_check import FolderAnswer, FolderQuestion, examine_folder
from deployer.templates.isolation.messages import EvaluationAnswer
from deployer.templates.release import build_release
from tests.web.site import AWS_KEY, SECRET, SHA, Site, record, signature

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {}
_MESSAGE_LIMIT = 600
_KEPT_LIMIT = 2100  # characters: two fields of 1,024 and some words
_FILES = re.compile(rb"^=== ([\w.-]+)\n", re.MULTILINE)
_SECRETS = ("another-one", SECRET)
_GIVEN = {"ArtifactStore": "bucket", "ConnectionArn": "arn"}
_TARGET = Place(
    Kind.DEVELOPMENT, account="1" * 12, regions=("us-east-1",), permissions_boundary="arn:aws:iam::1:policy/b"
)
_REPOSITORY = Repository("acme", "api")
_BRANCH = Ref.of_branch("feature/x")
_NAMED = {
    "event": "X-GitHub-Event",
    "delivery": "X-GitHub-Delivery",
    "type": "Content-Type",
    "signature": "X-Hub-Signature-256",
    "key": "X-Deployer-Event-Key",
}


def _target(function: Target) -> Target:
    TARGETS[function.__name__.strip("_").replace("_", "-")] = function
    return function


@_target
def _signature(data: bytes) -> None:
    """A header's line, in which `@` stands for the right signature, and a body."""
    line, found, body = data.partition(b"\n")
    right = {"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in _SECRETS}
    header = line.decode("latin-1").replace("@", signature(body)) if found else None
    try:
        verify_signature(body, header, _SECRETS)
    except SignatureError as error:
        _told(error)
        assert header not in right
    else:
        assert header in right


@_target
def _github(data: bytes) -> None:
    """Headers and body of a delivery whose signature was verified."""
    headers, body = _request(data)
    try:
        event = parse_github(headers, body)
    except PayloadError as error:
        _told(error)
        return
    assert re.fullmatch(r"[\w.:-]{1,100}", event.delivery, re.ASCII)
    if isinstance(event, Ping):
        assert headers["X-GitHub-Event"] == "ping"
    elif isinstance(event, Ignored):
        _kept(event.reason)
    else:
        assert isinstance(event, Push)
        assert Repository.parse(event.repository.full_name) == event.repository
        assert Ref.parse(event.ref.name) == event.ref
        assert event.deleted == (set(event.after) == {"0"})
        assert 0 <= event.pushed_at < 1e11
        for text in (event.before, event.after, event.default_branch):
            _kept(text)


@_target
def _aws(data: bytes) -> None:
    """An event's body."""
    try:
        event = parse_aws(data)
    except PayloadError as error:
        _told(error)
        return
    assert re.fullmatch(r"[\w.:-]{1,100}", event.delivery, re.ASCII)
    if isinstance(event, Ignored):
        _kept(event.reason)
    else:
        assert isinstance(event, CloudEvent)
        for text in (event.stack_name, event.about, event.execution or ""):
            _kept(text)


@_target
def _post_github(data: bytes) -> None:
    """A delivery as it comes by HTTP; signed rightly unless it has a signature of its own."""
    headers, body = _request(data)
    given = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "d-1",
        "X-Hub-Signature-256": signature(body),
        **headers,
    }
    right = {signature(body, secret) for secret in _SECRETS}
    _post("/webhooks/github", given, body, believed=given["X-Hub-Signature-256"] in right)


@_target
def _post_aws(data: bytes) -> None:
    """An event as it comes by HTTP, with the right key unless it has one of its own."""
    headers, body = _request(data)
    given = {"Content-Type": "application/json", "X-Deployer-Event-Key": AWS_KEY, **headers}
    _post("/webhooks/aws", given, body, believed=given["X-Deployer-Event-Key"] == AWS_KEY)


@_target
def _deploy(data: bytes) -> None:
    """The files of a `deploy/` folder, for each kind of environment."""
    _, *parts = _FILES.split(data)
    files = dict(zip((name.decode() for name in parts[::2]), parts[1::2], strict=True))
    for kind, ref, branch in (
        (Kind.DEVELOPMENT, _BRANCH, "feature/x"),
        (Kind.STAGING, Ref.of_branch("main"), "main"),
        (Kind.PRODUCTION, Ref.parse("refs/tags/v1"), "main"),
    ):
        environment = Environment(_REPOSITORY, kind, ref if kind is Kind.DEVELOPMENT else None)
        question = FolderQuestion(environment, ref, branch, SHA, files, _GIVEN, _TARGET, "us-east-1")
        answer = _examined(question)
        try:
            release = build_release(question, answer).accepted_release()
        except PermanentError as error:
            _told(error, "deploy/")
            continue
        assert release.template.encode() in {
            content.removeprefix(b"\xef\xbb\xbf") for content in files.values()
        }
        for name, value in release.parameters.items():
            assert isinstance(name, str)
            assert len(value.encode()) <= 4096
        assert release.parameters.get("Stage", str(kind)) == kind
        assert release.parameters.get("PipelineName", environment.stack_name) == environment.stack_name
        assert "RepoToken" not in release.parameters
        assert environment.owns(release.tags)
        assert re.fullmatch(r"[0-9a-f]{32}", release.digest)


def _examined(question: FolderQuestion) -> FolderAnswer:
    """Evaluate a folder; insist that the work is counted, the same each time, and that the answer can be sent.

    The budget is a fiftieth of the real one: what is not counted is found by libFuzzer's limit of time.
    """
    budgets = [EvaluationBudget(STEPS // 50, CHARACTERS // 50) for _ in range(2)]
    answer = examine_folder(question, budgets[0])
    if budgets[0].exhausted:
        assert any("too complex to check" in each.text for each in answer.findings if each.level == "error")
        assert examine_folder(question, budgets[1]) == answer
        assert budgets[1].steps_spent == budgets[0].steps_spent
        assert budgets[1].characters_spent == budgets[0].characters_spent
    sent = msgspec.json.encode(EvaluationAnswer(examined=answer))
    assert len(sent) < 1_000_000
    assert msgspec.json.decode(sent, type=EvaluationAnswer).examined == answer
    return answer


@_target
def _refs(data: bytes) -> None:
    """Three lines: a repository, a ref, a default branch; as a command line has them, where any byte may stand."""
    lines = data.decode("utf-8", "surrogateescape").split("\n", 2)
    name, text, default_branch = [*lines, "", ""][:3]
    try:
        repository = Repository.parse(name)
        ref = Ref.parse(text)
    except PayloadError as error:
        _told(error)
        return
    assert ref.name == text
    environment = Environment.of_ref(repository, ref, default_branch)
    if ref.is_tag:
        assert environment.kind is Kind.PRODUCTION
    else:
        assert (environment.kind is Kind.STAGING) == (ref.branch == default_branch)
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", environment.stack_name)
    assert Environment.from_key(repository, environment.key) == environment
    assert environment.owns(environment.tags)
    assert len(environment.tags) <= 40  # of 50; deployer and CloudFormation add some
    for value in environment.tags.values():
        assert re.fullmatch(r"[A-Za-z0-9_.:/=+@ -]*", value)
        assert len(value) <= TAG_LIMIT
    if environment.branch:
        assert ref_from_tags(environment.tags) == ref.name


def _request(data: bytes) -> tuple[dict[str, str], bytes]:
    """Header lines such as `event: push`, and the body after the first blank line."""
    head, _, body = data.partition(b"\n\n")
    headers = {}
    for line in head.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        if name in _NAMED and "\r" not in value:  # no server lets a line's end into a header
            headers[_NAMED[name]] = value.strip(" ")
    return headers, body


def _told(error: DeployerError, names: str = "") -> None:
    """Insist on one printable line of bounded length, that names something."""
    text = str(error)
    assert names in text
    assert text.isprintable(), ascii(text[:_MESSAGE_LIMIT])
    assert 0 < len(text) <= _MESSAGE_LIMIT, len(text)


def _kept(text: str) -> None:
    """Insist that a text can be stored, and is not a body's worth of it."""
    text.encode()
    assert len(text) <= _KEPT_LIMIT, len(text)


class _Door:
    """An application with one environment that AWS's events can name, and what its Redis held before."""

    def __init__(self) -> None:
        self.site = Site()
        self.restore()

    def restore(self) -> None:
        self.site.redis.flushall()
        self.site.put(record())
        self.site.queue.sent.clear()
        self.keys = set(self.site.redis.keys("*"))

    @property
    def untouched(self) -> bool:
        return not self.site.queue.sent and set(self.site.redis.keys("*")) == self.keys


@cache
def _door() -> _Door:
    return _Door()


def _post(path: str, headers: dict[str, str], body: bytes, *, believed: bool) -> None:
    """Send a request; insist on a sound answer, and that the lanes hold what it says and nothing else."""
    door = _door()
    site = door.site
    answer = site.client.post(path, data=body, headers=headers)
    told = answer.get_json()
    assert answer.status_code in {200, 202, 400, 401, 415}, (answer.status_code, told)
    if not believed:
        assert answer.status_code in {401, 415}
    if answer.status_code not in {200, 202}:
        assert list(told) == ["error"]
        assert told["error"].isprintable()
        assert 0 < len(told["error"]) <= _MESSAGE_LIMIT
    if answer.status_code != 202:
        assert door.untouched
        return
    try:
        known = site.lanes.delivery(told["delivery"])
        waiting = [work.deliveries for work in site.waiting]
        if told["outcome"] == "queued":
            assert known is not None
            assert known.outcome == "queued"
            assert waiting == [told["delivery"]]
        elif told["outcome"] == "ignored":
            assert known is not None
            assert known.outcome in {"ignored", "skipped"}
            _kept(known.reason)
            assert waiting == []
        else:
            assert told["outcome"] == "duplicate"
            assert waiting == []
    finally:
        door.restore()
