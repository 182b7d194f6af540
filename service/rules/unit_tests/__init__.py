"""Unit tests of rules and expressions, in the files that promtool reads."""
