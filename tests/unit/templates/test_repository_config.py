import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.folder_files import UnreadableError
from deployer.templates.release import Release, check_release
from deployer.templates.repository_config import (
    NamePatterns,
    RepositoryConfig,
    TeardownPolicy,
    read_repository_config,
)

TEMPLATE = b"Resources: {P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"
BRANCH = Ref.of_branch("x")


def test_without_a_file_every_setting_has_its_default() -> None:
    preferences = read_repository_config({"pipeline.yml": b""})
    assert preferences == RepositoryConfig(TeardownPolicy(empty_buckets=True, on_failure="retain"), ())
    assert preferences.teardown_text == "empty-buckets retain"


@pytest.mark.parametrize("name", ["deployer.yml", "deployer.yaml", "deployer.json"])
def test_every_file_format_is_read(name: str) -> None:
    content = b'{"teardown": {"empty_buckets": false, "on_failure": "force"}, "regions": ["eu-west-1"]}'
    assert read_repository_config({name: content}) == RepositoryConfig(
        TeardownPolicy(False, "force"), ("eu-west-1",)
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "\nteardwon: {}",
            2,
            "teardwon is unknown; use one of teardown, regions, ttl, warn, sleep, branches",
        ),
        ("teardown:\n  bucket: 1", 2, "teardown.bucket is unknown; use one of empty_buckets, on_failure"),
        ("teardown: yes", 1, "not a mapping"),
        ("teardown:\n  empty_buckets: 1", 2, "not one of true, false"),
        ("teardown:\n  on_failure: x", 2, "not one of retain, force, stop"),
        ("regions: eu-west-1", 1, "not a list"),
        ("regions: []", 1, "not a list"),
        ("ttl: 90", 1, "ttl is not a duration, such as 90m, 12h, 3d, 2w or never"),
        ("ttl: soon", 1, "ttl: 'soon' is not a duration"),
        ("ttl:\n  default: 3d\n  release/*: 1y", 3, "ttl.release/*: '1y' is not a duration"),
        ("ttl: [3d]", 1, "ttl is not a duration"),
        ("warn: 2", 1, "warn is not a duration, such as 90m, 12h, 3d, 2w"),
        (
            "warn:\n  default: 1d\n  x: never",
            3,
            "warn is never, but every environment must get a warning",
        ),
        ("warn:\n  x: soon", 2, "warn.x: 'soon' is not a duration"),
        (
            "sleep: 20",
            1,
            'sleep is not a text or a list, such as "Mon-Fri 20:00-07:00 Europe/Berlin", or {hours: ',
        ),
        ("sleep: []", 1, "sleep is not a text or a list"),
        ("sleep: ['20:00-07:00', 3]", 1, "sleep is not a text or a list"),
        ("sleep:\n  timezone: UTC", 1, "sleep is not a text or a list"),
        ("sleep: Mo-Fr 20:00-07:00", 1, "sleep: 'Mo-Fr 20:00-07:00' is not a part of a day or week"),
        ("sleep: 20:00-07:00 Mars", 1, "sleep: 'Mars' is not a time zone"),
        ("sleep:\n  hours: 8-6", 2, "sleep.hours: '8-6' is not a part of a day or week, such as 20:00-07:00"),
        (
            "sleep:\n  hours: 8:00-6:00 Asia/Tokyo",
            2,
            "sleep.hours has a time zone; write it in sleep.timezone",
        ),
        ("sleep:\n  hours: 8:00-6:00\n  timezone: Mars", 3, "sleep.timezone: 'Mars' is not a time zone"),
        ("sleep:\n  hours: 8:00-6:00\n  days: 3", 3, "sleep.days is unknown; use one of hours, timezone"),
        ("branches:\n  only: x", 2, "branches.only is unknown; use one of include, exclude"),
        ("branches:\n  include: []", 2, "branches.include is not a pattern or a list of patterns"),
        ("tags: 1", 1, "tags is not a pattern or a list of patterns"),
        ("paths: ['']", 1, "paths is not a pattern or a list of patterns"),
        ("- a", 1, "not a mapping"),
        ("a: [", 1, "not YAML"),
    ],
)
def test_an_invalid_setting_is_reported_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_repository_config({"deployer.yml": text.encode()})
    assert str(caught.value).startswith(f"deploy/deployer.yml:{line}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("failure", ["retain", "force", "stop"])
def test_the_tag_contains_the_teardown_policy(empty: bool, failure: str) -> None:
    teardown = TeardownPolicy(empty, failure)
    assert TeardownPolicy.parse(teardown.text) == teardown


@pytest.mark.parametrize("text", ["", "what ever", "empty-buckets"])
def test_an_unknown_or_missing_tag_means_the_default_policy(text: str) -> None:
    assert TeardownPolicy.parse(text) == TeardownPolicy()


AGEING = b"""
ttl: {default: 7d, "release/*": never, "release/old*": 1d, "spike/*": 12h}
sleep: {hours: 20:00 - 07:00, timezone: Europe/Berlin}
branches: {include: [main, "feature/*"], exclude: "*/wip*"}
tags: "v*"
paths: {exclude: ["docs/*", "*.md"]}
"""


@pytest.mark.parametrize(
    ("branch", "ttl"),
    [
        ("x", "7d"),
        ("release/1", "never"),
        ("release/old", "never"),
        ("spike/a/b", "12h"),
        ("Release/1", "7d"),
    ],
)
def test_the_first_matching_pattern_sets_the_time_to_live(branch: str, ttl: str) -> None:
    assert read_repository_config({"deployer.yml": AGEING}).ttl_of(branch) == ttl


def test_a_single_ttl_applies_to_all_branches_and_none_is_unset() -> None:
    assert read_repository_config({"deployer.yml": b"ttl: 3d"}).ttl_of("x") == "3d"
    assert read_repository_config({"deployer.yml": b"ttl: {a*: 3d}"}).ttl_of("x") == ""


def test_the_warning_time_may_differ_between_branches() -> None:
    wishes = read_repository_config({"deployer.yml": b"warn: {default: 12h, 'release/*': 3d}"})
    assert (wishes.warning_time_of("release/1"), wishes.warning_time_of("x")) == ("3d", "12h")
    assert read_repository_config({"deployer.yml": b"warn: 2d"}).warning_time_of("x") == "2d"
    assert read_repository_config({}).warning_time_of("x") == ""


@pytest.mark.parametrize(
    ("text", "sleep"),
    [
        ("{hours: 20:00 - 07:00, timezone: Europe/Berlin}", "20:00-07:00 Europe/Berlin"),
        ("{hours: [20:00-07:00, 'Sat 0:00 - Mon 7:00']}", "20:00-07:00 UTC; Sat 00:00-Mon 07:00 UTC"),
        ("20:00-07:00", "20:00-07:00 UTC"),
        ('"mon - fri 20:00-07:00 Europe/Berlin"', "Mon-Fri 20:00-07:00 Europe/Berlin"),
        (
            "[Mon-Thu 20:00-7:00 UTC, Fri 20:00-Mon 7:00 UTC]",
            "Mon-Thu 20:00-07:00 UTC; Fri 20:00-Mon 07:00 UTC",
        ),
    ],
)
def test_sleep_is_read(text: str, sleep: str) -> None:
    assert read_repository_config({"deployer.yml": f"sleep: {text}".encode()}).sleep == sleep


@pytest.mark.parametrize(
    ("branch", "refused"), [("feature/a/b", False), ("feature/wip-1", True), ("other", True)]
)
def test_patterns_select_branches(branch: str, *, refused: bool) -> None:
    why = read_repository_config({"deployer.yml": AGEING}).branch_refusal(Ref.of_branch(branch))
    assert bool(why) == refused
    assert RepositoryConfig().branch_refusal(Ref.of_branch(branch)) == ""


@pytest.mark.parametrize(
    ("files", "concerns"),
    [
        (["docs/a/b.txt", "README.md"], False),
        (["docs/a.txt", "src/x.py"], True),
        (["deploy/notes.md"], True),
        ([], False),
    ],
)
def test_patterns_select_paths(files: list[str], concerns: bool) -> None:
    assert read_repository_config({"deployer.yml": AGEING}).concerns_files(files) == concerns


@given(st.lists(st.text(min_size=1, max_size=20), max_size=4), st.text(max_size=30))
def test_any_pattern_gives_an_answer(patterns: list[str], name: str) -> None:
    chosen = NamePatterns(include=tuple(patterns))
    assert chosen.match(name) is (not patterns or any(NamePatterns((each,)).match(name) for each in patterns))
    assert not NamePatterns(exclude=(*patterns, "*")).match(name)


def test_regions_only_narrow_the_regions_of_the_target() -> None:
    preferences = RepositoryConfig(regions=("eu-west-1", "xx-nowhere-1"))
    assert preferences.allowed_regions(("us-east-1", "eu-west-1")) == ("eu-west-1",)
    assert RepositoryConfig().allowed_regions(("us-east-1", "eu-west-1")) == ("us-east-1", "eu-west-1")
    assert preferences.allowed_regions(()) == ()
    with pytest.raises(PermanentError, match="regions has eu-west-1, xx-nowhere-1; use some of us-east-1"):
        preferences.allowed_regions(("us-east-1",))


def test_a_region_outside_the_target_is_reported_at_the_check() -> None:
    for kind in Kind:
        environment = Environment(
            Repository.parse("acme/hello"), kind, BRANCH if kind is Kind.DEVELOPMENT else None
        )
        files = {"pipeline.yml": TEMPLATE, "deployer.yml": b"regions: [us-east-1]"}
        target = Target(kind, regions=("eu-west-1",))
        checked = check_release(environment, BRANCH, "x", "a" * 40, files, {}, target)
        told = ["deploy/deployer.yml: regions has us-east-1; use some of eu-west-1"]
        assert [str(each) for each in checked.findings] == told * (kind is Kind.DEVELOPMENT)


def _release(preferences: bytes) -> Release:
    environment = Environment(Repository.parse("acme/hello"), Kind.DEVELOPMENT, BRANCH)
    files = {"pipeline.yml": TEMPLATE, "deployer.yml": preferences}
    return check_release(environment, BRANCH, "x", "a" * 40, files, {}).accepted_release()


def test_the_stack_has_the_policy_as_a_tag_and_the_digest_depends_on_it() -> None:
    default = _release(b"teardown: {empty_buckets: true}")
    kept = _release(b"teardown: {empty_buckets: false}")
    assert default.tags["deployer:teardown"] == "empty-buckets retain"
    assert kept.tags["deployer:teardown"] == "keep-buckets retain"
    assert (
        default.digest == "6387b419fd67e382d3b2feb96803e29c"
    )  # the same value as before repository settings existed
    assert kept.digest != default.digest
