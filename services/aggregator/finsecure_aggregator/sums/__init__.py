"""Audited sums: members contribute encrypted integers, trustees open the totals."""
