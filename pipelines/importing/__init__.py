"""`hyperrec import`: a retailer's file, rewritten day by day into the raw blob layout."""

from pipelines.importing.job import ImportReport, fitting_mapping, import_source
from pipelines.importing.mapping import Mapping, load_mapping

__all__ = ["ImportReport", "Mapping", "fitting_mapping", "import_source", "load_mapping"]
