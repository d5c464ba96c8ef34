"""`parcel-report`: subcommands, options, and errors a person can act on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from journey import travelled_km
from ledger import Ledger, default_path

from svc_report.render import render
from svc_report.report import counts, silent

_format = click.option("--format", "style", type=click.Choice(["text", "html"]), default="text", show_default=True)


@click.group()
@click.option(
    "--ledger", type=click.Path(dir_okay=False, path_type=Path), default=default_path, help="default: $PARCEL_LEDGER"
)
@click.pass_context
def main(context: click.Context, ledger: Path) -> None:
    """Reports on parcels, from the ledger."""
    if context.invoked_subcommand and not ledger.exists():
        raise click.ClickException(f"there is no ledger {ledger}; name one with --ledger or PARCEL_LEDGER")
    context.obj = context.with_resource(Ledger.open(ledger))


@main.command()
@_format
@click.pass_obj
def summary(ledger: Ledger, style: str) -> None:
    """How many parcels there are of each status."""
    click.echo(render("summary", style, counts=counts(ledger.histories())), nl=False)


@main.command("silent")
@click.option("--hours", type=click.FloatRange(min=0), default=48, show_default=True)
@_format
@click.pass_obj
def silent_(ledger: Ledger, hours: float, style: str) -> None:
    """Parcels on their way that nobody has seen for some time, the longest first."""
    parcels = silent(ledger.histories(), datetime.now(UTC), timedelta(hours=hours))
    click.echo(render("silent", style, parcels=parcels, hours=hours), nl=False)


@main.command()
@click.argument("number")
@click.pass_obj
def parcel(ledger: Ledger, number: str) -> None:
    """The history of one parcel."""
    history = ledger.history("".join(number.split()).upper())
    if not history.scans:
        raise click.ClickException(f"no parcel {number}")
    click.echo(render("parcel", "text", scans=history.scans, km=travelled_km(history)), nl=False)
