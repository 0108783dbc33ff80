"""Cosmos DB, out and in: publish item vectors as one version, and read them back.

Needs numpy and azure-cosmos. Start at `serving_export.publish` to write and at
`serving_export.reader` to read.
"""
