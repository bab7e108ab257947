"""The protocol of a fair comparison: plan, trials, statistics, verdict."""
