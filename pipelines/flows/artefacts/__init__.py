"""What an operator sees of a run in Prefect's UI: made purely from manifests, published thinly."""
