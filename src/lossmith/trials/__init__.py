"""One training, as a value: data, models, trials and their results."""
