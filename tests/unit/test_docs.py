"""What the documentation says of every status is what the table decides."""

import re
from pathlib import Path

from deployer.stacks import TABLE, Step

DOCS = Path(__file__).parents[2] / "docs"
WORDS = {
    "wait": Step.WAIT,
    "delete": Step.DELETE,
    "delete, then make anew": Step.REPLACE,
    "update or start": Step.TRIGGER,
    "roll back first": Step.RECOVER,
    "tell a person": Step.FAIL,
    "make it": Step.PROVISION,
    "nothing": Step.NONE,
}


def test_every_status_is_documented_as_it_is_decided() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (DOCS / "aws.md").read_text(), re.MULTILINE
    )
    told = {status: (WORDS[push], WORDS[deletion], why) for status, push, deletion, why in rows}
    assert told == {status: (row.deploy, row.delete, row.why) for status, row in TABLE.items()}
