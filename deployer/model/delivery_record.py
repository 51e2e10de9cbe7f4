"""What became of a delivery."""

from deployer.model.stored_value import StoredValue


class DeliveryRecord(StoredValue, frozen=True):
    """What became of a delivery.

    Attributes:
        received_at, finished_at: epoch seconds; `finished_at` is 0 as long as the delivery has no outcome.
    """

    delivery: str
    repository: str = ""
    environment: str = ""
    event: str = ""
    outcome: str = ""
    reason: str = ""
    received_at: float = 0
    finished_at: float = 0
