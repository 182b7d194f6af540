"""Plain-language findings and the overview: what is unusual, where, since when, what comes next."""
