"""From the configuration to cells, and from cells to the stacks and shards that train them."""
