"""The process that runs both stages on Faust: the only package that knows Faust."""
