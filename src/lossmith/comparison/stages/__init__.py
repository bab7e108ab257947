"""The stages of a comparison: each plans trials from the results before it, and reads their results."""
