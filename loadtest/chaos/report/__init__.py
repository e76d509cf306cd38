"""What came of experiments: kept as JSON, told as tables, drawn as a page."""
