"""One scan: a parcel was seen, somewhere, at some time."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tracking.number import TrackingNumber


class Status(StrEnum):
    """What a scan says about the parcel."""

    ACCEPTED = "accepted"
    IN_TRANSIT = "in-transit"
    OUT_FOR_DELIVERY = "out-for-delivery"
    DELIVERED = "delivered"
    RETURNED = "returned"

    @property
    def final(self) -> bool:
        """Whether no scan can follow."""
        return self in (Status.DELIVERED, Status.RETURNED)


class Scan(BaseModel):
    """A scan as it comes from outside; `Scan.model_validate_json` is the one gate for untrusted data.

    A time without a zone is refused: scanners stand in several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parcel: TrackingNumber
    status: Status
    at: AwareDatetime
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
