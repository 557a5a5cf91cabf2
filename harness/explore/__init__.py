"""Pictures before training: the data as they are labelled, split and augmented, and the network as it is built."""
