"""The item table of the synthetic shop: a category tree laid over the angles, and titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.latent import SLOT_DAYS, ItemPoints, item_points, slot_count

# Department, typical price, materials, and kinds as "kind: noun" or "kind: noun: styles".
# Neighbours in the list are neighbours on the circle, so similar departments share customers.
_TREE: Final = (
    ("Dresses", 42, "linen satin jersey cotton viscose", (
        "Mini dresses: mini dress", "Midi dresses: midi dress: Day Evening",
        "Maxi dresses: maxi dress: Day Evening", "Jumpsuits: jumpsuit")),
    ("Tops", 22, "cotton jersey silk ribbed mesh", (
        "T-shirts: T-shirt: Plain Printed", "Shirts: shirt: Formal Casual",
        "Blouses: blouse", "Bodysuits: bodysuit")),
    ("Knitwear", 38, "wool cashmere cotton mohair cable-knit", (
        "Jumpers: jumper: Fine Chunky", "Cardigans: cardigan", "Knitted vests: knitted vest")),
    ("Coats and jackets", 85, "wool denim leather quilted waxed", (
        "Coats: coat: Long Short", "Blazers: blazer", "Puffers: puffer jacket",
        "Biker jackets: biker jacket")),
    ("Jeans", 45, "stretch rigid washed raw organic", (
        "Skinny jeans: skinny jeans", "Straight jeans: straight jeans: Cropped Full",
        "Wide jeans: wide-leg jeans")),
    ("Trousers and skirts", 35, "twill linen cord pleated tailored", (
        "Trousers: trousers: Smart Casual", "Shorts: shorts", "Midi skirts: midi skirt",
        "Mini skirts: mini skirt")),
    ("Suits", 120, "wool linen flannel herringbone stretch", (
        "Suit jackets: suit jacket", "Suit trousers: suit trousers", "Waistcoats: waistcoat")),
    ("Shoes", 55, "leather suede canvas patent mesh", (
        "Trainers: trainers: Running Street", "Boots: boots: Ankle Knee", "Sandals: sandals",
        "Heels: heels", "Loafers: loafers")),
    ("Bags and accessories", 30, "leather canvas woven suede quilted", (
        "Totes: tote bag", "Cross-body bags: cross-body bag", "Belts: belt",
        "Scarves: scarf", "Hats: hat: Caps Beanies")),
    ("Jewellery", 18, "silver gold-plated pearl enamel beaded", (
        "Earrings: earrings: Hoops Studs", "Necklaces: necklace", "Rings: ring")),
    ("Swimwear", 28, "ribbed crinkle recycled textured shimmer", (
        "Bikinis: bikini: Tops Bottoms", "Swimsuits: swimsuit", "Beach cover-ups: cover-up")),
    ("Sportswear", 34, "seamless fleece technical mesh brushed", (
        "Leggings: leggings: High-waist Cropped", "Sports bras: sports bra",
        "Hoodies: hoodie", "Joggers: joggers")),
    ("Nightwear", 26, "satin cotton flannel modal lace", (
        "Pyjamas: pyjamas", "Dressing gowns: dressing gown", "Slippers: slippers")),
)  # fmt: skip
_COLOURS: Final = (
    *("Black", "White", "Navy", "Ecru", "Grey", "Camel", "Olive", "Burgundy"),
    *("Rust", "Sage", "Lilac", "Coral", "Cobalt", "Mustard", "Teal", "Blush"),
)
_PRICE_SPREAD = 0.35  # of the logarithm of an item's price around its department's


@dataclass(frozen=True)
class _Leaf:
    path: list[str]
    noun: str
    materials: list[str]
    price: float


def _sectors(rng: np.random.Generator) -> tuple[list[_Leaf], NDArray[np.float64]]:
    """Leaves of the tree in angular order, and the share of the circle at which each ends.

    A parent's sector is divided among its children, so a path is a chain of nested sectors.
    """
    leaves: list[_Leaf] = []
    widths: list[float] = []
    for (department, price, materials, kinds), width in zip(
        _TREE, rng.dirichlet(np.full(len(_TREE), 12.0)), strict=True
    ):
        for kind, part in zip(kinds, rng.dirichlet(np.full(len(kinds), 12.0)), strict=True):
            name, noun, *styles = kind.split(": ")
            paths = [[department, name, style] for style in "".join(styles).split()]
            for path in paths or [[department, name]]:
                leaves.append(_Leaf(path, noun, materials.split(), float(price)))
                widths.append(width * part / max(len(paths), 1))
    return leaves, np.cumsum(widths)


def _leaf_of(config: CatalogueConfig, points: ItemPoints) -> tuple[list[_Leaf], NDArray[np.int64]]:
    leaves, ends = _sectors(np.random.default_rng([config.seed, 3]))
    leaf = np.searchsorted(ends, points.angle / (2 * np.pi), side="right")
    return leaves, np.minimum(leaf, len(leaves) - 1)


def _take(words: Sequence[str], index: NDArray[np.int64]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(index))


def padded(prefix: str, first: int, count: int, digits: int) -> pa.Array:
    """Identifiers ``prefix`` + zero-padded number, for ``count`` numbers from ``first`` on."""
    numbers = pa.array(np.arange(first, first + count)).cast(pa.string())
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(numbers, digits, "0"), "")


def item_ids(config: CatalogueConfig) -> pa.Array:
    """string[items]: the item identifiers, which say nothing of category or popularity."""
    return padded("i", 0, config.items, 6)


def item_prices(config: CatalogueConfig, points: ItemPoints) -> NDArray[np.float64]:
    """float64[items]: list prices, one fixed price an item."""
    rng = np.random.default_rng([config.seed, 4])
    leaves, leaf = _leaf_of(config, points)
    base = np.array([entry.price for entry in leaves])[leaf]
    return np.round(base * np.exp(rng.normal(0, _PRICE_SPREAD, config.items)), 2)


def items_table(config: CatalogueConfig) -> pa.Table:
    """The raw catalogue: one row an item.

    Columns: item_id string; category list<string>, a path of two or three levels; is_live bool,
    false when the item was retired before the last trading week; first_seen timestamp[us, UTC],
    no event is earlier; title string.
    """
    rng = np.random.default_rng([config.seed, 5])
    points = item_points(config)
    leaves, leaf = _leaf_of(config, points)
    materials = np.array([entry.materials for entry in leaves])
    words = materials[leaf, rng.integers(materials.shape[1], size=config.items)]
    start = np.datetime64(config.first_day, "us")
    return pa.table(
        {
            "item_id": item_ids(config),
            "category": pa.array([entry.path for entry in leaves]).take(pa.array(leaf)),
            "is_live": points.end_slot >= slot_count(config),
            "first_seen": pa.array(
                start + (points.first_slot * SLOT_DAYS).astype("timedelta64[D]"),
                pa.timestamp("us", tz="UTC"),
            ),
            "title": pc.binary_join_element_wise(
                _take(_COLOURS, rng.integers(len(_COLOURS), size=config.items)),
                pa.array(words),
                _take([entry.noun for entry in leaves], leaf),
                padded("", 0, config.items, 5),
                " ",
            ),
        }
    )
