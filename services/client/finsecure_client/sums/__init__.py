"""Audited sums: a member's integers go in encrypted, and only totals of enough come out."""
