"""Examples: the one record every question, training item and benchmark row becomes."""
