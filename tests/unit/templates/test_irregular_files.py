"""A push fails with one line, and changes nothing, if an entry of `deploy/` is not a regular file."""

import pytest
from world import HELLO, World, environment, sha

X = "refs/heads/x"


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        (
            "deploy/deployer.yml",
            "symlink",
            "deploy/deployer.yml: it is a symbolic link, which deployer does not follow",
        ),
        (
            "deploy/pipeline.json",
            "submodule",
            "deploy/pipeline.json: it is a submodule, which deployer does not read",
        ),
        ("deploy", "symlink", "deploy/: it is a symbolic link, which deployer does not follow"),
    ],
)
@pytest.mark.parametrize("stands", [True, False])
def test_the_push_fails_and_its_commit_shows_why(path: str, kind: str, text: str, stands: bool) -> None:
    world = World()
    world.rules()
    if stands:
        world.push(X, sha(1))
        world.run()
    before = world.built(environment(X))
    world.host.push(HELLO, X, sha(2), files={} if path == "deploy" else {"pipeline.yml": "Resources: {}"})
    world.host.link(HELLO, sha(2), path, kind)
    delivery = world.deliver(X, sha(2), sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert reason.startswith(f"{text}; nothing is deployed until")
    assert world.statuses(sha(2))["deployer/prepare"] == "failure"
    assert world.built(environment(X)) == before
    assert world.lanes.dead_letters() == []
