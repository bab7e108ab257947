"""What is shown of a search for losses: while it runs, at its end, and as a page."""
