"""Between the wire's messages and the aggregator's own types; wire bounds are checked here."""
