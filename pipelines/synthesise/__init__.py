"""A synthetic shop of any size, drawn from a hyperbolic latent space, for demos and load tests."""

from pipelines.synthesise.catalogue import items_table
from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.events import block_interactions, interactions, shelves
from pipelines.synthesise.latent import block_count

__all__ = [
    "CatalogueConfig",
    "block_count",
    "block_interactions",
    "interactions",
    "items_table",
    "shelves",
]
