"""The application: what each address answers. Knows HTTP; the rules about parcels are the libraries'."""

from __future__ import annotations

from pathlib import Path

from ledger import Ledger
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from telemetry import Counters, Logger
from tracking import History, RefusedScanError, Scan


class Api:
    """The endpoints, with what they share. The ledger is opened per request: SQLite connections are for one thread."""

    def __init__(self, path: Path, log: Logger, counters: Counters) -> None:
        self._path, self._log, self._counters = path, log, counters

    def health(self, _: Request) -> Response:
        """200 if the ledger can be read; a broken one ends in the 500 that an orchestrator waits for."""
        with Ledger.open(self._path) as ledger:
            ledger.history("")
        return JSONResponse({"status": "ok"})

    def metrics(self, _: Request) -> Response:
        """The counters, for Prometheus."""
        return PlainTextResponse(self._counters.render(), media_type="text/plain; version=0.0.4")

    def parcel(self, request: Request) -> Response:
        """One parcel's history; 404 if nobody ever scanned it."""
        number = request.path_params["number"].upper()
        with Ledger.open(self._path) as ledger:
            history = ledger.history(number)
        if not history.scans:
            return JSONResponse({"error": f"no parcel {number}"}, status_code=404)
        return JSONResponse(_as_json(number, history))

    async def scan(self, request: Request) -> Response:
        """Record the scan in the body: 201 and the history; 422 if it makes no sense, 409 if it cannot be."""
        body = await request.body()
        return await run_in_threadpool(self._record, body)

    def _record(self, body: bytes) -> Response:
        try:
            scan = Scan.model_validate_json(body)
            with Ledger.open(self._path) as ledger:
                history = ledger.record(scan)
        except ValidationError as error:
            return self._refuse(422, "; ".join(_in_words(error)))
        except RefusedScanError as error:
            return self._refuse(409, str(error))
        self._counters.add("scans_total", status=scan.status)
        self._log.info("scan recorded", parcel=scan.parcel, status=scan.status)
        return JSONResponse(_as_json(scan.parcel, history), status_code=201)

    def _refuse(self, code: int, reason: str) -> Response:
        self._counters.add("scans_refused_total", code=str(code))
        self._log.warning("scan refused", code=code, reason=reason)
        return JSONResponse({"error": reason}, status_code=code)


def create_app(path: Path, log: Logger) -> Starlette:
    """The ASGI application on the ledger at `path`."""
    api = Api(path, log, Counters())
    return Starlette(
        routes=[
            Route("/health", api.health),
            Route("/metrics", api.metrics),
            Route("/parcels/{number}", api.parcel),
            Route("/scans", api.scan, methods=["POST"]),
        ]
    )


def _as_json(number: str, history: History) -> dict[str, object]:
    return {
        "parcel": number,
        "status": history.status,
        "scans": [scan.model_dump(mode="json", exclude={"parcel"}) for scan in history.scans],
    }


def _in_words(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
