"""The demonstration: five banks, one model, nothing special-cased."""
