"""What is run and not imported: trainings, the demo, the papers' tables, benchmarks."""
