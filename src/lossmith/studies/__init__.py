"""The papers' experiments with the controls the papers lacked."""
