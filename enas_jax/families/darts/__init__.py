"""The family of DARTS networks: operations and inputs of both cells as data of one program."""
