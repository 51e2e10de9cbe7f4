"""What `CloudRegion` promises, asked of the double and of the adapter in front of the simulated AWS."""

import time

import pytest
from cloud_kit import HERE, DoubleKit, Kit, created, named, release, settled

from deployer.model.errors import LaneLostError, PermanentError, ProtectedError, TransientError


@pytest.fixture(params=["double", "sandbox"])
def kit(request: pytest.FixtureRequest) -> Kit:
    made: Kit = DoubleKit() if request.param == "double" else request.getfixturevalue("aws")
    return made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return named(request.node.originalname)


# --- stacks -----------------------------------------------------------------------------------------------------


def test_what_is_not_there(kit: Kit) -> None:
    cloud, arn = kit.cloud, "arn:aws:cloudformation:us-east-1:123456789012:stack/nothing/1"

    assert [cloud.stack("nothing"), cloud.stack(arn)] == [None, None]
    assert [cloud.failure(arn), cloud.empty_storage(arn)] == [None, True]
    assert [cloud.executions("nothing"), cloud.deployed_stacks("nothing")] == [[], []]
    assert cloud.execution("nothing", "1") is None
    assert cloud.resources(arn) == []
    assert not cloud.is_still_busy("nothing", 0)
    cloud.protect(arn, on=True)
    cloud.stop("nothing", "1", "no reason")
    cloud.delete_stack(arn, "token")
    with pytest.raises(PermanentError, match="nothing"):
        cloud.start("nothing", "a" * 40, "token", HERE)
    with pytest.raises(TransientError):
        cloud.update_stack("nothing", release("nothing", "a" * 40), "token")


def test_a_stack_comes_to_be(kit: Kit, name: str) -> None:
    wanted = release(name, kit.commit())

    with kit.slowly():
        arn = kit.cloud.create_stack(name, wanted, f"create-{name}")
        stack = kit.cloud.stack(name)

    assert stack is not None
    assert (stack.arn, stack.name, stack.tags) == (arn, name, wanted.tags)
    assert stack.status == "CREATE_IN_PROGRESS"
    assert settled(kit, name) == "CREATE_COMPLETE"
    assert kit.cloud.stack(arn) == kit.cloud.stack(name)
    assert [s.arn for s in kit.cloud.stacks() if s.name == name] == [arn]
    assert kit.cloud.failure(arn) is None


def test_a_stack_without_our_tag_is_not_listed(kit: Kit, name: str) -> None:
    kit.cloud.create_stack(name, release(name, kit.commit(), **{"deployer:managed": "no"}), f"create-{name}")

    assert [s for s in kit.cloud.stacks() if s.name == name] == []


def test_a_creation_ordered_twice_is_one(kit: Kit, name: str) -> None:
    wanted = release(name, kit.commit())

    arns = {kit.cloud.create_stack(name, wanted, f"create-{name}") for _ in range(2)}
    assert settled(kit, name) == "CREATE_COMPLETE"
    arns.add(kit.cloud.create_stack(name, wanted, f"create-{name}"))

    assert len(arns) == 1


def test_a_creation_never_takes_over_a_stack_of_another(kit: Kit, name: str) -> None:
    sha = kit.commit()
    kit.cloud.create_stack(
        name, release(name, sha, **{"deployer:repository": "else/where"}), f"theirs-{name}"
    )

    with pytest.raises(TransientError, match=name):
        kit.cloud.create_stack(name, release(name, sha), f"ours-{name}")


def test_a_creation_that_fails_tells_which_resource_and_why(kit: Kit, name: str) -> None:
    kit.fail_next("create", "The bucket is too small.\nAsk for a larger one")

    arn = kit.cloud.create_stack(name, release(name, kit.commit()), f"create-{name}")

    assert settled(kit, arn) == "ROLLBACK_COMPLETE"
    failure = kit.cloud.failure(arn)
    assert failure is not None
    assert failure.resource
    assert failure.type.startswith("AWS::")
    assert " ".join(failure.reason.split()) == "The bucket is too small. Ask for a larger one"


def test_an_update_changes_the_stack_and_its_tags(kit: Kit, name: str) -> None:
    arn = created(kit, name, kit.commit())
    newer = release(name, kit.commit(), note="two")

    with kit.slowly():
        assert kit.cloud.update_stack(name, newer, f"update-{name}")
        assert kit.cloud.update_stack(name, newer, f"update-{name}"), "a repeat of the same order"
        with pytest.raises(TransientError):
            kit.cloud.update_stack(name, release(name, "a" * 40, note="three"), f"other-{name}")
        with pytest.raises(TransientError):
            kit.cloud.delete_stack(arn, f"delete-{name}")

    assert settled(kit, name) == "UPDATE_COMPLETE"
    stack = kit.cloud.stack(name)
    assert stack is not None
    assert (stack.arn, stack.tags) == (arn, newer.tags)
    assert not kit.cloud.update_stack(name, newer, f"again-{name}"), "there is nothing to update"


def test_an_update_of_the_tags_alone_is_an_update(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())

    assert kit.cloud.update_stack(name, release(name, kit.commit()), f"update-{name}")
    assert settled(kit, name) == "UPDATE_COMPLETE"


def test_an_update_that_fails_leaves_the_stack_as_it_was(kit: Kit, name: str) -> None:
    sha = kit.commit()
    arn = created(kit, name, sha)
    kit.fail_next("update", "No such role")

    assert kit.cloud.update_stack(name, release(name, kit.commit(), note="two"), f"update-{name}")

    assert settled(kit, name) == "UPDATE_ROLLBACK_COMPLETE"
    stack = kit.cloud.stack(name)
    assert stack is not None
    assert stack.tags["deployer:commit"] == sha
    assert str(kit.cloud.failure(arn)).endswith("): No such role")
    with pytest.raises(TransientError):
        kit.cloud.continue_rollback(name, f"recover-{name}")


def test_a_deleted_stack_is_found_by_its_arn_alone(kit: Kit, name: str) -> None:
    arn = created(kit, name, kit.commit())

    with kit.slowly():
        kit.cloud.delete_stack(arn, f"delete-{name}")
        kit.cloud.delete_stack(arn, f"delete-{name}")
        stack = kit.cloud.stack(name)

    assert stack is not None
    assert stack.status == "DELETE_IN_PROGRESS"
    assert settled(kit, arn) == "DELETE_COMPLETE"
    assert kit.cloud.stack(name) is None
    assert [s for s in kit.cloud.stacks() if s.name == name] == []
    assert kit.cloud.executions(name) == []
    kit.cloud.delete_stack(arn, f"once-more-{name}")


def test_a_creation_may_be_deleted_while_it_runs(kit: Kit, name: str) -> None:
    wanted = release(name, kit.commit())

    with kit.slowly():
        arn = kit.cloud.create_stack(name, wanted, f"create-{name}")
        kit.cloud.delete_stack(arn, f"delete-{name}")

    assert settled(kit, arn) == "DELETE_COMPLETE"


def test_a_name_can_be_taken_again(kit: Kit, name: str) -> None:
    first = created(kit, name, kit.commit())
    kit.cloud.delete_stack(first, f"delete-{name}")
    settled(kit, first)

    second = kit.cloud.create_stack(name, release(name, kit.commit()), f"second-{name}")

    assert second != first
    assert settled(kit, name) == "CREATE_COMPLETE"


def test_a_full_bucket_stops_a_deletion_until_it_is_emptied(kit: Kit, name: str) -> None:
    arn = created(kit, name, kit.commit())
    kit.fill(name)

    kit.cloud.delete_stack(arn, f"delete-{name}")
    assert settled(kit, arn) == "DELETE_FAILED"
    assert "not empty" in str(kit.cloud.failure(arn))

    assert kit.cloud.empty_storage(arn)
    assert kit.cloud.empty_storage(arn)
    kit.cloud.delete_stack(arn, f"delete-2-{name}")
    assert settled(kit, arn) == "DELETE_COMPLETE"


def test_one_call_empties_a_bucket_no_further_than_its_time_goes(kit: Kit, name: str) -> None:
    arn, guarded = created(kit, name, kit.commit()), list[str]()
    kit.fill(name)

    with kit.emptying_slowly():
        emptied = [kit.cloud.empty_storage(arn, lambda: guarded.append("asked")) for _ in range(2)]
        # what ends with a batch is told as empty by the next call at the latest
        emptied.append(kit.cloud.empty_storage(arn))

    assert (emptied[0], emptied[-1]) == (False, True)
    assert guarded == ["asked"] * 2
    kit.cloud.delete_stack(arn, f"delete-{name}")
    assert settled(kit, arn) == "DELETE_COMPLETE"


def test_a_guard_ends_the_emptying(kit: Kit, name: str) -> None:
    arn = created(kit, name, kit.commit())
    kit.fill(name)

    def lost() -> None:
        raise LaneLostError("it is another's")

    with pytest.raises(LaneLostError):
        kit.cloud.empty_storage(arn, lost)
    kit.cloud.delete_stack(arn, f"delete-{name}")
    assert settled(kit, arn) == "DELETE_FAILED"


def test_a_protected_stack_is_not_deleted(kit: Kit, name: str) -> None:
    arn = created(kit, name, kit.commit())
    kit.cloud.protect(arn, on=True)

    with pytest.raises(ProtectedError, match=name):
        kit.cloud.delete_stack(arn, f"delete-{name}")
    stack = kit.cloud.stack(arn)
    assert stack is not None
    assert (stack.status, stack.protected) == ("CREATE_COMPLETE", True)

    kit.cloud.protect(arn, on=False)
    stack = kit.cloud.stack(arn)
    assert stack is not None
    assert not stack.protected
    kit.cloud.delete_stack(arn, f"delete-2-{name}")
    assert settled(kit, arn) == "DELETE_COMPLETE"
    kit.cloud.protect(arn, on=True)


@pytest.mark.parametrize("force", [False, True])
def test_what_cannot_be_deleted_is_left_behind_and_told(kit: Kit, name: str, force: bool) -> None:
    name = f"{name}-{force}".lower()
    how = {"force": True} if force else {"retain": ["Files"]}
    arn = created(kit, name, kit.commit())
    kit.fill(name)

    with pytest.raises(PermanentError, match=name):
        kit.cloud.delete_stack(arn, f"early-{name}", **how)  # type: ignore[arg-type]
    kit.cloud.delete_stack(arn, f"delete-{name}")
    assert settled(kit, arn) == "DELETE_FAILED"
    kit.cloud.delete_stack(arn, f"delete-2-{name}", **how)  # type: ignore[arg-type]

    assert settled(kit, arn) == "DELETE_COMPLETE"
    left = {resource.name: resource.status for resource in kit.cloud.resources(arn)}
    assert left.pop("Files") in {"DELETE_SKIPPED", "DELETE_FAILED"}
    assert set(left.values()) == {"DELETE_COMPLETE"}


def test_the_resources_of_a_stack_as_long_as_it_lives_and_after(kit: Kit, name: str) -> None:
    arn = created(kit, name, kit.commit())

    living = kit.cloud.resources(arn)
    assert living
    assert all(resource.type.startswith("AWS::") and resource.id for resource in living)
    assert {resource.status for resource in living} == {"CREATE_COMPLETE"}
    kit.cloud.delete_stack(arn, f"delete-{name}")
    settled(kit, arn)
    gone = kit.cloud.resources(arn)
    assert {resource.status for resource in gone} == {"DELETE_COMPLETE"}
    assert {(r.name, r.type, r.id) for r in gone} == {(r.name, r.type, r.id) for r in living}


def test_a_stack_has_an_address(kit: Kit) -> None:
    url = kit.cloud.stack_url("arn:aws:cloudformation:us-east-1:123456789012:stack/shop/1")

    assert url.startswith("https://")
    assert "shop" in url


def test_a_look_at_all_stacks_shows_which_are_at_work(kit: Kit, name: str) -> None:
    with kit.slowly():
        since = time.time()
        arn = kit.cloud.create_stack(name, release(name, kit.commit()), f"create-{name}")
        assert not kit.cloud.is_still_busy(name, time.time() + 60), "nobody has looked since"
        assert [stack.arn for stack in kit.cloud.stacks() if stack.name == name] == [arn]

        assert kit.cloud.is_still_busy(name, since)
        assert kit.cloud.is_still_busy(arn, since)
        assert not kit.cloud.is_still_busy(f"{name}-other", since)
        assert not kit.cloud.is_still_busy(name, time.time() + 60), "that look is too old"
    since = time.time()
    assert settled(kit, name) == "CREATE_COMPLETE"
    list(kit.cloud.stacks())
    assert not kit.cloud.is_still_busy(name, since)


def test_how_full_the_region_is(kit: Kit, name: str) -> None:
    before = kit.cloud.count_capacity()
    assert before.region == kit.cloud.region
    assert before.stacks <= before.stacks_limit == 2000
    assert before.pipelines <= before.pipelines_limit == 1000
    assert time.time() - 3600 < before.counted_at <= time.time()

    arn = kit.cloud.create_stack(name, release(name, kit.commit()), f"create-{name}")
    settled(kit, arn)
    fuller = kit.cloud.count_capacity()
    assert (fuller.stacks, fuller.pipelines) == (before.stacks + 1, before.pipelines + 1)

    kit.cloud.delete_stack(arn, f"delete-{name}")
    settled(kit, arn)
    assert kit.cloud.count_capacity().free == before.free


# --- pipelines --------------------------------------------------------------------------------------------------


def test_a_new_pipeline_builds_the_branch_by_itself(kit: Kit, name: str) -> None:
    sha = kit.commit()
    created(kit, name, sha)

    (execution,) = kit.cloud.executions(name)
    assert (execution.sha, execution.status, execution.automatic) == (sha, "succeeded", True)
    assert not execution.stages
    whole = kit.cloud.execution(name, execution.id)
    assert whole is not None
    assert (whole.id, whole.sha, whole.status, whole.automatic) == (execution.id, sha, "succeeded", True)
    assert [(s.name, s.status) for s in whole.stages] == [("Source", "succeeded"), ("Deploy", "succeeded")]
    assert kit.cloud.stage_names(name) == ["Source", "Deploy"]
    assert kit.cloud.stage_names(f"{name}-not-there") == []


def test_an_execution_is_pinned_to_its_commit(kit: Kit, name: str) -> None:
    old = kit.commit()
    created(kit, name, kit.commit())

    started = kit.cloud.start(name, old, f"start-{name}", HERE)
    assert kit.cloud.start(name, old, f"start-{name}", HERE) == started
    kit.until(lambda: kit.cloud.executions(name)[0].ended)

    newest, automatic = kit.cloud.executions(name)
    assert (newest.id, newest.sha, newest.status, newest.automatic) == (started, old, "succeeded", False)
    assert automatic.automatic
    assert newest.trigger.names_caller(kit.cloud.principal())
    assert not automatic.trigger.names_caller(kit.cloud.principal())
    assert kit.cloud.start(name, old, f"another-{name}", HERE) != started


def test_stages_are_seen_as_they_are_reached(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())
    sha = kit.commit()
    seen: list[tuple[str, ...]] = []

    def ended() -> bool:
        execution = kit.cloud.execution(name, started)
        assert execution is not None
        seen.append(tuple(f"{stage.name} {stage.status}" for stage in execution.stages))
        return execution.ended

    with kit.slowly():
        started = kit.cloud.start(name, sha, f"start-{name}", HERE)
        kit.until(ended)

    order = [
        (),
        ("Source running",),
        ("Source succeeded",),
        ("Source succeeded", "Deploy running"),
        ("Source succeeded", "Deploy succeeded"),
    ]
    assert list(dict.fromkeys(seen)) == sorted(set(seen), key=order.index)
    assert ("Source running",) in seen
    assert ("Source succeeded", "Deploy running") in seen
    assert seen[-1] == order[-1]


def test_a_failed_stage_has_its_reason(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())
    kit.fail_next("execution", "The build broke: exit status 7")

    started = kit.cloud.start(name, kit.commit(), f"start-{name}", HERE)
    kit.until(lambda: kit.cloud.executions(name)[0].ended)

    execution = kit.cloud.execution(name, started)
    assert execution is not None
    assert execution.status == "failed"
    assert [(s.name, s.status, s.reason) for s in execution.stages] == [
        ("Source", "succeeded", ""),
        ("Deploy", "failed", "The build broke: exit status 7"),
    ]


def test_an_execution_is_stopped_at_once_and_once(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())
    sha = kit.commit()

    with kit.slowly():
        started = kit.cloud.start(name, sha, f"start-{name}", HERE)
        for _ in range(2):
            kit.cloud.stop(name, started, "a newer commit came" * 40)

    newest = kit.cloud.executions(name)[0]
    assert (newest.id, newest.status, newest.ended) == (started, "stopped", True)
    kit.cloud.stop(name, kit.cloud.executions(name)[1].id, "it ended long ago")
    kit.cloud.stop(name, "00000000-0000-0000-0000-000000000000", "it never was")


def test_a_changed_pipeline_cancels_what_runs(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())
    newer = release(name, kit.commit(), note="two")

    with kit.slowly():
        started = kit.cloud.start(name, newer.tags["deployer:commit"], f"start-{name}", HERE)
    kit.cloud.update_stack(name, newer, f"update-{name}")
    settled(kit, name)

    assert next(e for e in kit.cloud.executions(name) if e.id == started).status == "cancelled"


def test_the_stacks_that_a_pipeline_deploys(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())

    assert kit.cloud.deployed_stacks(name) == [f"{name}-app"]
    application = kit.cloud.stack(f"{name}-app")
    assert application is not None
    assert application.status == "CREATE_COMPLETE"


def test_the_actions_that_deployed_stacks(kit: Kit, name: str) -> None:
    assert kit.cloud.stack_actions(f"{name}-not-there") == []
    created(kit, name, kit.commit())
    first = kit.cloud.executions(name)[0]
    started = kit.cloud.start(name, kit.commit(), f"start-{name}", HERE)
    kit.until(lambda: kit.cloud.executions(name)[0].ended)

    application = kit.cloud.stack(f"{name}-app")
    assert application is not None
    every = kit.cloud.stack_actions(name)
    assert [each.stack for each in every] == [application.arn] * 2
    assert [each.stack_name for each in every] == [application.name] * 2
    newest, oldest = every
    assert newest.id != oldest.id
    assert oldest.created_stack(application)
    assert not newest.created_stack(application)
    for identity, action in ((started, newest), (first.id, oldest)):
        execution = kit.cloud.execution(name, identity)
        assert execution is not None
        assert list(execution.stack_actions) == [action]
        assert 0 < action.began_at <= action.ended_at


def test_tags_are_added_to_a_stack(kit: Kit, name: str) -> None:
    created(kit, name, kit.commit())
    before = kit.cloud.stack(name)
    assert before is not None

    for _ in range(2):
        kit.cloud.restore_tags(before.arn, {"team": "a"}, f"tags-{name}")
        assert settled(kit, name) == "UPDATE_COMPLETE"

    after = kit.cloud.stack(name)
    assert after is not None
    assert after.tags == {**before.tags, "team": "a"}
    assert after.parameters == before.parameters
    assert after.created_at == before.created_at


def test_an_execution_has_an_address(kit: Kit) -> None:
    url = kit.cloud.execution_url("pipe", "execution-1")

    assert url.startswith("https://")
    assert "pipe" in url
    assert "execution-1" in url
