from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmeta.classmap import ClassMap
from landmeta.raster import Imagery
from landmeta_maps.report import write_report
from landmeta_maps.summary import summarize

from .conftest import headless

SCORE = {
    "metric": "balanced_accuracy",
    "value": 0.912,
    "ci95": (0.87, 0.94),
    "block": "polygon",
    "folds": 5,
    "n": 1234,
}


@pytest.fixture
def report() -> dict[str, Any]:
    return copy.deepcopy(
        {
            "region": "demo",
            "classes": [
                {
                    "code": 1,
                    "name": "forest",
                    "color": "#1b7837",
                    "area_ha": 750.0,
                    "support": 40,
                    "recall": 0.9,
                },
                {
                    "code": 2,
                    "name": "<i>sea</i>",
                    "color": "#2166ac",
                    "area_ha": 250.0,
                    "support": 8,
                    "recall": np.nan,
                },
            ],
            "holdout": SCORE,
            "random_forest": SCORE | {"value": 0.75, "ci95": (0.7, 0.8)},
            "stability": None,
            "timing_s": {"adapt": np.float32(1.5)},
            "warnings": [],
        }
    )


def written(report: dict[str, Any], folder: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    write_report(report, folder / "report.html", **options)
    return (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())


def test_the_json_holds_the_fields_of_schema_one(report: dict[str, Any], tmp_path: Path) -> None:
    _, values = written(report, tmp_path)
    assert values["schema"] == 1
    assert set(values) == {
        "schema", "region", "classes", "holdout", "random_forest", "stability", "timing_s", "warnings"
    }  # fmt: skip
    assert set(values["classes"][0]) == {"code", "name", "color", "area_ha", "support", "recall"}
    assert values["holdout"] == SCORE | {"ci95": [0.87, 0.94]}
    assert values["classes"][1]["recall"] is None
    assert values["timing_s"] == {"adapt": 1.5}


@pytest.mark.parametrize("field", ["region", "holdout", "warnings", "stability"])
def test_a_missing_field_is_named(field: str, report: dict[str, Any], tmp_path: Path) -> None:
    del report[field]
    with pytest.raises(ValueError, match=f"the report lacks {field}"):
        write_report(report, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_missing_fields_of_classes_and_scores_are_named(report: dict[str, Any], tmp_path: Path) -> None:
    del report["classes"][0]["area_ha"]
    del report["holdout"]["folds"]
    with pytest.raises(ValueError, match=r"lacks classes\[\]\.area_ha, holdout\.folds"):
        write_report(report, tmp_path / "report.html")


def test_the_page_says_what_the_accuracy_is_and_what_it_is_not(
    report: dict[str, Any], tmp_path: Path
) -> None:
    page, _ = written(report, tmp_path)
    for words in ("91.2 %", "87.0 % to 94.0 %", "1,234 labelled samples", "5 folds by polygon"):
        assert words in page
    assert "not a probability sample" in page
    assert "Olofsson" not in page


def test_patches_of_a_label_raster_are_called_so(report: dict[str, Any], tmp_path: Path) -> None:
    report["holdout"]["block"] = "patch"
    page, _ = written(report, tmp_path)
    assert "5 folds by patch" in page
    assert "resampling the patches." in page


def test_the_page_loads_nothing_from_elsewhere_and_shows_the_pictures(
    report: dict[str, Any], class_map: ClassMap, imagery: Imagery, tmp_path: Path
) -> None:
    page, _ = written(report, tmp_path, summary=summarize(class_map), imagery=imagery)
    assert re.findall(r'src="([a-z]+:)', page) == ["data:", "data:"]
    assert not re.search(r"https?://|<link|<script|@import|url\(", page)


def test_names_cannot_become_markup(report: dict[str, Any], tmp_path: Path) -> None:
    report |= {"title": "<script>1</script>", "command": "a & b", "warnings": ["<u>"]}
    page, _ = written(report, tmp_path)
    assert not re.search(r"<script|<i>|<u>", page)
    assert "&lt;i&gt;sea&lt;/i&gt;" in page


@pytest.mark.parametrize(
    ("forest", "interval", "words"),
    [
        (0.75, (0.70, 0.80), "The adapted model is ahead of the random forest by 16.2 points."),
        (
            0.98,
            (0.96, 0.99),
            "The random forest is ahead by 6.8 points: on these labels it is the better choice.",
        ),
        (0.93, (0.90, 0.95), "The random forest is ahead by 1.8 points, but the intervals overlap"),
        (0.912, (0.88, 0.94), "The two score the same, but the intervals overlap"),
    ],
)
def test_the_page_says_who_wins(
    forest: float, interval: tuple[float, float], words: str, report: dict[str, Any], tmp_path: Path
) -> None:
    report["random_forest"] |= {"value": forest, "ci95": interval}
    assert words in written(report, tmp_path)[0]


def test_a_paired_interval_decides_where_there_is_one(report: dict[str, Any], tmp_path: Path) -> None:
    report["random_forest"] |= {"value": 0.93, "ci95": (0.90, 0.95)}
    report["paired"] = {"diff": -0.018, "ci95": (-0.03, -0.006)}
    assert "on these labels it is the better choice" in written(report, tmp_path)[0]


def test_without_a_holdout_the_page_says_so(report: dict[str, Any], tmp_path: Path) -> None:
    report |= {"holdout": None, "random_forest": None}
    page, values = written(report, tmp_path)
    assert "No accuracy could be measured" in page
    assert "was not run" in page
    assert values["holdout"] is None


def test_areas_become_shares_and_missing_recall_a_dash(report: dict[str, Any], tmp_path: Path) -> None:
    cells = re.findall(r'<td class="number">(.*?)</td>', written(report, tmp_path)[0])
    assert cells[:8] == ["750", "75.0 %", "40", "90.0 %", "250", "25.0 %", "8", "–"]


def test_everything_optional_is_shown(report: dict[str, Any], tmp_path: Path) -> None:
    report |= {
        "confusion": np.array([[36, 4], [1, 7]]),
        "stability": {"origin_shift": 0.981},
        "settings": {"effort": "quick", "bands": ["B02", "B03"], "scale": None},
        "command": "landmeta adapt --region demo",
        "warnings": ["3 labels lie on nodata"],
        "date": "2021-05-27",
    }
    page, values = written(report, tmp_path)
    for words in (
        ">36</td>",
        "Origin shift",
        "98.1 %",
        "B02, B03",
        "landmeta adapt --region demo",
        "3 labels lie",
    ):
        assert words in page
    assert values["confusion"] == [[36, 4], [1, 7]]


def table_of(page: str, caption: str) -> dict[str, str]:
    """The rows of the table with this caption: names and values."""
    part = page.split(f"<caption>{caption}</caption>")[1].split("</table>")[0]
    return dict(re.findall(r"<td>(.*?)</td><td[^>]*>(.*?)</td>", part))


@pytest.mark.parametrize(
    ("imagery", "asked", "scale", "offset"),
    [
        ((1e-4, 0.0, "inferred"), None, "1e-4, inferred from integers", "0, none was given"),
        ((1.0, 0.0, "inferred"), None, "1, inferred from decimal numbers", "0, none was given"),
        ((1e-4, -0.1, "inferred"), -0.1, "1e-4, inferred from integers", "-0.1, given"),
        ((2.75e-5, -0.2, "file"), None, "2.75e-5, from the file", "-0.2, from the file"),
        ((2.75e-5, 0.0, "file"), 0.0, "2.75e-5, from the file", "0, given"),
        ((0.01, 0.0, "given"), None, "0.01, given", "0, none was given"),
    ],
)
def test_the_page_tells_how_the_imagery_was_read_and_who_said_so(
    imagery: tuple[float, float, str],
    asked: float | None,
    scale: str,
    offset: str,
    report: dict[str, Any],
    tmp_path: Path,
) -> None:
    report["imagery"] = dict(zip(("scale", "offset", "scale_from"), imagery, strict=True))
    report["imagery"]["bands"] = ["B02", "B08"]
    report["settings"] = {"bands": None, "scale": None, "offset": asked, "shots": None, "min_area": 0.5}
    page, _ = written(report, tmp_path)
    expected = {"Bands": "B02, B08", "Scale": scale, "Offset": offset, "Min area": "0.5 ha"}
    assert table_of(page, "Settings") == expected


def test_tiles_of_a_store_have_no_scale_to_check(report: dict[str, Any], tmp_path: Path) -> None:
    report["imagery"] = {"bands": ["B02"], "scale": None, "offset": None, "scale_from": "store"}
    page, _ = written(report | {"settings": {"scale": None, "offset": 0.0, "shots": 5}}, tmp_path)
    expected = {"Bands": "B02", "Scale": "reflectance, from the tile store", "Shots": "5"}
    assert table_of(page, "Settings") == expected


def test_a_report_without_holdout_asks_to_state_none_and_has_no_empty_columns(
    report: dict[str, Any], tmp_path: Path
) -> None:
    assert "that it is a blocked hold-out" in written(report, tmp_path)[0]
    report |= {"holdout": None, "random_forest": None}
    for item in report["classes"]:
        item |= {"recall": None, "tested": 0}
    page, _ = written(report, tmp_path)
    assert "blocked hold-out" not in page
    assert "State that the accuracy of this map is not known." in page
    assert re.findall(r'<th class="number">(.*?)</th>', page) == ["Area, ha", "Share", "Labelled pixels"]
    assert "Recall" not in page


def test_the_report_of_a_model_from_elsewhere_has_areas_alone(report: dict[str, Any], tmp_path: Path) -> None:
    report["model_from"] = {"region": "Wales", "holdout": report["holdout"]}
    report |= {"holdout": None, "random_forest": None}
    for item in report["classes"]:
        item |= {"support": None, "recall": None, "tested": 0}
    page, _ = written(report, tmp_path)
    assert re.findall(r'<th class="number">(.*?)</th>', page) == ["Area, ha", "Share"]
    assert "State that no accuracy was measured on this map. The figure of the place" in page
    assert "blocked hold-out" not in page


def with_classes(report: dict[str, Any], count: int) -> dict[str, Any]:
    """The report with so many classes of long names, and what was taken for what."""
    item = report["classes"][0]
    classes = [item | {"code": i, "name": f"Closed forest, evergreen needle leaf {i}"} for i in range(count)]
    counts = np.full((count, count), 88) + np.eye(count, dtype=int) * 2400
    return report | {"classes": classes, "confusion": counts}


@pytest.mark.parametrize(("count", "turned"), [(3, False), (4, True)])
def test_names_over_many_columns_are_turned(
    count: int, turned: bool, report: dict[str, Any], tmp_path: Path
) -> None:
    page, _ = written(with_classes(report, count), tmp_path)
    assert ('<table class="confusion turned"' in page) is turned
    assert f"--classes:{count}" in page


@pytest.mark.browser
@pytest.mark.parametrize(
    ("count", "width", "printed"), [(7, 1400, False), (12, 1400, False), (12, 500, False), (20, 673, True)]
)
def test_the_table_of_what_is_taken_for_what_fits_its_box(
    count: int, width: int, printed: bool, report: dict[str, Any], chromium: str, tmp_path: Path
) -> None:
    page, _ = written(with_classes(report, count), tmp_path)
    page = page.replace("@media print", "@media all") if printed else page
    measure = """<script>for (const box of document.querySelectorAll(".wide"))
      document.body.append(`[${box.scrollWidth} of ${box.clientWidth}]`);</script>"""
    (tmp_path / "measured.html").write_text(page.replace("</body>", f"{measure}</body>"))
    target = (tmp_path / "measured.html").as_uri()
    dom = headless(chromium, tmp_path / "profile", f"--window-size={width},3000", "--dump-dom", target)
    found = re.findall(r"\[(\d+) of (\d+)\]", dom)
    assert len(found) == 2
    assert [content for content, _ in found] == [box for _, box in found]


def test_a_map_without_area_is_no_division_by_zero(report: dict[str, Any], tmp_path: Path) -> None:
    for item in report["classes"]:
        item["area_ha"] = 0.0
    assert "0 ha mapped" in written(report, tmp_path)[0]


def test_unlabelled_tiles_have_a_table_where_there_are_some(report: dict[str, Any], tmp_path: Path) -> None:
    assert "Unlabelled tiles" not in written(report, tmp_path)[0]
    part = {"n": 1234, "accuracy": 0.8125, "balanced_accuracy": 0.75}
    report["unlabelled_tiles"] = {"shots": 5, "apart": None, "all": part}
    page, _ = written(report, tmp_path)
    assert "There are 1,234 unlabelled tiles in all." in page
    assert "no tile is far enough from the labelled ones" in page
    assert "81.2 %" in page


def test_tiles_of_classes_not_mapped_are_told_and_a_few_tiles_have_no_percentage(
    report: dict[str, Any], tmp_path: Path
) -> None:
    few, most, every = (
        {"n": n, "accuracy": share, "balanced_accuracy": share}
        for n, share in ((9, 0.881), (30, 0.8), (49, 0.49))
    )
    report["unlabelled_tiles"] = {
        "shots": 5, "apart": few, "all": most, "left_out": 19, "with_left_out": every
    }  # fmt: skip
    page, _ = written(report, tmp_path)
    assert "49 unlabelled tiles in all, of which 19 are of classes that are not mapped" in page
    rows = re.findall(r'<td class="number">(.*?)</td>', page.split("<h2>Unlabelled tiles</h2>")[1])
    assert rows[:9] == ["9", "–", "–", "30", "80.0 %", "80.0 %", "49", "49.0 %", "49.0 %"]
    assert "88.1 %" not in page
    assert "the first line leaves them out" in page


def test_a_model_from_elsewhere_is_said_to_be_unmeasured_here(report: dict[str, Any], tmp_path: Path) -> None:
    report["model_from"] = {"region": "Wales", "holdout": report["holdout"]}
    report["holdout"] = report["random_forest"] = report["confusion"] = None
    page, _ = written(report, tmp_path)
    assert "adapted to Wales. No accuracy was measured on this imagery." in page
    assert "in another place or season expect less" in page
    assert "random forest" not in page
