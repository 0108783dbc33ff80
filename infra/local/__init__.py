"""Azurite and a Cosmos DB endpoint as processes on this machine, for development and tests."""
