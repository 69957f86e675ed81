"""Predictions and the decisions taken on them: bundles, serving processes, what decisions earned."""
