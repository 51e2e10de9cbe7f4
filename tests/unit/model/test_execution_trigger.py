"""What started an execution, by AWS's trigger."""

import pytest

from deployer.model.execution_trigger import Starter, Trigger

ADA = "arn:aws:iam::123456789012:user/ada"
ROLE = "arn:aws:iam::123456789012:role/team/deployer"
SESSION = "arn:aws:sts::123456789012:assumed-role/deployer/worker-1"
HOOK = "arn:aws:codepipeline:us-east-1:123456789012:webhook:hook"


@pytest.mark.parametrize(
    ("kind", "detail", "starter", "words"),
    [
        ("CreatePipeline", ADA, Starter.CREATION, "AWS started it when the pipeline was created"),
        ("StartPipelineExecution", ADA, Starter.REQUEST, "user/ada started it"),
        ("StartPipelineExecution", SESSION, Starter.REQUEST, "assumed-role/deployer/worker-1 started it"),
        ("StartPipelineExecution", "", Starter.REQUEST, "somebody started it"),
        (
            "PollForSourceChanges",
            "Source",
            Starter.SOURCE_CHANGE,
            "AWS started it by itself (PollForSourceChanges)",
        ),
        ("Webhook", HOOK, Starter.SOURCE_CHANGE, "AWS started it by itself (Webhook)"),
        ("WebhookV2", "", Starter.SOURCE_CHANGE, "AWS started it by itself (WebhookV2)"),
        ("CloudWatchEvent", "", Starter.SOURCE_CHANGE, "AWS started it by itself (CloudWatchEvent)"),
        ("PutActionRevision", "", Starter.SOURCE_CHANGE, "AWS started it by itself (PutActionRevision)"),
        ("ManualRollback", ADA, Starter.ROLLBACK, "user/ada rolled a stage back"),
        ("AutomatedRollback", "an id", Starter.ROLLBACK, "AWS rolled a failed stage back"),
        ("Horoscope", "", Starter.UNKNOWN, "it was started by Horoscope"),
        ("", "", Starter.UNKNOWN, "AWS does not report who started it"),
    ],
)
def test_every_trigger_has_a_starter_and_words(kind: str, detail: str, starter: Starter, words: str) -> None:
    trigger = Trigger(type=kind, detail=detail)
    assert (trigger.starter, trigger.words) == (starter, words)


@pytest.mark.parametrize(
    ("kind", "detail", "principal", "expected"),
    [
        ("StartPipelineExecution", SESSION, ROLE, True),
        ("StartPipelineExecution", SESSION, SESSION.replace("worker-1", "worker-2"), True),
        ("StartPipelineExecution", SESSION, ROLE.replace("deployer", "other"), False),
        ("StartPipelineExecution", SESSION, ROLE.replace("1234", "9999"), False),
        ("StartPipelineExecution", ADA, ADA, True),
        ("StartPipelineExecution", ADA, ROLE, False),
        ("StartPipelineExecution", "", "", False),
        ("CreatePipeline", SESSION, ROLE, False),
        ("ManualRollback", SESSION, ROLE, False),
    ],
)
def test_only_a_request_names_its_caller(kind: str, detail: str, principal: str, expected: bool) -> None:
    assert Trigger(type=kind, detail=detail).names_caller(principal) is expected
