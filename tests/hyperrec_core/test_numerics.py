"""The error table holds the code to it, and figure 4's numbers are what they are drawn as."""

import csv
from pathlib import Path

import pytest
import torch

from hyperrec_core import geometry
from hyperrec_core.analysis import figure4, numerics
from tests.hyperrec_core import spaces

# Another machine sums in another order. Where a form has lost its digits its few distinct results
# make the median jump.
SLACK = dict.fromkeys(numerics.FORMS, 30.0) | dict.fromkeys(
    ("distance", "pairwise", "Poincaré", "Klein"), 4.0
)


def documented():
    """The rows of ERRORS.md as dictionaries by column."""
    text = (Path(geometry.__file__).parent / "ERRORS.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")]
    columns, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return [dict(zip(columns, row, strict=True)) for row in rows]


@spaces.devices
@spaces.dtypes
def test_no_form_of_the_distance_is_worse_than_its_documented_error(dtype, device):
    of_dtype = [row for row in documented() if row["dtype"] == str(dtype).removeprefix("torch.")]
    places = [(float(row["radius"]), float(row["separation"])) for row in of_dtype]
    assert places == list(numerics.PLACES)
    rows = numerics.error_rows(dtype, device=device)
    eps = torch.finfo(dtype).eps
    for row, written in zip(rows, of_dtype, strict=True):
        for form, error in row.errors.items():
            assert error <= SLACK[form] * float(written[form]) + eps, (
                row.radius,
                row.separation,
                form,
            )
        if row.gradient is not None:
            assert row.gradient <= 4 * float(written["gradient of distance"])


def test_the_document_is_not_older_than_the_code():
    """An error that has become ten times smaller wants `hyperrec reproduce numerics` run again."""
    rows = numerics.error_rows(torch.float32)
    for row, written in zip(rows, documented(), strict=False):
        for form in ("distance", "pairwise", "Poincaré"):
            assert float(written[form]) <= 10 * row.errors[form] + 1e-6, (row.radius, form)


@pytest.mark.parametrize(
    ("radius", "separation", "bound"),
    [(0.01, 0.001, 2e-7), (1, 0.01, 2e-7), (4, 0.01, 4e-7), (4, 1, 6e-7), (8, 0.1, 2e-5)],
)
def test_float32_distance_keeps_its_digits_whatever_the_document_says(radius, separation, bound):
    (row,) = numerics.error_rows(torch.float32, places=[(radius, separation)], samples=50)
    assert row.errors["distance"] < bound
    if separation < radius:
        assert row.errors["arccosh"] > 50 * row.errors["distance"]


def test_places_are_where_they_are_said_to_be():
    generator = torch.Generator().manual_seed(0)
    for radius, separation in numerics.PLACES:
        xs, ys = numerics._pairs(radius, separation, 5, generator)
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
            origin = [0.0] * len(x)
            assert numerics._exact(x, origin) == pytest.approx(radius, rel=1e-9)
            assert numerics._exact(x, y) == pytest.approx(separation, rel=1e-6)


def test_numerics_writes_the_document(tmp_path, monkeypatch):
    rows = numerics.error_rows(torch.float32, places=numerics.PLACES[:2], samples=4)
    monkeypatch.setattr(numerics, "error_rows", lambda _: rows)
    report = numerics.reproduce(tmp_path, tmp_path / "to")
    assert [path.name for path in report.files] == ["ERRORS.md", "ERRORS.csv"]
    assert all(path.is_file() for path in report.files)
    assert len(report.rows) == 4
    assert report.columns == list(documented()[0])


def test_figure_4(tmp_path):
    report = figure4.reproduce(tmp_path, tmp_path / "to")
    assert (tmp_path / "to" / "figure4.png").read_bytes().startswith(b"\x89PNG")
    pairs, two, three, *_, hundred = [
        dict(zip(report.columns, row, strict=True)) for row in report.rows
    ]
    for row in (pairs, two):
        assert row["Lorentz factor: largest"] < 1e-12
        assert 0.45 < row["printed gamma: largest"] < 0.51
    assert 0.2 < three["Lorentz factor: largest"] < 0.34
    assert hundred["Lorentz factor: mean"] < 0.025
    assert hundred["printed gamma: mean"] > hundred["Lorentz factor: mean"]
    with (tmp_path / "to" / "figure4-pairs.csv").open(encoding="utf-8") as file:
        drawn = list(csv.DictReader(file))
    assert len(drawn) == 41 * 41
    for row in drawn[::97]:
        mean = (float(row["alpha of one"]) + float(row["alpha of the other"])) / 2
        assert float(row["Fréchet"]) == pytest.approx(mean, abs=1e-12)


def test_of_three_items_the_einstein_midpoint_solves_its_own_equation():
    alpha = torch.tensor([[-1.0, -0.5, 2.0]], dtype=torch.float64)
    found = figure4.midpoints(alpha)
    assert float(torch.sinh(alpha - found.lorentz_factor).sum()) == pytest.approx(0, abs=1e-12)
    assert float(found.frechet) == pytest.approx(0.5 / 3)
