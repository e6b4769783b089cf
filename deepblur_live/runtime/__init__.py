"""Running the networks: model packs, executors, the pipeline of one frame."""
