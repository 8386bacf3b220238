"""The table of who reaches what, as the documentation shows it: ``python -m infra.reach`` writes it there."""

import sys
from pathlib import Path

from infra.network import AWS_SERVICES, FUNCTION_REACH, POD_REACH

DOCUMENT = "docs/infrastructure.md"
_BEGIN, _END = "<!-- reach: made by `python -m infra.reach` -->", "<!-- /reach -->"


def rows() -> str:
    """The table in Markdown."""
    lines = ["| who | in the cluster or the VPC | AWS's APIs |", "| --- | --- | --- |"]
    entries = [(f"pods of `{role.value}`", reached) for role, reached in POD_REACH.items()]
    entries += [(f"function `{function.value}`", reached) for function, reached in FUNCTION_REACH.items()]
    for who, reached in entries:
        near = ", ".join(name for name in reached if name not in AWS_SERVICES) or "nothing"
        far = ", ".join(name for name in reached if name in AWS_SERVICES)
        lines.append(f"| {who} | {near} | {far} |")
    return "\n".join(lines) + "\n"


def placed(text: str) -> str:
    """A document with the table between its markers.

    Raises:
        ValueError: it has no markers.
    """
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"the markers {_BEGIN} and {_END} are missing")
    return f"{before}{_BEGIN}\n{rows()}{_END}{after}"


def main() -> int:
    """Writes the table into the documentation."""
    file = Path(__file__).resolve().parent.parent / DOCUMENT
    file.write_text(placed(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
