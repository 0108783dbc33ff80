"""The development credentials that Microsoft publishes for its storage and Cosmos DB emulators.

They are no secrets: everybody's emulator answers to them, and both are printed in the public
documentation ("Use the Azurite emulator for local Azure Storage development", "Azure Cosmos DB
emulator: authentication"). They open nothing but a service on this machine, so use them with
loopback endpoints only. This file is the only place in the repository where they stand.
"""

from __future__ import annotations

from typing import Final

AZURITE_ACCOUNT: Final = "devstoreaccount1"
AZURITE_KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
COSMOS_KEY: Final = (
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
)
