"""docs/runbook is what the plans say now, and can be followed without the tool."""

from pathlib import Path

import pytest

from sandbox import runbook


def stale(folder: Path) -> list[str]:
    """Names of pages that are missing, out of date, or no longer written."""
    wanted = runbook.written()
    present = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def test_the_pages_are_up_to_date() -> None:
    assert stale(runbook.FOLDER) == [], "run `make runbook`"


def test_a_stale_page_would_be_noticed(tmp_path: Path) -> None:
    runbook.main(tmp_path)
    assert stale(tmp_path) == []
    page = tmp_path / "storage-failure.md"
    page.write_text(page.read_text().replace("--refresh", ""))
    (tmp_path / "old-scenario.md").write_text("")
    assert stale(tmp_path) == ["old-scenario.md", "storage-failure.md"]


@pytest.mark.parametrize("name", ["database-corruption.md", "storage-failure.md", "partial-loss.md"])
def test_every_step_has_its_commands_and_every_page_its_people(name: str) -> None:
    text = runbook.written()[name]
    steps = text.split("\n### ")[1:]
    assert len(steps) >= 5
    for step in steps:
        assert "```bash\n" in step, step
        assert "- Needs: " in step
    for said in ("Level 1: Data Reliability Engineering Team", "Level 3: CTO", "+1-555-0123", "security@aivo.com"):
        assert said in text
