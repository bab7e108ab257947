"""Lossmith's losses in other libraries' training loops, and its results in other tools."""
