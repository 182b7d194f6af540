"""The system of record. `tables` says what is kept, `engine` how it is reached."""
