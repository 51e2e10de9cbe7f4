"""Fuzz targets: one function for each reader of input from outside, which fails if a promise is broken.

A target accepts any bytes. An input is readable text, so that seeds can be written by hand: header lines, a blank line
and a body; or the files of a `deploy/` folder, each after a line `=== name`.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from functools import cache

import msgspec

from deployer.aws.events import parse_event
from deployer.github.webhook import parse_delivery, verify_signature
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
_STORED_LIMIT = 2100  # characters: two fields of 1,024 and some text
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


def _register_target(function: Target) -> Target:
    TARGETS[function.__name__.strip("_").replace("_", "-")] = function
    return function


@_register_target
def _signature(data: bytes) -> None:
    """A header line, in which `@` stands for the correct signature, with a body."""
    line, found, body = data.partition(b"\n")
    right = {"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in _SECRETS}
    header = line.decode("latin-1").replace("@", signature(body)) if found else None
    try:
        verify_signature(body, header, _SECRETS)
    except SignatureError as error:
        _assert_readable(error)
        assert header not in right
    else:
        assert header in right


@_register_target
def _github(data: bytes) -> None:
    """The headers and the body of a delivery with a verified signature."""
    headers, body = _parse_request(data)
    try:
        event = parse_delivery(headers, body)
    except PayloadError as error:
        _assert_readable(error)
        return
    assert re.fullmatch(r"[\w.:-]{1,100}", event.delivery, re.ASCII)
    if isinstance(event, Ping):
        assert headers["X-GitHub-Event"] == "ping"
    elif isinstance(event, Ignored):
        _assert_storable(event.reason)
    else:
        assert isinstance(event, Push)
        assert Repository.parse(event.repository.full_name) == event.repository
        assert Ref.parse(event.ref.name) == event.ref
        assert event.deleted == (set(event.after) == {"0"})
        assert 0 <= event.pushed_at < 1e11
        for text in (event.before, event.after, event.default_branch):
            _assert_storable(text)


@_register_target
def _aws(data: bytes) -> None:
    """The body of an event."""
    try:
        event = parse_event(data)
    except PayloadError as error:
        _assert_readable(error)
        return
    assert re.fullmatch(r"[\w.:-]{1,100}", event.delivery, re.ASCII)
    if isinstance(event, Ignored):
        _assert_storable(event.reason)
    else:
        assert isinstance(event, CloudEvent)
        for text in (event.stack_name, event.about, event.execution or ""):
            _assert_storable(text)


@_register_target
def _post_github(data: bytes) -> None:
    """A delivery by HTTP; it is signed correctly unless the input has a signature."""
    headers, body = _parse_request(data)
    given = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "d-1",
        "X-Hub-Signature-256": signature(body),
        **headers,
    }
    right = {signature(body, secret) for secret in _SECRETS}
    _post_request("/webhooks/github", given, body, authentic=given["X-Hub-Signature-256"] in right)


@_register_target
def _post_aws(data: bytes) -> None:
    """An event by HTTP; it has the correct key unless the input has a key."""
    headers, body = _parse_request(data)
    given = {"Content-Type": "application/json", "X-Deployer-Event-Key": AWS_KEY, **headers}
    _post_request("/webhooks/aws", given, body, authentic=given["X-Deployer-Event-Key"] == AWS_KEY)


@_register_target
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
        answer = _examine_folder_twice(question)
        try:
            release = build_release(question, answer).accepted_release()
        except PermanentError as error:
            _assert_readable(error, "deploy/")
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


def _examine_folder_twice(question: FolderQuestion) -> FolderAnswer:
    """Evaluate a folder; assert that its steps are counted, that the result is repeatable, and that it can be sent.

    The budget is a fiftieth of the real one; libFuzzer's time limit finds work that is not counted.
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


@_register_target
def _refs(data: bytes) -> None:
    """A repository, a ref and a default branch, one on each line, as on a command line, which may contain any byte."""
    lines = data.decode("utf-8", "surrogateescape").split("\n", 2)
    name, text, default_branch = [*lines, "", ""][:3]
    try:
        repository = Repository.parse(name)
        ref = Ref.parse(text)
    except PayloadError as error:
        _assert_readable(error)
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
    assert len(environment.tags) <= 40  # of 50 allowed; deployer and CloudFormation add some
    for value in environment.tags.values():
        assert re.fullmatch(r"[A-Za-z0-9_.:/=+@ -]*", value)
        assert len(value) <= TAG_LIMIT
    if environment.branch:
        assert ref_from_tags(environment.tags) == ref.name


def _parse_request(data: bytes) -> tuple[dict[str, str], bytes]:
    """The headers (from lines such as `event: push`), and the body after the first blank line."""
    head, _, body = data.partition(b"\n\n")
    headers = {}
    for line in head.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        if name in _NAMED and "\r" not in value:  # no server accepts a line end in a header
            headers[_NAMED[name]] = value.strip(" ")
    return headers, body


def _assert_readable(error: DeployerError, names: str = "") -> None:
    """Assert that an error is one printable line of bounded length with a certain text."""
    text = str(error)
    assert names in text
    assert text.isprintable(), ascii(text[:_MESSAGE_LIMIT])
    assert 0 < len(text) <= _MESSAGE_LIMIT, len(text)


def _assert_storable(text: str) -> None:
    """Assert that a text can be stored, and is much shorter than a body."""
    text.encode()
    assert len(text) <= _STORED_LIMIT, len(text)


class _WebApplication:
    """A web application with one environment that AWS's events can name, and the former keys of its Redis."""

    def __init__(self) -> None:
        self.site = Site()
        self.restore_redis()

    def restore_redis(self) -> None:
        self.site.redis.flushall()
        self.site.put(record())
        self.site.queue.sent.clear()
        self.keys = set(self.site.redis.keys("*"))

    @property
    def untouched(self) -> bool:
        return not self.site.queue.sent and set(self.site.redis.keys("*")) == self.keys


@cache
def _web_application() -> _WebApplication:
    return _WebApplication()


def _post_request(path: str, headers: dict[str, str], body: bytes, *, authentic: bool) -> None:
    """Send a request; assert that the answer is well-formed, and that the queues contain only what it reports."""
    web = _web_application()
    site = web.site
    answer = site.client.post(path, data=body, headers=headers)
    content = answer.get_json()
    assert answer.status_code in {200, 202, 400, 401, 415}, (answer.status_code, content)
    if not authentic:
        assert answer.status_code in {401, 415}
    if answer.status_code not in {200, 202}:
        assert list(content) == ["error"]
        assert content["error"].isprintable()
        assert 0 < len(content["error"]) <= _MESSAGE_LIMIT
    if answer.status_code != 202:
        assert web.untouched
        return
    try:
        known = site.lanes.delivery(content["delivery"])
        waiting = [work.deliveries for work in site.waiting]
        if content["outcome"] == "queued":
            assert known is not None
            assert known.outcome == "queued"
            assert waiting == [content["delivery"]]
        elif content["outcome"] == "ignored":
            assert known is not None
            assert known.outcome in {"ignored", "skipped"}
            _assert_storable(known.reason)
            assert waiting == []
        else:
            assert content["outcome"] == "duplicate"
            assert waiting == []
    finally:
        web.restore_redis()
