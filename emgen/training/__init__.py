"""Training of networks: recipes, tasks, patches, the loop, and fine-tuning to a volume."""
