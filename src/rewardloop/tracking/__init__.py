"""MLflow: runs, the registry, and the history of promotions."""
