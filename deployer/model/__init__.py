"""Values of the core: names, refs, environments, stacks, events and records, without a clock and without I/O."""
