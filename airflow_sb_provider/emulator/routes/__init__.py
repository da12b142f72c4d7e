"""The API's routes, one module per type of resource."""
