"""What a run would do, found out without doing it: nothing is sent, and no database changes."""
