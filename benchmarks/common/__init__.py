"""What several benchmarks use; itself none."""
