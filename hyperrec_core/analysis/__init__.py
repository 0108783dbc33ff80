"""What a fitted model looks like: pictures of the items on the Poincaré disc."""
