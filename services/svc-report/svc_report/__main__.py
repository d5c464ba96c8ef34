"""`python -m svc_report`: the same as the command `parcel-report`."""

from svc_report.cli import main

if __name__ == "__main__":
    main(prog_name="parcel-report")
