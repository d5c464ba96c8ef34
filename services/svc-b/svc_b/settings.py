"""What the worker can be told, all of it in the environment."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from ledger import default_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The fields in capitals behind `PARCEL_`, checked before anything is done; an empty one counts as unset."""

    model_config = SettingsConfigDict(env_prefix="PARCEL_", env_ignore_empty=True)

    inbox: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()) / "parcel-inbox")
    ledger: Path = Field(default_factory=default_path)
    poll_seconds: float = Field(default=0.5, gt=0, le=60)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
