"""The networks, and the one small protocol by which the editor knows them."""
