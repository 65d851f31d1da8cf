"""What only development needs; never in a cloud zip."""
