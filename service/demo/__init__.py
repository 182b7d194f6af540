"""The story that `offbeat demo` plays, on real series."""
