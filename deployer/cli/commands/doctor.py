"""`deployer doctor`: check whether everything that deployer needs works."""

import logging
from collections.abc import Iterator

import click

from deployer.cli import output
from deployer.cli.checks.aws_checks import REACH_AWS, region_group
from deployer.cli.checks.github_checks import REACH_GITHUB, RedisAnswer, check_access, check_rate_limits
from deployer.cli.checks.groups import (
    BUG_REMEDY,
    FAIL,
    PROBE_SECONDS,
    Check,
    CheckFunction,
    Group,
    run_groups,
    run_guarded,
)
from deployer.cli.checks.pipeline_checks import check_pipelines
from deployer.cli.checks.redis_checks import (
    START_REDIS,
    check_dead_letters,
    check_events,
    check_lanes,
    check_processes,
    check_repositories,
    check_server,
)
from deployer.cli.checks.settings_checks import check_fence, check_settings
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import json_option
from deployer.model.environments import Kind
from deployer.model.errors import ConfigError


@click.command()
@json_option
def doctor(*, json_: bool) -> None:
    """Check settings, Redis, GitHub, AWS and processes, and suggest fixes.

    The exit code is 1 if any check fails.
    """
    found = list(_run_checks())
    if json_:
        names = ("check", "state", "told", "remedy")
        output.print_json([{name: getattr(each, name) for name in names} for each in found])
    else:
        rows = [[each.check, each.state, each.told, each.remedy] for each in found]
        output.print_table(["Check", "State", "Found", "Remedy"], rows, empty="")
    if any(each.state == FAIL for each in found):
        click.get_current_context().exit(1)


def _run_checks() -> Iterator[Check]:
    # the table reports systems that do not answer, so their log messages are dropped
    logging.getLogger("deployer").addHandler(logging.NullHandler())
    try:
        deployer = load_deployer(PROBE_SECONDS)
    except ConfigError as error:
        yield Check("settings", FAIL, str(error), "correct it, then run doctor again for the other checks")
        return
    yield from check_settings(deployer)
    yield from run_guarded(CheckFunction("fence", lambda: check_fence(deployer), BUG_REMEDY))
    # created before the threads start, because creating a part is not thread-safe
    lanes, host, clouds, _ = deployer.lanes, deployer.host, deployer.clouds, deployer.evaluator
    _ = deployer.github_sharing
    redis_answers = RedisAnswer()
    groups = [
        Group(
            "Redis",
            lambda: redis_answers.ask_redis(lanes.ping),
            [
                CheckFunction("Redis", lambda: check_server(deployer), START_REDIS),
                CheckFunction("processes", lambda: check_processes(deployer), START_REDIS),
                CheckFunction("dead letters", lambda: check_dead_letters(deployer), START_REDIS),
                CheckFunction("lanes", lambda: check_lanes(deployer), START_REDIS),
                CheckFunction("events", lambda: check_events(deployer), START_REDIS),
                CheckFunction("repositories", lambda: check_repositories(deployer), START_REDIS),
                CheckFunction("GitHub limits", lambda: check_rate_limits(deployer), START_REDIS),
            ],
            f"{START_REDIS}; then processes, dead letters, lanes, events and repositories can be checked",
            probe_again=True,
        ),
        Group(
            "GitHub",
            lambda: host.check_reachable(PROBE_SECONDS),
            [
                CheckFunction("GitHub", lambda: check_access(deployer, redis_answers), REACH_GITHUB),
                CheckFunction("pipelines", lambda: check_pipelines(deployer, redis_answers), REACH_GITHUB),
            ],
            REACH_GITHUB,
        ),
    ]

    def add_regions() -> list[Check]:
        regions = dict.fromkeys(region for kind in Kind for region in clouds.target(kind).regions)
        groups.extend([region_group(deployer, region) for region in regions])
        return []

    yield from run_guarded(
        CheckFunction("AWS", add_regions, REACH_AWS)
    )  # AWS's own variables may be malformed
    yield from run_groups(groups)
