"""A mapping: which columns of a retailer's file mean what.

A mapping is a small TOML file. `hyperrec` ships some (`pipelines/mappings/`); a retailer writes
its own and names its path. ::

    files = ["orders*.csv"]        # in a folder: the first pattern that finds a file; default all
    optional = ["price", "title"]  # what a file may lack; anything else named here must be there

    [columns]                      # ours = theirs; a list names alternatives, the first one counts
    user_id = ["customer_id", "CustomerID"]
    item_id = "sku"
    event_time = "ordered_at"
    order = "line"                 # order within a user: breaks ties of time, or stands in for it
    price = "unit_price"           # also event_type, quantity, rating, market

    [event_time]
    unit = "auto"                  # numbers: seconds, milliseconds, or by magnitude
    format = "%d/%m/%Y %H:%M"      # texts: strptime's notation; by default ISO 8601

    [event_type]
    default = "purchase"           # for rows that no rule and no event_type column decides
    [[event_type.when]]            # the first rule that matches decides
    column = "invoice"
    matches = "^C"                 # regular expression (RE2), found anywhere in the text
    is = "return"

    [catalogue]
    title = "description"          # the most frequent text of an item
    category = ["group", "class"]  # a path, outermost first: columns, or one column of lists
    file = "products.parquet"      # beside the source, when the rows do not say it themselves;
                                   # its items are named by the item_id of [columns]
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import UsageError

SHIPPED = Path(__file__).resolve().parent.parent / "mappings"

EventType = Literal["purchase", "view", "add_to_bag", "save", "rating", "return"]
Optional = Literal[
    "event_type", "quantity", "price", "rating", "market", "order",
    "catalogue", "title", "category", "is_live",
]  # fmt: skip


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
"""A column's name, or alternatives of which the first that a file has counts."""


def _regular_expression(value: str) -> str:
    try:
        pc.match_substring_regex(pa.array([""]), value)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{value!r} is not a regular expression of RE2") from error
    return value


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Table):
    """Names of the columns that hold an interaction."""

    user_id: Names
    item_id: Names
    event_time: Names | None = None
    order: Names | None = Field(
        default=None, description="whole number from 0, the order within a user"
    )
    event_type: Names | None = None
    quantity: Names | None = None
    price: Names | None = None
    rating: Names | None = None
    market: Names | None = None

    @model_validator(mode="after")
    def _has_a_time(self) -> Columns:
        if self.event_time is None and self.order is None:
            raise ValueError("event_time is needed, or order where the file has no times")
        return self


class EventTime(_Table):
    """How times are written."""

    unit: Literal["auto", "seconds", "milliseconds"] = Field(
        default="auto", description="of numbers since 1970; auto goes by their magnitude"
    )
    format: str | None = Field(default=None, description="of texts; by default ISO 8601")


class When(_Table):
    """A rule: rows whose column matches have this event type."""

    column: Names
    matches: Annotated[str, BeforeValidator(_regular_expression)]
    becomes: EventType = Field(alias="is")


class EventTypes(_Table):
    """How a row's event type is found: the rules, the event_type column, the default."""

    default: EventType = "purchase"
    when: tuple[When, ...] = ()


class CatalogueColumns(_Table):
    """Names of the columns that describe an item, in the rows or in a file beside them."""

    file: str | None = Field(default=None, description="a file beside the source")
    title: Names | None = None
    category: Names | None = Field(default=None, description="a path, not alternatives")
    is_live: Names | None = None


class Mapping(_Table):
    """Which columns of a retailer's file mean what; see the module for the notation."""

    files: Names = ("*",)
    optional: frozenset[Optional] = frozenset()
    columns: Columns
    event_time: EventTime = EventTime()
    event_type: EventTypes = EventTypes()
    catalogue: CatalogueColumns = CatalogueColumns()


def mapping_names() -> list[str]:
    """Names of the mappings that hyperrec ships."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def load_mapping(name_or_path: str) -> Mapping:
    """Read a mapping that hyperrec ships, by name, or any other, by the path of its TOML file.

    Raises:
        UsageError: there is none of that name or path, or it breaks the notation.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        names = mapping_names()
        if name_or_path not in names:
            close = difflib.get_close_matches(name_or_path, names, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(
                f"There is no mapping named {name_or_path}{meant}: name one of "
                f"{', '.join(names)}, or the path of a .toml file."
            )
        path = SHIPPED / f"{name_or_path}.toml"
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(
            f"Cannot read the mapping {path}: {error.strerror}; check the path."
        ) from error
    except ValidationError as error:
        raise UsageError(f"The mapping {path} is not valid: {_complaint(error)}.") from error
    except ValueError as error:
        raise UsageError(f"The mapping {path} is not a TOML file: {error}.") from error


def _complaint(error: ValidationError) -> str:
    """The first thing wrong, with the place where it stands."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {message[:1].lower()}{message[1:]}{more}"
