"""A batch of a retailer's rows as a batch of the raw contract: one row in, one row out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import convert
from pipelines.errors import UsageError
from pipelines.importing.binding import Binding
from pipelines.importing.mapping import Mapping

RAW_SCHEMA: Final = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("event_time", convert.MICROSECONDS),
        ("quantity", pa.int64()),
        ("price", pa.float64()),
        ("rating", pa.float64()),
        ("market", pa.string()),
    ]
)

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND

# Where times made from an order begin: the first day that the quality rules accept.
FIRST_SYNTHETIC: Final = 946_684_800 * SECOND  # 2000-01-01

# An order within a user stays below this; larger numbers count something else (lines of a file).
ORDERS: Final = 86_400


class Rows:
    """Turns batches into raw rows and counts what could not be read.

    A mapping may name a column `order`, the order within a user. With times in the source, a row
    of order p is moved by p seconds: rows of one user and one second come to lie in order on
    different seconds, and as the order follows the time no two rows change places. Without any
    time in the source, a row of order p happened p days after 2000-01-01.

    Attributes:
        unread: by raw column, how many values were given and yet could not be read.
    """

    def __init__(self, mapping: Mapping, *, times_from_order: bool) -> None:
        self._mapping = mapping
        self._times_from_order = times_from_order
        self.unread: Counter[str] = Counter()

    def convert(self, batch: pa.RecordBatch, binding: Binding, *, untyped: bool) -> pa.RecordBatch:
        """The batch as raw rows.

        Args:
            batch: the file's columns that `binding` needs.
            binding: which is which.
            untyped: whether ids may be numbers that a text format wrote (see `convert.text`).

        Returns:
            As many rows, in the same order, of `RAW_SCHEMA`.

        Raises:
            UsageError: the order column holds what is no order within a user.
        """

        def read(role: str, as_type: Callable[[pa.Array], pa.Array]) -> pa.Array:
            if role not in binding.columns:
                kind = RAW_SCHEMA.field(role).type if role in RAW_SCHEMA.names else pa.int64()
                return pa.nulls(len(batch), kind)
            column = batch.column(binding.columns[role])
            values = as_type(column)
            lost = pc.sum(pc.and_(convert.given(column), values.is_null())).as_py()
            if lost:
                self.unread[role] += lost
            return values

        ids = partial(convert.text, untyped=untyped)
        as_moment = partial(
            convert.moment,
            unit=self._mapping.event_time.unit,
            notation=self._mapping.event_time.format,
        )
        event_type = self._event_type(batch, binding, read("event_type", convert.text))
        quantity = read("quantity", convert.whole)
        returned = pc.equal(event_type, "return")
        order = read("order", convert.whole)
        columns = {
            "user_id": read("user_id", ids),
            "item_id": read("item_id", ids),
            "event_type": event_type,
            "event_time": self._in_order(read("event_time", as_moment), order, binding),
            # Shops book a return as a negative quantity; the contract says it by the event type.
            "quantity": pc.if_else(returned, pc.abs(quantity), quantity),
            "price": read("price", convert.number),
            "rating": read("rating", convert.number),
            "market": read("market", convert.text),
        }
        return pa.RecordBatch.from_pydict(columns, RAW_SCHEMA)

    def _event_type(self, batch: pa.RecordBatch, binding: Binding, stated: pa.Array) -> pa.Array:
        settings = self._mapping.event_type
        result = pc.fill_null(convert.blank_as_null(stated), settings.default)
        # Backwards, so that the first rule has the last word.
        for rule, name in reversed(list(zip(settings.when, binding.rules, strict=True))):
            matches = pc.match_substring_regex(convert.text(batch.column(name)), rule.matches)
            result = pc.if_else(pc.fill_null(matches, False), rule.becomes, result)
        return result

    def _in_order(self, times: pa.Array, order: pa.Array, binding: Binding) -> pa.Array:
        if order.null_count == len(order):
            return times
        bounds = pc.min_max(order).as_py()
        if bounds["min"] < 0 or bounds["max"] >= ORDERS:
            outside = bounds["min"] if bounds["min"] < 0 else bounds["max"]
            raise UsageError(
                f"The column {binding.columns['order']} holds {outside}, which is no order within "
                f"a user (0 to {ORDERS - 1}): name another column under [columns] order of the "
                "mapping, or none."
            )
        if self._times_from_order:
            microseconds = pc.add(FIRST_SYNTHETIC, pc.multiply(order, DAY))
        else:
            shift = pc.multiply(pc.fill_null(order, 0), SECOND)
            microseconds = pc.add(times.cast(pa.int64()), shift)
        return microseconds.cast(convert.MICROSECONDS)
