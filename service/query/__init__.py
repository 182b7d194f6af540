"""Reading: selectors, and samples from the chunks."""
