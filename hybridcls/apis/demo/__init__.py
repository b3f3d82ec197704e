"""A web page that shows the predictions of a trained model, their reliability, and similar images."""
