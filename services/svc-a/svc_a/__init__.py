"""Parcel tracking over HTTP."""

from svc_a.app import create_app

__all__ = ["create_app"]
