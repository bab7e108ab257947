"""Discovery of losses by genetic programming over formulas: variation, filters, selection, an honest choice."""
