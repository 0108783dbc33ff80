"""A wire-level Cosmos DB endpoint on aiohttp and SQLite: test equipment and the local default.

It speaks what hyperrec's export and reader need and answers 400 to everything else, so that a
program that passes here uses nothing this endpoint merely ignores. The README next to this file
lists the differences from the service.
"""
