"""The query storey: transformers whose queries are matched with objects one to one."""
