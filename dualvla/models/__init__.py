"""The model: a vision-language model, action queries and a flow-matching action expert."""
