"""How many digits each way of computing the hyperbolic distance keeps, by radius and separation.

Two points at a known radius and separation are rounded to the coordinates that a dtype holds; the
distance of exactly those coordinates, in decimal arithmetic of 60 digits, is the truth. What is
measured is therefore the formula alone, not the rounding of the coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from hyperrec_core.analysis import report
from hyperrec_core.geometry import klein, lorentz, poincare

_DIMENSIONS: Final = 32
_DIGITS: Final = 60
# Radius of the first point and separation of the second.
PLACES: Final = (
    *((0.01, 0.001), (0.1, 0.01), (1.0, 0.01), (2.0, 0.1), (2.0, 1.0), (4.0, 0.01), (4.0, 1.0)),
    *((6.0, 0.1), (6.0, 2.0), (8.0, 0.1), (8.0, 1.0), (9.0, 1.0)),
)


@dataclass(frozen=True)
class ErrorRow:
    """Median relative errors of the distance at one place.

    Attributes:
        dtype: of the coordinates and the computation.
        radius: hyperbolic distance of the first point from the origin.
        separation: hyperbolic distance between the points.
        errors: by form, a key of `FORMS`; infinite where most results were no number.
        gradient: of `lorentz.distance`: Riemannian length of the error of the tangent gradient at
            the first point, whose true length is 1; None in float64, which is the reference.
    """

    dtype: torch.dtype
    radius: float
    separation: float
    errors: dict[str, float]
    gradient: float | None


def _log1p_form(x: Tensor, y: Tensor) -> Tensor:
    """arccosh(1 + z) = log1p(z + sqrt(z (z + 2))) with z = -<x, y> - 1: z has lost its digits."""
    z = (-lorentz.inner(x, y) - 1.0).clamp_min(0.0)
    return torch.log1p(z + (z * (z + 2.0)).sqrt())


def _difference_form(x: Tensor, y: Tensor) -> Tensor:
    """The chord as |D|^2 - (D.s / t)^2, which cancels once |xs| is large."""
    apart, sums = x[..., 1:] - y[..., 1:], x[..., 1:] + y[..., 1:]
    time = (apart * sums).sum(-1) / (x[..., 0] + y[..., 0])
    return lorentz.chord_length((apart * apart).sum(-1) - time * time)


FORMS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "arccosh": lorentz.arccosh_distance,
    "guarded (eq. 19)": lorentz.guarded_distance,
    "log1p": _log1p_form,
    "difference": _difference_form,
    "distance": lorentz.distance,
    "pairwise": lambda x, y: lorentz.pairwise_distance(x, y).diagonal(),
    "Poincaré": lambda x, y: poincare.distance(poincare.from_lorentz(x), poincare.from_lorentz(y)),
    "Klein": lambda x, y: klein.distance(klein.from_lorentz(x), klein.from_lorentz(y)),
}


def error_rows(
    dtype: torch.dtype,
    *,
    places: Sequence[tuple[float, float]] = PLACES,
    samples: int = 200,
    device: str = "cpu",
    seed: int = 0,
) -> list[ErrorRow]:
    """Measure every form at every place.

    Args:
        dtype: float32 or float64.
        places: (radius, separation) pairs.
        samples: random pairs of points a place, in 32 dimensions.
        device: where the forms are computed.
        seed: of the random directions, which are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for radius, separation in places:
        xs, ys = _pairs(radius, separation, samples, generator)
        xs, ys = xs.to(dtype), ys.to(dtype)
        x, y = (lorentz.from_spatial(spatial.to(device)) for spatial in (xs, ys))
        true = torch.tensor(
            [_exact(a, b) for a, b in zip(xs.tolist(), ys.tolist(), strict=True)],
            dtype=torch.float64,
        )
        errors = {
            name: _median((form(x, y).cpu().double() - true).abs() / true)
            for name, form in FORMS.items()
        }
        gradient = None if dtype == torch.float64 else _gradient_error(x, y)
        rows.append(ErrorRow(dtype, radius, separation, errors, gradient))
    return rows


def reproduce(_data: Path, to: Path) -> report.Report:
    """Write the error tables as `ERRORS.md` and `.csv`.

    Args:
        _data: not needed; points are random.
        to: folder to write in.
    """
    rows = [row for dtype in (torch.float32, torch.float64) for row in error_rows(dtype)]
    return report.save(
        to / "ERRORS",
        title="Relative errors of the hyperbolic distance",
        columns=["dtype", "radius", "separation", *FORMS, "gradient of distance"],
        rows=[
            (
                str(row.dtype).removeprefix("torch."),
                row.radius,
                row.separation,
                *(_two_digits(row.errors[form]) for form in FORMS),
                None if row.gradient is None else _two_digits(row.gradient),
            )
            for row in rows
        ],
        notes=_NOTES,
    )


_NOTES = (
    f"Medians of 200 random pairs in {_DIMENSIONS} dimensions, the second point half outward and "
    "half across from the first; the truth is the distance of the "
    f"rounded coordinates in decimal arithmetic of {_DIGITS} digits. `hyperrec reproduce numerics` "
    "makes this document; tests hold the code to it.",
    "`distance` and `pairwise` are `lorentz.distance` and `lorentz.pairwise_distance`; arccosh is "
    "`lorentz.arccosh_distance`, the definition; guarded is the paper's. log1p is the usual remedy "
    "for arccosh near 1, and no remedy: the digits are gone before it sees the product. The "
    "difference form holds near the origin and cancels at large radii; `distance` is that form, "
    "split so that it does not. Around one matrix product no form can be better than eps times "
    "|xs|^2 over q, so `pairwise` is for near-Euclidean points and for points as far from each "
    "other as from the origin. The balls are computed from points that were converted to them in "
    "the dtype: their coordinates have lost the digits of a large radius, the Klein ball's at half "
    "the radius of the Poincaré ball's.",
    "The last column is the Riemannian length of the error of the tangent gradient of `distance`, "
    "whose true length is 1, against the same in float64. It grows as eps cosh(radius): so far "
    "apart are neighbouring float32 coordinates there.",
)


def _pairs(
    radius: float, separation: float, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Spatial coordinates of points at a radius and others that far from them, float64 [n, d].

    The second lies half outward, half across: purely radial pairs are what the difference form
    finds hardest, and in 32 dimensions a uniform direction has next to nothing radial.
    """
    outward = _directions(samples, generator)
    across = _directions(samples, generator)
    across -= (across * outward).sum(-1, keepdim=True) * outward
    across /= across.norm(dim=-1, keepdim=True)
    x = lorentz.from_spatial(math.sinh(radius) * outward)
    # Unit tangent vectors at x; that across has no time coordinate.
    radial = torch.cat((x[:, 1:].norm(dim=-1, keepdim=True), x[:, :1] * outward), dim=-1)
    sideways = torch.nn.functional.pad(across, (1, 0))
    y = lorentz.exp_map(x, separation * (radial + sideways) / math.sqrt(2.0))
    return x[:, 1:], y[:, 1:]


def _directions(samples: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(samples, _DIMENSIONS, generator=generator, dtype=torch.float64)
    length: Tensor = noise.norm(dim=-1, keepdim=True)
    return noise / length


def _exact(x: Sequence[float], y: Sequence[float]) -> float:
    """Distance of the exact lifts of two spatial vectors."""
    with localcontext(prec=_DIGITS):
        xs, ys = [Decimal(value) for value in x], [Decimal(value) for value in y]
        time = (1 + _dot(xs, xs)).sqrt() * (1 + _dot(ys, ys)).sqrt()
        product = time - _dot(xs, ys)
        return float((product + (product * product - 1).sqrt()).ln())


def _dot(x: Sequence[Decimal], y: Sequence[Decimal]) -> Decimal:
    return sum((a * b for a, b in zip(x, y, strict=True)), Decimal(0))


def _gradient_error(x: Tensor, y: Tensor) -> float:
    """Median Riemannian length of what the tangent gradient at x misses, against float64."""
    found = _tangent_gradient(x, y).double()
    exact_x, exact_y = (lorentz.to_sheet(point.double()) for point in (x, y))
    missed = found - _tangent_gradient(exact_x, exact_y)
    return _median(lorentz.tangent_norm(exact_x, missed).cpu())


def _tangent_gradient(x: Tensor, y: Tensor) -> Tensor:
    ambient = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(lorentz.distance(ambient, y).sum(), ambient)
    return lorentz.riemannian_gradient(x, gradient)


def _median(values: Tensor) -> float:
    """NaN counts as an infinite error."""
    return float(torch.nan_to_num(values, nan=math.inf, posinf=math.inf).median())


def _two_digits(value: float) -> float:
    """More would change with the order of a sum."""
    return float(f"{value:.1e}")
