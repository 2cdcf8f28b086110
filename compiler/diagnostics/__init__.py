"""What a user is told: the only place of the compiler that holds prose."""
