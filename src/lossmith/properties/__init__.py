"""What a loss is: its shape, scale, convexity, optimum, robustness and numbers, as a certificate."""
