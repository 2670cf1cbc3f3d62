"""Pages a person looks at: the evidence of one answer, the report over many. Self-contained, no network."""
