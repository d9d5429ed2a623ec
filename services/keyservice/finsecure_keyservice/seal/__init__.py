"""A key service whose keys open only with a threshold of operators' shares."""
