"""What the router says about itself: metrics, the list of models, its health. It is never on the data path."""
