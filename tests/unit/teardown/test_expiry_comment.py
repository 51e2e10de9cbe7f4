"""The comment that warns of an environment's end: its words, and that no branch's name is more than a name in it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from world import HELLO

from deployer.model.environment_record import EnvironmentRecord, ExpiryNotice
from deployer.model.environments import Environment, Kind
from deployer.model.markdown import as_code
from deployer.model.refs import Ref
from deployer.model.visible import visible
from deployer.teardown import expiry_comment as notice

NOW, DAY = 1_800_000_000.0, 86_400  # 2027-01-15 08:00 UTC
PAGE = "https://deployer.example/environments/x"


def development(branch: str) -> Environment:
    return Environment(HELLO, Kind.DEVELOPMENT, Ref.of_branch(branch))


def record(environment: Environment, **fields: object) -> EnvironmentRecord:
    made = EnvironmentRecord.of(
        "acme/hello", environment.key, environment.stack_name, state="deployed", used_at=NOW, ttl="3d",
        warned_at=NOW + 2.5 * DAY, notice=ExpiryNotice(comments=["comments/1"], at=NOW + 2.5 * DAY),
    )  # fmt: skip
    return made.but(**fields)


def test_a_warning_says_when_why_and_how_to_keep_it() -> None:
    found = development("feature/ü#1")
    text = notice.warning_text(found, record(found), "never", PAGE)
    assert text == (
        f"<!-- deployer: {found.stack_name} -->\n\n"
        "**The development environment of `feature/ü#1` will be taken down on 2027-01-18 14:00 UTC if it stays "
        "unused**. All that its pipeline deployed goes with it, and the data in that. It has been idle since "
        "2027-01-15 08:00 UTC, and may be for 3d (ttl of deploy/deployer.yml).\n\n"
        "A push keeps it, and so does:\n\n"
        "```sh\ndeployer keep acme/hello 'feature/ü#1'\n```\n\n"
        f"<sub>[Its page]({PAGE}) and the status `deployer/age` of its commit tell how it goes on.</sub>"
    )
    plain = notice.warning_text(found, record(found, ttl=""), "3d", "")
    assert "3d (DEPLOYER_TTL)" in plain
    assert "<sub>The status" in plain


@pytest.mark.parametrize(
    ("fields", "words", "left"),
    [
        ({}, None, True),
        ({"state": "asleep", "aged": "night"}, None, True),
        ({"state": "deleting"}, None, True),
        (
            {"used_at": NOW + 3 * DAY},
            "is used again since 2027-01-18 08:00 UTC**. It stays until it has been",
            False,
        ),
        ({"used_at": NOW + 3 * DAY, "state": "failed"}, "is wanted again since 2027-01-18 08:00 UTC", False),
        (
            {"kept_at": NOW + 3 * DAY, "kept_until": NOW + 9 * DAY},
            "is kept since 2027-01-18 08:00 UTC**. It stays at least until 2027-01-24 08:00 UTC",
            False,
        ),
        (
            {"state": "deleted", "aged": "idle", "aged_at": NOW + 3.3 * DAY},
            "was taken down on 2027-01-18 15:12 UTC**. It was idle for 3d 7h 12m (ttl of deploy/deployer.yml)",
            True,
        ),
        ({"state": "deleted", "aged": ""}, "was deleted**", False),
        (
            {"state": "deleted", "aged": "idle", "notice": ExpiryNotice([], NOW, down=True)},
            None,
            True,
        ),
    ],
)
def test_what_it_says_later(fields: dict[str, object], words: str | None, left: bool) -> None:
    found = development("x")
    told = notice.corrected_text(found, record(found, **fields), "never", "")
    if words is None:
        assert told is None
    else:
        assert told is not None
        assert words in told[0]
        assert bool(told[1]) is left
        assert (
            told[0].partition("\n")[0] == notice.warning_text(found, record(found), "", "").partition("\n")[0]
        )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("@acme/team", "`@acme/team`"),
        ("fix-#1", "`fix-#1`"),
        ("a`b", "``a`b``"),
        ("`x``y", "``` `x``y ```"),
        ("x`", "`` x` ``"),
        ("<!--", "`<!--`"),
        ("x-->|**x**<img src=x>", "`x-->|**x**<img src=x>`"),
        ("[x](http://evil)", "`[x](http://evil)`"),
        ("\u202eevil\u200b", "`\\u202eevil\\u200b`"),
    ],
)
def test_a_name_is_shown_as_code(name: str, shown: str) -> None:
    assert as_code(name) == shown
    found = Environment(HELLO, Kind.DEVELOPMENT, Ref(f"refs/heads/{name}"))
    head = notice.warning_text(found, record(found), "", "").split("\n\n")[1]
    assert head.startswith(f"**The development environment of {shown} will be")


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" ~^:?*[\\"),
        min_size=1,
        max_size=40,
    )
)
@example("`")
@example("a``b`<!--")
@example("-->\u2028@team")
def test_whatever_a_branch_is_called_markdown_shows_it_as_code_and_nothing_else(name: str) -> None:
    found = Environment(HELLO, Kind.DEVELOPMENT, Ref(f"refs/heads/{name}"))
    tokens = MarkdownIt("commonmark").parse(notice.warning_text(found, record(found), "", ""))
    assert [
        each.type for each in tokens if each.type in {"html_block", "fence", "heading_open", "list_item_open"}
    ] == [
        "html_block",
        "fence",
    ]
    inline = [child for each in tokens for child in each.children or ()]
    kinds = {child.type for child in inline}
    assert kinds <= {"text", "code_inline", "strong_open", "strong_close", "html_inline"}
    assert [child.content for child in inline if child.type == "html_inline"] == ["<sub>", "</sub>"]
    shown = visible(found.name)
    assert [child.content for child in inline if child.type == "code_inline"] == [shown, "deployer/age"]


def test_a_command_can_be_copied_and_never_leaves_its_fence() -> None:
    found = Environment(HELLO, Kind.DEVELOPMENT, Ref("refs/heads/```$(x)'@team"))
    text = notice.warning_text(found, record(found), "", "")
    fenced = text.split("````")
    assert fenced[-2] == "sh\ndeployer keep acme/hello '```$(x)'\"'\"'@team'\n"
    assert len(fenced) == 5  # two fences of the command, two of the name
