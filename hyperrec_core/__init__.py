"""The model: geometry, losses, optimisers, training and evaluation. Knows no cloud and no Spark."""
