"""The family of chains: depth, width, operations and kernels as data of one program."""
