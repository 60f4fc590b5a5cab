"""How anything trains: many candidates in the slots of a compiled program, or one module at a time. No space is named here."""
