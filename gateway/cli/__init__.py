"""What a person types: the only place that prints. One file per noun."""
