"""The pictures of the documentation: each that is shown is there, each that is there is taken by scripts/tour."""

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
