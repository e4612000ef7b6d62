"""The commands `0trust …`: thin faces over the components."""
