"""The four stages of a run, each runnable alone; each finishes with a manifest."""
