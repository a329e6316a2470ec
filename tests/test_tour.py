"""The documentation: pictures are there and taken by scripts/tour, links lead somewhere, nothing is shown too early."""

from pathlib import Path
import re

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
WALK = (ROOT / "scripts" / "tour_walk.py").read_text()


def test_every_picture_that_a_document_shows_is_there() -> None:
    shown = {
        (page.parent / link).resolve()
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", page.read_text())
    }
    assert shown
    assert {path for path in shown if not path.is_file()} == set()


def test_every_picture_is_one_that_the_tour_takes_and_the_set_is_small() -> None:
    taken = set(re.findall(r'(?:picture|snapshot|picture_dark)\("(\d\d-[\w-]+)"', WALK)) | {"08-checklist-dark"}
    pictures = [*IMAGES.rglob("*.png")]
    assert {path.stem for path in pictures} == taken
    assert sum(path.stat().st_size for path in pictures) < 2_000_000


def test_every_link_of_the_readme_leads_to_a_file_as_the_marketplace_needs_it() -> None:
    # It makes addresses of relative links: a page of Markdown, the raw file of all else. A folder has neither.
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).is_file() or link.startswith("/")] == []


def test_no_page_says_what_to_do_on_systems_that_cannot_be_monitored_yet() -> None:
    foreign = re.compile(r"windows(?! of)|macos|powershell|icacls|\$env:", re.IGNORECASE)
    pages = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    assert {page.name: found for page in pages if (found := foreign.findall(page.read_text()))} == {}
