"""What is measured at a probe."""
