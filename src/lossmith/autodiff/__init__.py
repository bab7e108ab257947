"""The model as a function of its parameters."""
