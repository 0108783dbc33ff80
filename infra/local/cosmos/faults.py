"""Faults on demand: error statuses, delays and dropped connections, and a request unit budget.

Set by an admin call, `PUT /_local/faults`, with a JSON body:

    {"rules": [{"operations": ["upsert"], "status": 503, "count": 3}], "ru_per_second": 2000}

A rule's keys: `operations` (names of `server.operation_name`; absent: all on items),
`container`, `status` with `substatus` and `retry_after_ms`, `delay_ms`, `drop` (true: the
connection breaks without an answer), `when` ("before" the operation, or "after": it is done and
only its answer is lost), `count` (how often, absent: always), `rate` (0 to 1) with `seed`, and
`skip` (so many matching requests pass first). `GET` tells how often each rule fired, `DELETE`
clears all.
"""

from __future__ import annotations

import math
import random
import re
import time
from typing import Any, Final

from infra.local.cosmos.errors import REQUEST_RATE_TOO_LARGE, CosmosError, bad_request

ITEM_OPERATIONS: Final = (
    "create", "upsert", "replace", "patch", "delete", "read", "batch", "query", "feed",
)  # fmt: skip
_KEYS: Final = {
    "operations", "container", "status", "substatus", "retry_after_ms", "delay_ms", "drop",
    "when", "count", "rate", "seed", "skip",
}  # fmt: skip
_NUMBERS: Final = {
    "status", "substatus", "retry_after_ms", "delay_ms", "count", "rate", "seed", "skip",
}  # fmt: skip


class Rule:
    """One fault and how often it still strikes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Reads a rule of the admin call.

        Raises:
            CosmosError: 400 for an unknown key or a rule that does nothing.
        """
        if unknown := sorted(set(settings) - _KEYS):
            raise bad_request(f"Unknown fault key {unknown[0]!r}: use some of {sorted(_KEYS)}.")
        for key in sorted(_NUMBERS & set(settings)):
            if type(settings[key]) not in (int, float) or settings[key] < 0:
                raise bad_request(f"The {key} of a fault rule must be a number from 0.")
        if not {"status", "delay_ms", "drop"} & set(settings):
            raise bad_request("A fault rule needs a status, delay_ms or drop.")
        if not isinstance(settings.get("operations", []), list):
            raise bad_request("The operations of a fault rule must be a list of names.")
        for name in settings.get("operations", []):
            if name not in ITEM_OPERATIONS and not re.fullmatch(r"[A-Z]+ \w+", str(name)):
                raise bad_request(f"No operation has the name {name!r}: see cosmos/faults.py.")
        if settings.get("when", "before") not in ("before", "after"):
            raise bad_request("A fault strikes when: before or after.")
        self.settings = settings
        self.operations = tuple(settings.get("operations", ITEM_OPERATIONS))
        self.container: str | None = settings.get("container")
        self.after = settings.get("when") == "after"
        self.delay: float = settings.get("delay_ms", 0) / 1000
        self.drop = bool(settings.get("drop"))
        self.left: float = settings.get("count", math.inf)
        self.skip: int = settings.get("skip", 0)
        self.fired = 0
        # A fault plan must repeat exactly; nothing here is a secret.
        self._random = random.Random(settings.get("seed", 0))  # noqa: S311

    def strikes(self, operation: str, container: str | None) -> bool:
        """Whether this request gets the fault; counts it."""
        if operation not in self.operations or self.container not in (None, container):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left <= 0 or self._random.random() >= self.settings.get("rate", 1.0):
            return False
        self.left -= 1
        self.fired += 1
        return True

    def error(self) -> CosmosError | None:
        """The answer that replaces the real one; None when the rule only delays or drops."""
        if "status" not in self.settings:
            return None
        headers = {}
        if "retry_after_ms" in self.settings:
            headers["x-ms-retry-after-ms"] = str(self.settings["retry_after_ms"])
        return CosmosError(
            int(self.settings["status"]),
            "Injected fault.",
            substatus=int(self.settings.get("substatus", 0)),
            headers=headers,
        )


class Budget:
    """Request units a second, as provisioned throughput: one second's worth may be saved up.

    A request passes while anything is left and is charged afterwards, so the budget can go into
    debt by one request and the next ones wait for it, as in the service.
    """

    def __init__(self, ru_per_second: float) -> None:
        if type(ru_per_second) not in (int, float) or not ru_per_second > 0:
            raise bad_request("ru_per_second must be a positive number.")
        self.rate = ru_per_second
        self._left = ru_per_second
        self._at = time.monotonic()
        self.throttled = 0

    def check(self) -> None:
        """Refuses with 429 and the time to wait while the budget is spent."""
        now = time.monotonic()
        self._left = min(self.rate, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left > 0:
            return
        self.throttled += 1
        wait = max(1, math.ceil(-self._left / self.rate * 1000))
        raise CosmosError(
            429,
            "Request rate is large. More Request Units may be needed, so no changes were made.",
            substatus=REQUEST_RATE_TOO_LARGE,
            headers={"x-ms-retry-after-ms": str(wait)},
        )

    def charge(self, units: float) -> None:
        """Takes the charge of a request that passed."""
        self._left -= units


class Faults:
    """All rules and the budget in force."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.budget: Budget | None = None

    def configure(self, body: Any) -> None:
        """Replaces everything by what an admin call says."""
        if not isinstance(body, dict) or set(body) - {"rules", "ru_per_second"}:
            raise bad_request("Send an object with rules (a list) and ru_per_second.")
        sent = body.get("rules", [])
        if not isinstance(sent, list) or not all(isinstance(each, dict) for each in sent):
            raise bad_request("The rules of the faults must be a list of objects.")
        rules = [Rule(settings) for settings in sent]
        units = body.get("ru_per_second")
        self.budget = Budget(units) if units is not None else None
        self.rules = rules

    def state(self) -> dict[str, Any]:
        """What is in force and how often it struck."""
        return {
            "rules": [rule.settings | {"fired": rule.fired} for rule in self.rules],
            "ru_per_second": self.budget.rate if self.budget else None,
            "throttled": self.budget.throttled if self.budget else 0,
        }

    def choose(self, operation: str, container: str | None) -> Rule | None:
        """The first rule that strikes this request."""
        for rule in self.rules:
            if rule.strikes(operation, container):
                return rule
        return None
