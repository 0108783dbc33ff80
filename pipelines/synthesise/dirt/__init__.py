"""Dirt: rows and files that a nightly feed should not have and at times does, planted by choice.

Everything planted is added to the shop, nothing of the shop is spoilt: what preprocess must count
under each rule is what the ledger says, and what it must keep is the shop.
"""
