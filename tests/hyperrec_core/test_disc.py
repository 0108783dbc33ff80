"""The Poincaré-disc picture, judged by its pixels."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from hyperrec_core.analysis.disc import _COLOURS, poincare_disc


def hyperboloid(radius: list[float], direction: np.ndarray) -> np.ndarray:
    """Points [n, d + 1] at the given radii in the given directions [n, d]."""
    r = np.asarray(radius)[:, None]
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return np.hstack([np.cosh(r), np.sinh(r) * unit])


def directions(*degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def picture(points, counts, categories, title="Items") -> np.ndarray:
    file = io.BytesIO()
    poincare_disc(points, counts, categories, file, title=title)
    file.seek(0)
    return imread(file)[..., :3]


def dots(image: np.ndarray, count: int) -> np.ndarray:
    """Centres [count, 2] of the first coloured dots as seen from the centre of the disc.

    In units of the picture's height, y upwards; dots are found by their colour at 0.8 opacity.
    """
    height, width, _ = image.shape
    found = []
    for colour in _COLOURS[:count]:
        near = np.abs(image - (0.8 * np.array(to_rgb(colour)) + 0.2)).max(axis=2) < 0.02
        y, x = np.nonzero(near[:, : int(0.68 * width)])  # the legend lies further right
        assert len(x) > 20
        found.append((x.mean() - 0.35 * width, height * (1 - 0.115 - 0.825 / 2) - y.mean()))
    return np.array(found) / height


LABELS = [["a", "x"], ["b"], ["c", "y", "z"]]


def test_items_lie_at_tanh_half_radius_in_their_own_direction():
    image = picture(hyperboloid([1, 2, 4], directions(10, 130, 260)), [9, 9, 9], LABELS)
    at = dots(image, 3)
    length = np.linalg.norm(at, axis=1)
    # The whole disc is shown, so the unit circle ends 1.04 short of the frame.
    unit = 0.825 / 2 / 1.04 * min(1, 0.66 * 10.8 / (0.825 * 8.2))
    assert length == pytest.approx(unit * np.tanh([0.5, 1, 2]), abs=0.004)
    assert np.degrees(np.arctan2(at[:, 1], at[:, 0])) % 360 == pytest.approx([10, 130, 260], abs=1)


def test_many_dimensions_that_hold_a_plane_give_the_picture_of_the_plane():
    flat = directions(10, 130, 260)
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 2)))
    radius = [1.0, 2.0, 4.0]
    plane = dots(picture(hyperboloid(radius, flat), [9, 9, 9], LABELS), 3)
    space = dots(picture(hyperboloid(radius, flat @ basis.T), [9, 9, 9], LABELS), 3)
    # The same up to a turn or a reflection: equal inner products.
    assert space @ space.T == pytest.approx(plane @ plane.T, abs=0.003)


@pytest.mark.parametrize("radius", [0.01, 2.4, 30.0])
def test_the_items_fill_the_picture_whatever_the_radii(radius):
    image = picture(hyperboloid([radius] * 3, directions(10, 130, 260)), [9, 9, 9], LABELS)
    assert np.linalg.norm(dots(image, 3), axis=1).min() > 0.3


def test_a_few_far_items_do_not_shrink_the_rest():
    rng = np.random.default_rng(1)
    n = 999
    points = hyperboloid([0.1] * n + [3.0], rng.normal(size=(n + 1, 2)))
    points[:3] = hyperboloid([0.1] * 3, directions(10, 130, 260))
    labels = [*LABELS, *([None] * (n - 2))]
    at = dots(picture(points, [500] * 3 + [0] * (n - 2), labels), 3)
    assert np.linalg.norm(at, axis=1).min() > 0.3


@pytest.mark.parametrize(
    ("dimensions", "items", "labelled"),
    [(2, 1, True), (2, 400, False), (3, 1, False), (50, 400, True)],
)
def test_any_size_is_drawn_and_drawn_the_same_again(dimensions, items, labelled, tmp_path: Path):
    rng = np.random.default_rng(2)
    points = hyperboloid(rng.random(items), rng.normal(size=(items, dimensions)))
    points = points.astype(np.float32)
    counts = rng.integers(0, 1000, items)
    # More top levels than colours, a flat name, an empty path and none at all.
    names = [["one", "two"], "flat", [], None, *([f"{'long ' * 9}{i}"] for i in range(14))]
    categories = [names[i % len(names)] for i in range(items)] if labelled else None
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    for path in (first, again):
        poincare_disc(points, counts, categories, path, title="Items")
    assert first.read_bytes() == again.read_bytes()
    image = imread(first)[..., :3]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == 1).all()  # nothing runs out of the picture
    assert image.std() > 0.01


def test_without_a_single_category_the_colour_is_the_count():
    points = hyperboloid([1, 2], directions(0, 90))
    assert (picture(points, [1, 9], [(), ()]) == picture(points, [1, 9], None)).all()
    assert (picture(points, [1, 9], [("a",), ()]) != picture(points, [1, 9], None)).any()


def test_users_are_stars_at_their_own_place_in_the_items_plane():
    items = hyperboloid([1, 2, 4], directions(10, 130, 260))
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))
    user = np.array([3.0]), directions(200)
    for turn in (np.eye(2), basis.T):
        spread = np.hstack([items[:, :1], items[:, 1:] @ turn])
        star = hyperboloid(user[0], user[1] @ turn)
        file = io.BytesIO()
        poincare_disc(spread, [9, 9, 9], LABELS, file, title="Items", users=star)
        file.seek(0)
        image = imread(file)[..., :3]
        black = (image.max(axis=2) < 0.02)[:, : int(0.66 * image.shape[1])]
        y, x = np.nonzero(
            black & (picture(spread, [9, 9, 9], LABELS)[:, : black.shape[1]].min(2) > 0.9)
        )
        centre = (x.mean() - 0.35 * image.shape[1], image.shape[0] * (1 - 0.5275) - y.mean())
        unit = 0.825 / 2 / 1.04 * min(1, 0.66 * 10.8 / (0.825 * 8.2)) * image.shape[0]
        assert np.hypot(*centre) / unit == pytest.approx(np.tanh(1.5), abs=0.01)
        cosines = (
            dots(image, 3) @ centre / np.linalg.norm(dots(image, 3), axis=1) / np.hypot(*centre)
        )
        assert cosines == pytest.approx(np.cos(np.radians([190, 70, 60])), abs=0.03)


def test_users_of_another_space_are_refused():
    with pytest.raises(ValueError, match="pass one point a user"):
        poincare_disc(GOOD, [1, 1], None, io.BytesIO(), title="Items", users=np.ones((2, 4)))


def test_all_at_the_origin_without_any_count():
    points = np.tile([1.0, 0, 0, 0], (5, 1))
    assert picture(points, [0] * 5, None).std() > 0.005


GOOD = hyperboloid([1, 1], directions(0, 90))


@pytest.mark.parametrize(
    ("points", "counts", "categories", "said"),
    [
        (GOOD[:0], [], None, "shape"),
        (GOOD[:, :2], [1, 1], None, "shape"),
        (GOOD[0], [1], None, "shape"),
        (GOOD, [1], None, "1 counts"),
        (GOOD, [1, 1], [["a"]], "1 categories"),
        (GOOD * np.nan, [1, 1], None, "finite"),
        (GOOD, [1, -1], None, "negative"),
        (GOOD * [-1, 1, 1], [1, 1], None, "published vectors"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(points, counts, categories, said, tmp_path):
    path = tmp_path / "never.png"
    with pytest.raises(ValueError, match=said):
        poincare_disc(points, counts, categories, path, title="Items")
    assert not path.exists()


def test_pyplot_with_its_global_state_stays_out():
    code = (
        "import sys, io, numpy as np\n"
        "from hyperrec_core.analysis.disc import poincare_disc\n"
        "poincare_disc(np.eye(3)[:1], [1], None, io.BytesIO(), title='Items')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
