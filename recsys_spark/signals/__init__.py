"""What events say: dense index, weights, interactions, exposures, and who may see what."""
