import pytest

from deployer.environments import Environment, Kind, Repository
from deployer.errors import PermanentError
from deployer.preferences import Preferences, Teardown, read_preferences
from deployer.refs import Ref
from deployer.release import Release, build_release, check_release
from deployer.targets import Target
from deployer.template import UnreadableError

TEMPLATE = b"Resources: {P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"
BRANCH = Ref.of_branch("x")


def test_without_a_file_all_is_by_default() -> None:
    preferences = read_preferences({"pipeline.yml": b""})
    assert preferences == Preferences(Teardown(empty_buckets=True, on_failure="retain"), ())
    assert preferences.teardown_text == "empty-buckets retain"


@pytest.mark.parametrize("name", ["deployer.yml", "deployer.yaml", "deployer.json"])
def test_a_file_is_read(name: str) -> None:
    content = b'{"teardown": {"empty_buckets": false, "on_failure": "force"}, "regions": ["eu-west-1"]}'
    assert read_preferences({name: content}) == Preferences(Teardown(False, "force"), ("eu-west-1",))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("\nteardwon: {}", 2, "teardwon is not known; there are teardown, regions"),
        ("teardown:\n  bucket: 1", 2, "teardown.bucket is not known; there are empty_buckets, on_failure"),
        ("teardown: yes", 1, "no mapping"),
        ("teardown:\n  empty_buckets: 1", 2, "none of true, false"),
        ("teardown:\n  on_failure: x", 2, "none of retain, force, stop"),
        ("regions: eu-west-1", 1, "no list"),
        ("regions: []", 1, "no list"),
        ("- a", 1, "not a mapping"),
        ("a: [", 1, "not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_preferences({"deployer.yml": text.encode()})
    assert str(caught.value).startswith(f"deploy/deployer.yml:{line}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("failure", ["retain", "force", "stop"])
def test_the_tag_tells_what_was_written(empty: bool, failure: str) -> None:
    teardown = Teardown(empty, failure)
    assert Teardown.parse(teardown.text) == teardown


@pytest.mark.parametrize("text", ["", "what ever", "empty-buckets"])
def test_a_tag_of_another_version_or_none_is_the_default(text: str) -> None:
    assert Teardown.parse(text) == Teardown()


def test_regions_only_narrow() -> None:
    preferences = Preferences(regions=("eu-west-1", "xx-nowhere-1"))
    assert preferences.narrowed(("us-east-1", "eu-west-1")) == ("eu-west-1",)
    assert Preferences().narrowed(("us-east-1", "eu-west-1")) == ("us-east-1", "eu-west-1")
    assert preferences.narrowed(()) == ()
    with pytest.raises(PermanentError, match="regions has eu-west-1, xx-nowhere-1; there are us-east-1"):
        preferences.narrowed(("us-east-1",))


def test_a_region_outside_the_target_is_told_at_the_check() -> None:
    for kind in Kind:
        environment = Environment(
            Repository.parse("acme/hello"), kind, BRANCH if kind is Kind.DEVELOPMENT else None
        )
        files = {"pipeline.yml": TEMPLATE, "deployer.yml": b"regions: [us-east-1]"}
        target = Target(kind, regions=("eu-west-1",))
        checked = check_release(environment, BRANCH, "x", "a" * 40, files, {}, target)
        told = ["deploy/deployer.yml: regions has us-east-1; there are eu-west-1"]
        assert [str(each) for each in checked.findings] == told * (kind is Kind.DEVELOPMENT)


def _release(preferences: bytes) -> Release:
    environment = Environment(Repository.parse("acme/hello"), Kind.DEVELOPMENT, BRANCH)
    files = {"pipeline.yml": TEMPLATE, "deployer.yml": preferences}
    return build_release(environment, BRANCH, "x", "a" * 40, files, {})


def test_the_stack_bears_them_and_the_digest_tells_a_change() -> None:
    default = _release(b"teardown: {empty_buckets: true}")
    kept = _release(b"teardown: {empty_buckets: false}")
    assert default.tags["deployer:teardown"] == "empty-buckets retain"
    assert kept.tags["deployer:teardown"] == "keep-buckets retain"
    assert default.digest == "6387b419fd67e382d3b2feb96803e29c"  # as before there were preferences
    assert kept.digest != default.digest
