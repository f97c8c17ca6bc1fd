"""What claims about trained models are measured with: small data, plain recipes, and contests over seeds."""
