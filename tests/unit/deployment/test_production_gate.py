"""The rules for production: the pure decision by table and by property, and what it reads of GitHub."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.deployment.production.gate import (
    MOST_COMPARED,
    Admitted,
    Need,
    ProductionGate,
    Refused,
    Situation,
    judge,
)
from deployer.environment.code_host import Relation
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import ConfigError, TransientError
from deployer.model.production_record import (
    Admission,
    RefusedTag,
    after_admission,
    with_approval,
    with_refusal,
)
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.settings.targets import read_targets
from deployer.templates.repository_config import NamePatterns, RepositoryConfig, read_repository_config
from tests.doubles import FakeCloud, FakeClouds, FakeHost

HELLO = Repository("acme", "hello")
MAIN, V1 = Ref("refs/heads/main"), Ref("refs/tags/v1")
HEAD, COMMIT = "a" * 40, "b" * 40
PRODUCTION = Target(Kind.PRODUCTION)
RELEASES = RepositoryConfig(production_branches=NamePatterns(("release/*",)))
KNOWN = Situation(HELLO, V1, COMMIT, PRODUCTION, "main", HEAD)
CONTAINED, STRAY = Relation.BEHIND, Relation.DIVERGED


def branches(*names: str) -> dict[Ref, str]:
    return {Ref.of_branch(name): f"{number:040x}" for number, name in enumerate(names, 1)}


def limited(**limits: object) -> Target:
    return replace(PRODUCTION, **limits)  # type: ignore[arg-type]


TABLE: dict[str, tuple[Situation, type | Need, str]] = {
    "on the default branch": (replace(KNOWN, default_relation=CONTAINED), Admitted, "on main"),
    "its very head": (replace(KNOWN, default_head=COMMIT), Admitted, "head of main"),
    "not compared yet": (KNOWN, Need.DEFAULT_RELATION, ""),
    "ahead of it": (replace(KNOWN, default_relation=Relation.AHEAD), Refused, "is not on main"),
    "diverged": (replace(KNOWN, default_relation=STRAY), Refused, "tag the merge commit"),
    "unrelated": (
        replace(KNOWN, default_relation=Relation.UNRELATED),
        Refused,
        "has no history in common with main",
    ),
    "no commit on the default branch": (replace(KNOWN, default_head=""), Refused, "has no commit"),
    "the repository's tags": (
        replace(KNOWN, config=RepositoryConfig(tags=NamePatterns(("release-*",)))),
        Refused,
        "v1 is not among the tags of deploy/deployer.yml on main",
    ),
    "the installation's tags": (
        replace(KNOWN, target=limited(tags=("release-*",))),
        Refused,
        "v1 is not among production.tags in DEPLOYER_TARGETS",
    ),
    "one list of two is not enough": (
        replace(KNOWN, target=limited(tags=("v*",)), config=RepositoryConfig(tags=NamePatterns(("r*",)))),
        Refused,
        "v1 is not among the tags",
    ),
    "both lists": (
        replace(
            KNOWN,
            target=limited(tags=("v*",)),
            config=RepositoryConfig(tags=NamePatterns(("v1",))),
            default_relation=CONTAINED,
        ),
        Admitted,
        "on main",
    ),
    "an unreadable file": (replace(KNOWN, unreadable="line 1: what"), Refused, "cannot be read"),
    "an unreadable file, from wherever": (
        replace(KNOWN, unreadable="line 1: what", target=limited(from_default_branch=False)),
        Refused,
        "cannot be read",
    ),
    "from wherever": (
        replace(KNOWN, target=limited(from_default_branch=False)),
        Admitted,
        "from_default_branch is false",
    ),
    "from wherever, by name": (
        replace(KNOWN, target=limited(from_default_branch=False, tags=("r*",))),
        Refused,
        "v1 is not among",
    ),
    "a file that names no branch": (
        replace(KNOWN, default_relation=STRAY, config=RepositoryConfig(), target=limited(branches=("*",))),
        Refused,
        "is not on main;",
    ),
    "further branches, not asked for yet": (
        replace(KNOWN, default_relation=STRAY, config=RELEASES),
        Need.PROTECTED,
        "",
    ),
    "none of them is protected": (
        replace(KNOWN, default_relation=STRAY, config=RELEASES, protected={}),
        Refused,
        "or on a protected branch",
    ),
    "one is, not compared yet": (
        replace(KNOWN, default_relation=STRAY, config=RELEASES, protected=branches("release/1")),
        Need.BRANCH_RELATIONS,
        "",
    ),
    "on a protected branch": (
        replace(
            KNOWN,
            default_relation=STRAY,
            config=RELEASES,
            protected=branches("release/1"),
            relations={"release/1": CONTAINED},
        ),
        Admitted,
        "on the protected branch release/1",
    ),
    "on a protected branch, with an unrelated default": (
        replace(
            KNOWN,
            default_relation=Relation.UNRELATED,
            config=RELEASES,
            protected=branches("release/1"),
            relations={"release/1": Relation.IDENTICAL},
        ),
        Admitted,
        "release/1",
    ),
    "protected, and not named": (
        replace(KNOWN, default_relation=STRAY, config=RELEASES, protected=branches("feature/1")),
        Refused,
        "is not on main",
    ),
    "named by the file, not by the installation": (
        replace(
            KNOWN,
            default_relation=STRAY,
            config=RELEASES,
            target=limited(branches=("hotfix/*",)),
            protected=branches("release/1"),
            relations={"release/1": CONTAINED},
        ),
        Refused,
        "is not on main",
    ),
    "no file: the installation alone": (
        replace(
            KNOWN,
            default_relation=STRAY,
            target=limited(branches=("release/*",)),
            protected=branches("release/1"),
            relations={"release/1": CONTAINED},
        ),
        Admitted,
        "release/1",
    ),
    "too many": (
        replace(
            KNOWN,
            default_relation=STRAY,
            config=RELEASES,
            protected=branches(*(f"release/{number:02}" for number in range(21))),
            relations={f"release/{number:02}": STRAY for number in range(1, 21)},
        ),
        Refused,
        "first 20 of 21 protected branches",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_decision(case: str) -> None:
    known, kind, words = TABLE[case]
    found = judge(known)
    if isinstance(kind, Need):
        assert found is kind
        return
    assert isinstance(found, kind)
    assert words in (found.by if isinstance(found, Admitted) else found.reason)


@pytest.mark.parametrize("case", [each for each, (_, kind, _) in TABLE.items() if kind is Refused])
def test_a_refusal_names_the_way_out_and_fits_a_status(case: str) -> None:
    refusal = judge(TABLE[case][0])
    assert isinstance(refusal, Refused)
    assert "deployer approve acme/hello v1" in refusal.reason
    assert len(refusal.text) <= 140
    by_name = "among" in refusal.reason
    assert refusal.state == ("success" if by_name else "failure")
    assert refusal.recheck != by_name


relations = st.sampled_from(Relation)
situations = st.builds(
    Situation,
    repository=st.just(HELLO),
    tag=st.just(V1),
    commit=st.sampled_from([COMMIT, HEAD]),
    target=st.builds(
        Target,
        kind=st.just(Kind.PRODUCTION),
        tags=st.sampled_from([(), ("v*",), ("r*",)]),
        branches=st.sampled_from([(), ("release/*",), ("x",)]),
        from_default_branch=st.booleans(),
    ),
    default_branch=st.sampled_from(["main", "release/1"]),
    default_head=st.sampled_from([HEAD, ""]),
    config=st.none()
    | st.builds(
        RepositoryConfig,
        tags=st.builds(NamePatterns, include=st.sampled_from([(), ("v*",), ("r*",)])),
        production_branches=st.none()
        | st.builds(NamePatterns, include=st.sampled_from([("release/*",), ("*",)])),
    ),
    unreadable=st.sampled_from(["", "no YAML"]),
    default_relation=st.none() | relations,
    protected=st.none() | st.sampled_from([branches(), branches("release/1", "x", "y")]),
    relations=st.dictionaries(st.sampled_from(["release/1", "x", "y"]), relations),
)


@given(situations)
def test_nothing_is_admitted_but_by_a_rule(known: Situation) -> None:
    found = judge(known)
    if not isinstance(found, Admitted):
        return
    assert known.default_head
    assert not known.unreadable
    assert NamePatterns(known.target.tags).match("v1")
    assert known.config is None or known.config.tags.match("v1")
    on_default = known.commit == known.default_head or (
        known.default_relation is not None and known.default_relation.contained
    )
    reached = {name for name, relation in known.relations.items() if relation.contained}
    allowed = {
        ref.short
        for ref in known.protected or {}
        if NamePatterns(known.target.branches).match(ref.short)
        and (
            bool(known.target.branches)
            if known.config is None
            else bool(known.config.production_branches and known.config.production_branches.match(ref.short))
        )
    }
    assert not known.target.from_default_branch or on_default or reached & allowed


# --- what is read -----------------------------------------------------------------------------------------------


class Read:
    """A repository, and the gate before it."""

    def __init__(self, rules: str = "", **limits: object) -> None:
        self.host, self.clouds = FakeHost(), FakeClouds(FakeCloud(lambda _: ""))
        self.clouds.targets[Kind.PRODUCTION] = limited(**limits)
        self.host.push(HELLO, MAIN.name, "1" * 40, files={})
        self.host.push(HELLO, MAIN.name, HEAD, files={"deployer.yml": rules} if rules else {})
        self.host.push(HELLO, V1.name, COMMIT, files={"deployer.yml": 'tags: ["*"]'}, parent="1" * 40)
        self.host.calls.clear()

    def judge(self, commit: str = COMMIT) -> Admitted | Refused:
        return ProductionGate(self.host, self.clouds, read_repository_config).judge(HELLO, V1, commit)

    def asked(self) -> list[str]:
        return [each[0] for each in self.host.calls]


def test_a_tag_on_the_default_branch_costs_four_calls() -> None:
    read = Read("tags: v*")
    assert isinstance(read.judge("1" * 40), Admitted)
    assert read.asked() == ["default_branch", "head", "regular_files", "ancestry"]


def test_a_name_that_is_refused_costs_no_comparison() -> None:
    read = Read("tags: r*")
    assert isinstance(read.judge(), Refused)
    assert read.asked() == ["default_branch", "head", "regular_files"]


@pytest.mark.parametrize(
    "rules", ["tags: [", "tagz: v*", "tags: {include: 1}", "[]", "production: {branch: x}"]
)
def test_a_malformed_file_refuses_every_tag(rules: str) -> None:
    found = Read(rules).judge("1" * 40)
    assert isinstance(found, Refused)
    assert "deploy/deployer.yml on main cannot be read" in found.reason


@pytest.mark.parametrize("path", ["deploy/deployer.yml", "deploy"])
def test_a_symbolic_link_refuses_every_tag(path: str) -> None:
    read = Read()
    read.host.link(HELLO, HEAD, path)
    assert isinstance(read.judge("1" * 40), Refused)


def test_two_files_refuse_every_tag() -> None:
    read = Read()
    read.host.push(HELLO, MAIN.name, "2" * 40, files={"deployer.yml": "tags: v*", "deployer.json": "{}"})
    assert isinstance(read.judge("1" * 40), Refused)


@pytest.mark.parametrize(
    "method", ["default_branch", "head", "regular_files", "ancestry", "protected_branches"]
)
def test_a_github_that_is_away_is_no_answer(method: str) -> None:
    read = Read("production: {branches: release/*}")
    read.host.fail_next(TransientError("GitHub answers 502"), method=method)
    with pytest.raises(TransientError):
        read.judge()


def test_no_more_than_twenty_branches_are_compared_the_latest_names_first() -> None:
    read = Read("production: {branches: release/*}")
    for number in range(MOST_COMPARED + 5):
        name = f"release/{number:02}"
        commit = COMMIT if number == 3 else f"{number + 100:040x}"  # release/03 is not among the first twenty
        read.host.push(HELLO, f"refs/heads/{name}", commit, files={}, parent="1" * 40)
        read.host.protect(HELLO, name)
    read.host.calls.clear()
    found = read.judge()
    assert isinstance(found, Refused)
    assert "25 protected branches" in found.reason
    assert read.asked().count("ancestry") == 1 + MOST_COMPARED


# --- settings ---------------------------------------------------------------------------------------------------


def test_the_installation_s_limits_are_read() -> None:
    text = 'production: {tags: ["v*"], branches: ["release/*"], from_default_branch: false}'
    found = read_targets(text, Target(Kind.DEVELOPMENT))[Kind.PRODUCTION]
    assert (found.tags, found.branches, found.from_default_branch) == (("v*",), ("release/*",), False)
    assert read_targets("", Target(Kind.DEVELOPMENT))[Kind.PRODUCTION].from_default_branch


@pytest.mark.parametrize(
    "text",
    [
        "staging: {tags: [v1]}",
        "development: {from_default_branch: false}",
        "production: {tags: v1}",
        "production: {tags: []}",
        "production: {tags: ['']}",
        "production: {tags: [1.10]}",
        "production: {branches: [{a: b}]}",
        "production: {from_default_branch: 'no'}",
        "production: {from_default_branch: 0}",
    ],
)
def test_limits_that_are_malformed_stop_the_process(text: str) -> None:
    with pytest.raises(ConfigError, match="DEPLOYER_TARGETS"):
        read_targets(text, Target(Kind.DEVELOPMENT))


def test_production_branches_are_read() -> None:
    def read(text: str) -> NamePatterns | None:
        return read_repository_config({"deployer.yml": text.encode()}).production_branches

    assert read("production: {branches: release/*}") == NamePatterns(("release/*",))
    assert read("production: {branches: {include: 'r*', exclude: rc}}") == NamePatterns(("r*",), ("rc",))
    assert read("production: {}") is None
    assert read("ttl: 1d") is None


# --- what is kept -----------------------------------------------------------------------------------------------


def test_a_record_of_before_and_one_of_a_later_version_are_read() -> None:
    environment = Environment(HELLO, Kind.PRODUCTION)
    old = EnvironmentRecord.of("acme/hello", environment.key, environment.stack_name, ref="refs/tags/v1")
    admitted = Admission("refs/tags/v1", COMMIT, "on main", goal="g1", at=1.0)
    refused = RefusedTag("refs/tags/v2", HEAD, HEAD, "why", "failure why", 2.0, 1.0, recheck=True)
    new = old.but(admitted=admitted, approvals=(admitted,), refused_tags=(refused,))
    assert EnvironmentRecord.from_json(new.to_json()) == new
    before = json.loads(old.to_json())
    del before["spec"]["production"]["admitted"], before["spec"]["production"]["approvals"]
    del before["history"]["refused_tags"]
    assert EnvironmentRecord.from_json(json.dumps(before)) == old
    later = new.to_json().replace('"by":"on main"', '"by":"on main","later":[1]', 1)
    kept = EnvironmentRecord.from_json(later)
    assert kept.spec.production.admitted.covers("refs/tags/v1", COMMIT)
    assert json.loads(kept.but(state="failed").to_json())["spec"]["production"]["admitted"]["later"] == [1]


def test_only_the_newest_refused_tag_is_checked_again() -> None:
    def refusal(name: str, pushed_at: float, accepted_at: float = 9) -> RefusedTag:
        return RefusedTag(f"refs/tags/{name}", HEAD, HEAD, "", "", accepted_at, pushed_at, recheck=True)

    found = with_refusal(with_refusal((), refusal("v2", 2)), refusal("v1", 1))
    assert [(each.ref[-2:], each.recheck) for each in found] == [("v1", False), ("v2", True)]
    again = with_refusal(found, refusal("v2", 2, accepted_at=99))
    assert again[-1].accepted_at == 9, "the hour counts from the first time"
    for number in range(20):
        found = with_refusal(found, refusal(f"w{number}", 10 + number))
    assert len(found) == 10
    newest = found[-1]
    assert after_admission(found, newest.ref, HEAD, 0) == tuple(
        each.but(recheck=False) for each in found[:-1]
    )
    assert after_admission(found, "refs/tags/v0", COMMIT, 1)[-1].recheck, "it is newer than what was admitted"
    assert not after_admission(found, "refs/tags/v99", COMMIT, 99)[-1].recheck


def test_an_approval_is_for_one_tag_at_one_commit() -> None:
    found = with_approval((), Admission("refs/tags/v1", HEAD, "ada"))
    assert found[0].covers("refs/tags/v1", HEAD)
    assert not found[0].covers("refs/tags/v1", COMMIT)
    assert not found[0].covers("refs/tags/v2", HEAD)
    assert not Admission().covers("", "")
    assert len(with_approval(found, Admission("refs/tags/v1", COMMIT, "ben"))) == 1


def test_only_the_checked_calls_deploy_anything_in_aws() -> None:
    """Whatever deploys a commit in AWS is ordered by `ReconcileContext`, which insists on the admission."""
    orders, found = {"create_stack", "update_stack", "start"}, set[str]()
    for path in Path("deployer").rglob("*.py"):
        if path.parts[1] == "aws":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in orders
            ):
                owner = ast.unparse(node.func.value)
                if owner.endswith("cloud"):
                    found.add(path.name)
    assert found == {"context.py"}


def test_branches_are_compared_in_the_order_of_their_versions() -> None:
    found = replace(
        KNOWN, config=RELEASES, protected=branches("release/1.9", "release/1.10", "release/2", "release/x")
    )
    assert [name for name, _ in found.candidates()] == [
        "release/x",
        "release/2",
        "release/1.10",
        "release/1.9",
    ]
