"""The names of the rules, in the order in which they apply: the vocabulary of every count."""

from __future__ import annotations

EVENT_TYPES = ("purchase", "view", "add_to_bag", "save", "rating", "return")

# Why a file as a whole is in quarantine; it has one of these and none of its rows is read.
FILE_RULES = (
    "file_of_unknown_format",
    "file_empty",
    "file_unreadable",
    "file_without_column",
)

# A row that breaks several of these carries all their names and is counted under the first.
QUARANTINE_RULES = (
    "row_unreadable",
    "user_id_missing",
    "item_id_missing",
    "user_id_too_long",
    "item_id_too_long",
    "user_id_unprintable",
    "item_id_unprintable",
    "event_type_unknown",
    "event_time_missing",
    "event_time_before_2000",
    "event_time_after_as_of",
    "quantity_not_positive",
    "quantity_not_finite",
    "price_negative",
    "price_not_finite",
    "rating_not_finite",
)

# Rows that are right but not wanted in a history. The drop rules of the configuration come first.
DROP_RULES = (
    "outside_window",
    "duplicate",
    "bot",
    "return",
    "cancelled_purchase",
    "repeated_event",
    "user_below_minimum",
    "item_below_minimum",
    "history_cap",
)
