"""Everything that speaks to fal or knows what fal sells."""
