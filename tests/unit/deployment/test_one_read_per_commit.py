"""A task reads the `deploy/` folder of a commit at most once, and parses `deploy/deployer.yml` at most once."""

from collections import Counter
from typing import Any

import pytest
from world import TEMPLATE, World, sha

from deployer.templates import folder_check, repository_config
from tests.doubles import folder

CHANGED = TEMPLATE.replace("Default: hi", "Default: ho")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each text of `deploy/deployer.yml` was parsed."""
    counted: Counter[bytes] = Counter()

    def parse(files: Any, *more: Any) -> Any:
        counted[files.get("deployer.yml", b"")] += 1
        return repository_config.read_repository_config(files, *more)

    for module in (folder_check, folder):
        monkeypatch.setattr(module, "read_repository_config", parse)
    return counted


@pytest.mark.parametrize("ref", ["refs/heads/x", "refs/heads/main"])
def test_the_folder_of_a_commit_is_read_and_parsed_once_in_a_task(
    world: World, parses: Counter[bytes], ref: str
) -> None:
    counts: list[tuple[str, Counter[str], Counter[bytes]]] = []
    carry_out = world.runner.carry_out

    def count(task: Any, *arguments: Any) -> str:
        parses.clear()
        before = len(world.host.called("files"))
        told = carry_out(task, *arguments)
        read = Counter(commit for _, commit, _ in world.host.called("files")[before:])
        counts.append((task, read, Counter(parses)))
        return told

    world.runner.carry_out = count  # type: ignore[method-assign]
    for number, template in ((1, TEMPLATE), (2, CHANGED)):
        settings = f"paths: ['**']  # of commit {number}\n"
        world.push(ref, sha(number), sha(number - 1), template, files={"deployer.yml": settings})
        world.run()
    assert [each for each in counts if max([*each[1].values(), *each[2].values()], default=0) > 1] == []
    assert any(each[0] == "deployer.sync" and sum(each[2].values()) == 1 for each in counts)
