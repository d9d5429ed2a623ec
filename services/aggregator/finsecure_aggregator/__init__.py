"""The aggregator: rounds of secure aggregation, and the global models that they make."""
