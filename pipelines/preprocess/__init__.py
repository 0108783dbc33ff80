"""The Spark job that turns raw interactions into labelled histories."""
