"""What runs beside the stores to make loss measurable."""
